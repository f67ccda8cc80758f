"""`ConstantRate`: fits frames with any timestamps into an output of constant frame rate."""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import OutputError

if TYPE_CHECKING:
    from .input_file import InputFile

log = logging.getLogger(__name__)

# Containers that store a frame rate instead of a timestamp for each frame.
_PROGRAM_STREAMS = {"mpeg", "vob", "dvd", "svcd", "vcd"}
CONSTANT_RATE = {"avi", "mxf", "mxf_opatom", "mxf_d10", "yuv4mpegpipe", *_PROGRAM_STREAMS}
CONSTANT_RATE |= {
    "h264", "hevc", "m4v", "mpeg1video", "mpeg2video", "rawvideo", "obu", "avs2", "avs3", "vvc", "vc1", "dnxhd",
}  # fmt: skip
# Containers that store no presentation order either, lose the times of the last frames, or time only some frames.
NO_B_FRAMES = {"asf", "avi", "mxf", "mxf_opatom", "mxf_d10", *_PROGRAM_STREAMS}
# The frame rates of MPEG-2 (table 6-4), which MXF adopts.
_RATES = [
    Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(50),
    Fraction(60000, 1001), Fraction(60),
]  # fmt: skip
_UNHEARD = Fraction(45, 1000)  # seconds of delay behind the sound that nobody notices (ITU-R BT.1359-1)
_FASTEST = 240  # fps; a higher rate is the container's clock, not a frame rate


def constant_rate(source: InputFile, *, standard: bool) -> Fraction:
    """Return the rate at which a constant-rate output shows the source's frames nearest to their times.

    That is the lowest rate with a place for each frame, if one is known, or else the average rate.

    Args:
        source: The open input.
        standard: Take a rate of MPEG-2: the nearest one that is not lower, or 60.
    """
    rate = source.frame_rate or Fraction(25)
    guessed = source.stream.guessed_rate
    if guessed:
        lowest = Fraction(guessed.numerator, guessed.denominator)
        clock = source.container.format.name == "avi" and rate % lowest == 0  # a clock, not the frame rate
        rate = lowest if clock or rate < lowest <= _FASTEST else rate
    if not standard:
        return rate
    near = [known for known in _RATES if abs(known - rate) < rate / 2000]  # 23.98 is 24000/1001
    return near[0] if near else next((known for known in _RATES if known >= rate), _RATES[-1])


class ConstantRate:
    """Computes how often each frame must be written so that all keep their times to within half a frame.

    Args:
        output: Name of the output, for messages.
        rate: Frames per second of the output.
        strict: Raise where a frame would be repeated or dropped.
    """

    def __init__(self, output: str, rate: Fraction, *, strict: bool) -> None:
        self.repeated = 0
        self.dropped = 0
        self._output = output
        self._rate = rate
        self._strict = strict
        self._next = 0
        self._first: Fraction | None = None  # time of the first frame
        self._place = 0  # its place in the output
        self._said = False

    def repeats(self, time: Fraction) -> int:
        """Number of repeats before the frame at ``time`` seconds, of the previous or first frame; −1 to drop it.

        Raises:
            OutputError: with ``strict``, if the result is not 0.
        """
        if self._first is None:
            # Nobody notices sound that begins a little earlier, as AAC does.
            self._first = time
            place = max(0, math.floor(time * self._rate + Fraction(1, 2)))
            if place > 0 and time <= _UNHEARD:
                place = 0
                what = "%s: frames come %.3f s earlier beside their sound, so that none is repeated before the first"
                log.info(what, self._output, float(time))
            self._place = place
        else:
            place = self._place + math.floor((time - self._first) * self._rate + Fraction(1, 2))
        missing = place - self._next
        if missing < 0:
            self.dropped += 1
            self._say(f"the frame at {float(time):.3f} s has no place of its own and is dropped")
            return -1
        if missing:
            self.repeated += missing
            what = "the frame before" if self._next else "the first frame"
            self._say(f"{what} is written {missing} more time{'s' * (missing > 1)} up to {float(time):.3f} s")
        self._next = place + 1
        return missing

    def finish(self) -> None:
        """Log how many frames were repeated and dropped, if more than the first, which was logged."""
        if self.repeated + self.dropped > 1:
            log.warning(
                "%s: %d frames repeated and %d dropped to keep the times", self._output, self.repeated, self.dropped
            )

    def _say(self, what: str) -> None:
        text = f"{self._output} holds {float(self._rate):.6g} frames per second and no other times: {what}"
        if self._strict:
            raise OutputError(text)
        if not self._said:
            self._said = True
            log.warning("%s", text)
