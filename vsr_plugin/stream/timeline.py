"""`Timeline`: converts the timestamps of the demuxer to those of the output, for all streams of a file.

It stores where the output begins and ends, what is subtracted from every timestamp, and the jumps of the file's clock.
All streams are shifted by the same amount, so that sound and subtitles stay in sync with the frames.
"""

from __future__ import annotations

import itertools
import logging
import statistics
from bisect import bisect_right
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import av
    from av.packet import Packet

log = logging.getLogger(__name__)

_BACK = Fraction(1, 10)  # seconds that a decoding time may go back without being a jump, as in FFmpeg
_UNEVEN = 10  # of two parts with equally many bytes, one may last this many times as long: it may be still frames
_FORWARD = 10  # seconds that the clock may leap ahead without being a jump, in formats that allow jumps, as in FFmpeg


class Timeline:
    """The times of a file's packets and frames.

    Args:
        name: Name of the file, for messages.
        video: Index of the stream that is enlarged: others follow it where the clock jumps.
        may_leap: Whether a leap ahead of the clock is a jump, too, as in formats that are cut and joined (MPEG-TS).
        quiet: Log no warnings, because the file is read again.

    Attributes:
        start: Where the output begins, in seconds of the file's clock; None for its beginning.
        end: Where it ends; None for the end of the file.
        settled: Whether ``end`` is final: it is not while a given number of frames is still being counted.
        shift: Seconds subtracted from every timestamp of the file.
        origin: Further seconds subtracted for an output that begins at 0.
    """

    def __init__(self, name: str, video: int, *, may_leap: bool, quiet: bool = False) -> None:
        self.start: Fraction | None = None
        self.end: Fraction | None = None
        self.settled = True
        self.shift = Fraction(0)
        self.origin = Fraction(0)
        self.may_leap = may_leap
        self._name = name
        self._said = logging.DEBUG if quiet else logging.WARNING
        self._video = video
        self._offsets = [Fraction(0)]  # of each part between two jumps, in seconds
        self._parts: dict[int, int] = {}  # stream → the part that it is in
        self._last: dict[int, tuple[Fraction, Fraction]] = {}  # stream → (decoding time, duration) of its last packet
        self._latest: Fraction | None = None
        self._led = False  # whether a frame has set where the last part begins

    @property
    def jumps(self) -> int:
        """How often the file's clock has jumped so far."""
        return len(self._offsets) - 1

    @property
    def taken(self) -> Fraction:
        """Seconds between the clock of the file and that of the output."""
        return self.shift + self.origin

    def place(self, packet: Packet[Any], *, sparse: bool = False) -> bool:
        """Change a packet's timestamps so that jumps of the clock are removed; call it in the order of the file.

        Args:
            packet: The packet as demuxed; its timestamps are changed.
            sparse: Whether it is a packet of subtitles or data, where a gap is no sign of a jump.

        Returns:
            Whether the clock jumped before it.
        """
        stamp = packet.dts
        if stamp is None and packet.stream_index != self._video:
            stamp = packet.pts
        tick = Fraction(packet.time_base.numerator, packet.time_base.denominator)
        index = packet.stream_index
        before = self._parts.get(index)
        if sparse:
            self._parts[index] = self.jumps
        elif stamp is not None:
            self._follow(index, stamp * tick, (packet.duration or 0) * tick)
        offset = round(self._offsets[self._parts.get(index, 0)] / tick)
        if offset:
            packet.pts = None if packet.pts is None else packet.pts + offset
            packet.dts = None if packet.dts is None else packet.dts + offset
        return before is not None and before != self._parts.get(index)

    def forget(self) -> None:
        """Forget the jumps after a seek: the clock may be anywhere."""
        self._offsets = [Fraction(0)]
        self._parts.clear()
        self._last.clear()
        self._latest = None

    def _follow(self, index: int, time: Fraction, duration: Fraction) -> None:
        part = self._parts.setdefault(index, self.jumps)
        last = self._last.get(index)
        if last is not None and self._jumps(time, last[0], self._offsets[part]):
            expected = last[0] + self._offsets[part] + last[1]
            if part == self.jumps:
                self._offsets.append(expected - time)
                self._led = index == self._video
                log.log(
                    self._said,
                    "%s: its clock jumps from %.3f s to %.3f s: what follows goes on without a gap",
                    self._name, last[0], time,
                )  # fmt: skip
            elif index == self._video and not self._led:
                self._offsets[part + 1] = max(self._offsets[part + 1], expected - time)
                self._led = True
            part += 1
            self._parts[index] = part
        if last is not None and not duration and time > last[0]:
            duration = last[1] or time - last[0]
        self._last[index] = time, duration
        here = time + self._offsets[part]
        self._latest = here if self._latest is None else max(self._latest, here)

    def _jumps(self, time: Fraction, last: Fraction, offset: Fraction) -> bool:
        if time < last - _BACK:
            return True
        return self.may_leap and self._latest is not None and time + offset > self._latest + _FORWARD


def leaps(times: Sequence[Fraction]) -> bool:
    """Whether the clock jumps between ``times``, in seconds, taken at places evenly spread over a file, in order."""
    steps = [after - before for before, after in itertools.pairwise(times)]
    usual = statistics.median(steps) if steps else 0
    return any(step < -_BACK or step > _FORWARD + _UNEVEN * usual for step in steps)


class FrameClock:
    """Gives decoded frames, in presentation order, increasing timestamps.

    A frame keeps the timestamp of its packet. If the container has none (AVI), or one that goes back, frames take the
    decoding times of the packets in order: without reordering, these are the timestamps; with reordering, the
    difference of the previous frame is added. FFmpeg's `guess_correct_pts` works alike.

    Args:
        name: Name of the file, for messages.
        time_base: Time base of the timestamps, in seconds.
        step: Usual duration of a frame in ticks.
        delay: Maximum number of packets that the decoder needs before it returns a frame; None if unknown.
        stated: Whether the container can store presentation times; FFmpeg guesses those of some that cannot.
    """

    def __init__(
        self, name: str, time_base: Fraction, step: int, delay: int | None = None, *, stated: bool = True
    ) -> None:
        self._name = name
        self._time_base = time_base
        self._step = step
        self._decoding: deque[int] = deque()  # decoding times of packets whose frames have not come out yet
        self._states_pts = None if stated else False
        self._ahead = 0  # ticks from the decoding time to the time of the last frame
        self._delay = delay
        self._last: int | None = None
        self._following = 0
        self._said = False

    def feed(self, packet: Packet[Any]) -> None:
        """Record a packet that is sent to the decoder."""
        if not packet.size or packet.dts is None:
            return
        if self._states_pts is None:
            self._states_pts = packet.pts is not None
        self._decoding.append(packet.dts)

    def give_up(self) -> None:
        """Forget the last recorded packet: it has no frame."""
        if self._decoding:
            self._decoding.pop()

    def stamp(self, frame: av.VideoFrame) -> None:
        """Set ``frame.pts`` and ``frame.duration`` in ticks."""
        decoding = self._decoding_time(frame.dts)
        pts = frame.pts if self._states_pts is not False else None
        if pts is not None and (self._last is None or pts > self._last):
            if decoding is not None:
                self._ahead = pts - decoding
        else:
            stated, pts = pts, self._following if decoding is None else decoding + self._ahead
            if self._last is not None and pts <= self._last:
                pts = self._last + 1 if stated is not None else self._following
            if stated is not None and not self._said:
                self._said = True
                log.warning(
                    "%s: the timestamps do not rise at %.3f s: frames are shown in the order they are decoded for",
                    self._name, stated * self._time_base,
                )  # fmt: skip
        frame.pts = self._last = pts
        self._following = pts + (frame.duration or self._step)

    def _decoding_time(self, latest: int | None) -> int | None:
        """The decoding time for the next frame; those of packets without a frame are skipped."""
        if not self._decoding:
            return None
        if latest is not None:
            delay = bisect_right(self._decoding, latest)
            if delay:
                self._delay = delay if self._delay is None else min(delay, self._delay)
                for _ in range(delay - self._delay):
                    self._decoding.popleft()
        return self._decoding.popleft()


def spread(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Spread frames with the same timestamp evenly up to the next timestamp.

    This is for rates near that of the container's clock: at 2000 fps, two frames share each millisecond of Matroska.
    """
    same: list[av.VideoFrame] = []
    gap = 1
    for frame in frames:
        if same and frame.pts is not None and same[0].pts is not None and frame.pts != same[0].pts:
            gap = frame.pts - same[0].pts
            yield from _spaced(same, gap)
            same.clear()
        same.append(frame)
    yield from _spaced(same, gap)


def _spaced(same: list[av.VideoFrame], gap: int) -> Iterator[av.VideoFrame]:
    for index, frame in enumerate(same):
        if frame.pts is not None:
            frame.pts += index * gap // len(same)
        yield frame
