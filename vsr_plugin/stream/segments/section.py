"""`Section`: the frames of consecutive segments. `Copied`: the packets of the other streams, without decoding."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import av

from ..decode import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from fractions import Fraction

    from ...frames import Frame
    from ..damage import Tally
    from . import Film, Segment

_AHEAD = 2  # seconds that the other streams are read ahead: as far as their packets may lie behind those of their time


def digest(frame: Frame) -> str:
    """A checksum of a frame's samples."""
    found = hashlib.sha256()
    for plane in frame.planes:
        found.update(plane.contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


class Section(Source):
    """The frames of consecutive segments, as if all before them had been decoded, too.

    Args:
        film: What they are of.
        segments: One after the other.
        cancelled: As for `Source`.

    Attributes:
        seams: Timestamp of a seam → checksum of the first frame there, as it was decoded. The seam at the end is among
            them, unless that is the film's.
        damages: Number of a segment → places in it that do not decode cleanly, so far.
    """

    def __init__(self, film: Film, segments: Sequence[Segment], cancelled: Callable[[], bool] = lambda: False) -> None:
        plan = film.plan
        selection = replace(film.selection, start=None, duration=None, frames=None)
        self.seams: dict[int, str] = {}
        self.damages: Counter[int] = Counter()
        self._segments = segments
        self._firsts = [segment.first for segment in segments]
        super().__init__(film.path, selection, strict=film.strict, keep_packets=plan.every_stream, cancelled=cancelled)
        opening = plan.opening
        self.first = replace(opening.first)
        self.width, self.height = opening.frame.width, opening.frame.height
        self.timeline.shift = plan.shift * plan.time_base
        self._shift, self._seek = plan.shift, plan.seek

    def close(self) -> None:
        """Close the file; harmless when called again."""
        super().close()
        self.release()

    def _read(self) -> Generator[Frame]:
        first, end = self._segments[0].first, self._segments[-1].end
        due = self._firsts + ([] if end is None else [end])
        try:
            if (entry := self._segments[0].entry) is not None:
                self._reader.enter(entry, seek=self._seek)
            for picture in self._decoded():
                if picture.pts is None or picture.pts < first:
                    continue
                frame = self._frame(picture)
                reached = bisect_right(due, frame.pts)
                if reached:
                    checksum = digest(frame)
                    self.seams.update((seam, checksum) for seam in due[:reached])
                    del due[:reached]
                if end is not None and frame.pts >= end:
                    return
                yield replace(frame, pts=frame.pts - self._shift)
        finally:
            self._let_go()

    def _new_tally(self) -> Any:
        return _NoTally()

    def _packets(self, _: Tally) -> Iterator[Any]:
        for packet in self._reader.packets():
            while self.queue is not None and self.queue.get() is not None:
                pass
            if packet.size or packet.dts is None:
                yield packet
        yield av.Packet()

    def _unread(self, _: str) -> None:
        """Is told when the file is read as a whole."""

    def damage(self, what: str, pts: int | None = None) -> None:
        """What lies in these segments; what the file itself lacks is told when it is read as a whole."""
        first, end = self._segments[0].first, self._segments[-1].end
        if pts is not None and pts >= first and (end is None or pts < end):
            super().damage(what, pts)
            self.damages[self._segments[bisect_right(self._firsts, pts) - 1].number] += 1


class _NoTally:
    """Stands for `Tally` where a part of a file is read: what a file lacks is told when it is read as a whole."""

    def packet(self, _: Any) -> None:
        """Nothing is lost."""

    def frame(self, _: int | None) -> None:
        """Nothing is noted."""

    def close(self) -> None:
        """Nothing is open."""


class Copied(Source):
    """A film whose frames come from parts: its file is read for the packets of the other streams.

    Args:
        film: Which.
    """

    def __init__(self, film: Film) -> None:
        super().__init__(film.path, film.selection, strict=film.strict, keep_packets=True)
        plan = film.plan
        self.width, self.height = plan.opening.frame.width, plan.opening.frame.height
        self.timeline.shift = plan.shift * plan.time_base
        self._keep_length()
        self._plan = plan
        self._rest: Iterator[Any] | None = None
        self._shown: list[int] = []  # timestamps of frames that have not been noted, a heap
        self._reached: int | None = None  # decoding time of the last video packet
        self._ahead = round(_AHEAD / plan.time_base)

    def settle(self) -> None:
        """Let the film end where the plan says."""
        end = self._plan.segments[-1].end
        if end is not None and self._limit is not None:
            self.timeline.end = end * self.time_base
        self.timeline.settled = True

    def follow(self, packet: Any) -> None:
        """Read on until the other streams' packets that come before an encoded one, with times of the output, are read.

        Frames are noted meanwhile: what the file says it holds beside them is lost.
        """
        if self._rest is None:
            if self.timeline.start is not None:
                self._reader.seek(self.timeline.start)
            self._tally = self._new_tally()
            self._rest = self._packets(self._tally)
        heappush(self._shown, packet.pts + self._plan.shift)
        time = packet.dts + self._plan.shift + self._ahead
        while self._reached is None or self._reached < time:
            read = next(self._rest, None)
            if read is None:
                break
            stamp = read.pts if read.dts is None else read.dts
            self._reached = self._reached if stamp is None else stamp
        self._note(packet.dts + self._plan.shift)

    def _note(self, until: int | None) -> None:
        while self._tally is not None and self._shown and (until is None or self._shown[0] < until):
            self._tally.frame(heappop(self._shown))

    def finish(self, frames: int, end: Fraction) -> None:
        """Read what is left, and count what is lost.

        Args:
            frames: How many there are in the output.
            end: Where the last of them ends, in seconds of the output.
        """
        timeline = self.timeline
        reached = end + timeline.shift
        if timeline.end is None:
            for _ in self._rest or ():
                pass
        else:
            self._reader.read_rest(timeline.end)
        self._note(None)
        whole = frames != self._limit and (timeline.end is None or reached < timeline.end)
        self._account(reached, None if whole else timeline.end or reached)
        if self._tally is not None:
            self._tally.close()
