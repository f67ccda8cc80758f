"""`OutputClock`: converts the frames' timestamps to the encoder's, and its packets' to those of the output."""

from __future__ import annotations

import logging
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError

from ..errors import InputError, OutputError
from .encoder import counts_frames
from .input import open_input, seconds
from .rate import CONSTANT_RATE, ConstantRate, constant_rate

if TYPE_CHECKING:
    from pathlib import Path

    import av
    from av.packet import Packet

    from ..frames import Frame
    from .input_file import InputFile

log = logging.getLogger(__name__)

_FINE = Fraction(1, 50_000)  # seconds: rounding to a tick this short is not worth a message
_NOTICED = Fraction(1, 400)  # seconds: more than a container's rounding


class OutputClock:
    """Times the frames of an output: by their own timestamps, or by counting frames of a constant rate.

    Args:
        source: The open input.
        first: Its first frame.
        codec: The encoder; some count frames, whatever the container does.
        kind: FFmpeg's name of the output's format.
        name: Name of the output, for messages.
        stills: Whether the output is images.
        strict: Raise where a frame would be repeated or dropped.

    Attributes:
        time_base: Time base of the encoder.
        ticks: Time base of the packets.
        frame_rate: Frame rate for the encoder; None if unknown.
    """

    def __init__(
        self, source: InputFile, first: Frame, codec: str, kind: str, name: str, *, stills: bool, strict: bool
    ) -> None:
        self.ticks = self.time_base = first.time_base
        self.frame_rate = source.frame_rate
        self._kind = kind
        self._name = name
        self._stills = stills
        self._strict = strict
        self._durations: dict[int, int] = {}  # pts → duration, of the frames inside the encoder
        self._times: list[int] = []  # pts of each frame, for encoders that count
        self._rounds = False
        self._rate: ConstantRate | None = None
        self._origin = Fraction(0)
        constant = kind in CONSTANT_RATE
        self._holds_times = not (constant or stills)
        self._counts = counts_frames(codec) or not self._holds_times
        self._begins = first.pts * first.time_base
        if self._counts:
            standard = (counts_frames(codec) and codec != "mpeg4") or kind.startswith("mxf")
            self.frame_rate = constant_rate(source, standard=standard)
            self.time_base = 1 / self.frame_rate
            self.ticks = first.time_base if self._holds_times else self.time_base
        if constant:
            self._rate = ConstantRate(name, 1 / self.time_base, strict=strict)
            if source.timeline.start is None:
                source.timeline.origin = source.begins - source.timeline.shift
            self._begins = self._origin = source.timeline.origin

    @property
    def count(self) -> int:
        """Number of the next frame, for encoders that count."""
        return len(self._times)

    def repeats(self, frame: Frame) -> int:
        """How often to repeat the previous frame before this one; −1 to drop this one."""
        time = frame.pts * frame.time_base
        if self._rate is not None:
            return self._rate.repeats(time - self._origin)
        if (
            self._stills
            and not self._rounds
            and abs(time - self._begins - self.count * self.time_base) > self.time_base
        ):
            self._rounds = True
            text = (
                f"{self._name}: images hold no times, and the frame at {float(time):.3f} s is not where its number says"
            )
            if self._strict:
                raise OutputError(text)
            log.warning("%s", text)
        return 0

    def stamp(self, video_frame: av.VideoFrame, frame: Frame) -> None:
        """Set the timestamp of ``video_frame`` for the encoder: that of ``frame``, or the number of the frame."""
        video_frame.pts, video_frame.duration = (self.count, 1) if self._counts else (frame.pts, frame.duration)
        video_frame.time_base = self.time_base
        self._times.append(frame.pts if self._holds_times else self.count)
        self._durations[video_frame.pts] = frame.duration if self._holds_times else 1

    def restore(self, packet: Packet[Any]) -> None:
        """Set the times of a packet from the encoder, in ``ticks``."""
        if packet.pts is not None:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
        if self._counts:
            packet.pts = None if packet.pts is None else self._time(packet.pts)
            packet.dts = None if packet.dts is None else self._time(packet.dts)
        packet.time_base = self.ticks

    def _time(self, count: int) -> int:
        """Time of the frame with this number, in ticks; for negative numbers, counted back at the constant rate."""
        if count >= 0:
            return self._times[count]
        return self._times[0] + round(count * self.time_base / self.ticks)

    def say_rounding(self, pts: int | None, time_base: Any) -> None:
        """Log once if a packet's time in ``ticks`` has to be rounded to the container's ``time_base``."""
        tick = seconds(1, time_base)
        if pts is None or self._rounds or tick <= _FINE or (pts * self.ticks / tick).denominator == 1:
            return
        self._rounds = True
        log.info("%s: times are rounded to %.3g ms, in which %s counts them", self._name, tick * 1000, self._kind)

    def finish(self, file: Path | None, index: int, ratio: Fraction | None) -> None:
        """Log repeated and dropped frames, and what the output holds in another way than intended: times, pixel shape.

        Args:
            file: The complete, closed output; None if it cannot be read back.
            index: Index of its video stream.
            ratio: Width : height of a pixel that the output is to state, or None.
        """
        if self._rate is not None:
            self._rate.finish()
        if file is None:
            return
        with suppress(FFmpegError, InputError, IndexError), open_input(file) as written:
            stream: Any = written.streams[index]
            stated = stream.sample_aspect_ratio
            if ratio is not None and stated and Fraction(stated.numerator, stated.denominator) != ratio:
                exact, rounded = (f"{one.numerator}:{one.denominator}" for one in (ratio, stated))
                log.info("%s: pixels of %s are %s, as %s rounds it", self._name, exact, rounded, self._kind)
            first = next(iter(written.demux(stream)))
            stamp = first.dts if first.pts is None else first.pts
            if stamp is None:
                return
            later = seconds(stamp, first.time_base) - self._begins
            if abs(later) > _NOTICED:
                word = "later" if later > 0 else "earlier"
                log.info("%s: all times are %.3f s %s, as %s holds them", self._name, abs(later), word, self._kind)
