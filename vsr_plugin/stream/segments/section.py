"""`Section`: the frames of consecutive segments. `Copied`: the packets of the other streams, without decoding."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from ...frames import Frame
from ..damage import Damage
from ..ffmpeg_log import Errors
from ..frame_decoder import FrameDecoder
from ..input import input_name
from ..input_file import InputFile
from .original import check_unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from fractions import Fraction

    from av import VideoFrame
    from av.packet import Packet

    from ..damage import Tally
    from . import Film, Segment
    from .parts import Seam

_TOLD = 3  # places of damage in a segment of which it is kept what they are
_AHEAD = 2  # seconds that the other streams are read ahead: as far as their packets may lie behind those of their time


def digest(frame: Frame) -> str:
    """A checksum of a frame's samples."""
    found = hashlib.sha256()
    for plane in frame.planes:
        found.update(plane.contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


class Section(Iterator[Frame]):
    """The frames of consecutive segments, as if all before them had been decoded, too.

    Args:
        film: What they are of.
        segments: One after the other.
        cancelled: As for `Source`.

    Attributes:
        file: What is read.
        seams: Timestamp of a seam → what was decoded there. The seam at the end is among them, unless that is the
            film's.
        damages: Number of a segment → places in it that do not decode cleanly, so far.
        told: Number of a segment → what was said of some of them.

    Raises:
        InputError: the input has changed since the film was planned.
    """

    def __init__(self, film: Film, segments: Sequence[Segment], cancelled: Callable[[], bool] = lambda: False) -> None:
        plan = film.plan
        selection = replace(film.selection, start=None, duration=None, frames=None)
        damage = _SegmentDamage(film, segments)
        self.file = InputFile(film.path, selection, damage, every_stream=plan.every_stream, cancelled=cancelled)
        self.file.first = replace(plan.opening.first)
        self.file.begin(plan.shift)
        self.seams: dict[int, Seam] = {}
        self.damages, self.told = damage.of_segments, damage.told
        self._segments = segments
        self._plan = plan
        self._frames = self._read()
        try:
            check_unchanged(film)
        except BaseException:
            self.close()
            raise

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Close the file; harmless when called again."""
        self._frames.close()
        self.file.close()

    def _read(self) -> Generator[Frame]:
        first, end, entry = self._segments[0].first, self._segments[-1].end, self._segments[0].entry
        due = [segment.first for segment in self._segments] + ([] if end is None else [end])
        with closing(FrameDecoder(self.file)) as decoder:
            if entry is not None:
                self.file.reader.enter(entry, seek=self._plan.seek)
            thrown: deque[VideoFrame] = deque(maxlen=2)
            before: Frame | None = None
            for decoded in decoder.frames():
                if decoded.pts is None or decoded.pts < first:
                    thrown.append(decoded)
                    continue
                frame = decoder.read(decoded)
                if before is None and len(thrown) == 2:  # a deinterlacer misses something at the first one
                    before = decoder.read(thrown[-1])
                reached = bisect_right(due, frame.pts)
                if reached:
                    seam = None if before is None else digest(before), digest(frame)
                    self.seams.update((time, seam) for time in due[:reached])
                    del due[:reached]
                if end is not None and frame.pts >= end:
                    return
                before = frame
                yield replace(frame, pts=frame.pts - self._plan.shift)


class _SegmentDamage(Damage):
    """Damage within some segments; what the file itself lacks is told when it is read as a whole.

    Attributes:
        of_segments: Number of a segment → places in it.
        told: As in `Section`.
    """

    def __init__(self, film: Film, segments: Sequence[Segment]) -> None:
        super().__init__(input_name(film.path), strict=film.strict)
        self.of_segments: Counter[int] = Counter()
        self.told: defaultdict[int, list[str]] = defaultdict(list)
        self._film = film
        self._segments = segments
        self._firsts = [segment.first for segment in segments]

    def add(self, what: str, pts: int | None = None, *, ends: bool = False) -> None:
        """Count one place, if it is in one of the segments.

        Raises:
            InputError: the input has changed; that is looked at when the first place in a segment is found.
            DamagedInputError: if strict.
        """
        end = self._segments[-1].end
        if pts is None or pts < self._firsts[0] or (end is not None and pts >= end):
            return
        number = self._segments[bisect_right(self._firsts, pts) - 1].number
        if not self.of_segments[number]:
            check_unchanged(self._film)
        super().add(what, pts, ends=ends)
        self.of_segments[number] += 1
        if len(self.told[number]) < _TOLD:
            self.told[number].append(what)


class Copied:
    """A film whose frames come from parts: its file is read for the packets of the other streams.

    Args:
        film: Which.

    Attributes:
        file: What is read.
    """

    def __init__(self, film: Film) -> None:
        plan = film.plan
        damage = Damage(input_name(film.path), strict=film.strict)
        self.file = InputFile(film.path, film.selection, damage, keep_packets=True)
        self.file.first = replace(plan.opening.first)
        self.file.begin(plan.shift)
        self._plan = plan
        self._tally: Tally | None = None
        self._rest: Generator[Packet[Any]] | None = None
        self._shown: list[int] = []  # timestamps of frames that have not been noted, a heap
        self._reached: int | None = None  # decoding time of the last video packet
        self._ahead = round(_AHEAD / plan.time_base)

    def close(self) -> None:
        """Close the file; harmless when called again."""
        if self._rest is not None:
            self._rest.close()
        if self._tally is not None:
            self._tally.close()
        self.file.close()
        self.file.release()

    def settle(self) -> None:
        """Let the film end where the plan says."""
        timeline, end = self.file.timeline, self._plan.segments[-1].end
        if end is not None and self.file.limit is not None:
            timeline.end = end * self.file.time_base
        timeline.settled = True

    def follow(self, packet: Any) -> None:
        """Read on until the other streams' packets that come before an encoded one, with times of the output, are read.

        Frames are noted meanwhile: what the file says it holds beside them is lost.
        """
        if self._tally is None or self._rest is None:
            if self.file.timeline.start is not None:
                self.file.reader.seek(self.file.timeline.start)
            self._tally = self.file.new_tally()
            self._rest = self._listened(self.file.packets(self._tally))
        heappush(self._shown, packet.pts + self._plan.shift)
        time = packet.dts + self._plan.shift + self._ahead
        while self._reached is None or self._reached < time:
            read = next(self._rest, None)
            if read is None:
                break
            stamp = read.pts if read.dts is None else read.dts
            self._reached = self._reached if stamp is None else stamp
        self._note(packet.dts + self._plan.shift)

    def _listened(self, packets: Iterator[Packet[Any]]) -> Generator[Packet[Any]]:
        """The same packets; errors that the demuxer logs meanwhile are damage. Decoders log theirs for the segments."""
        file, known, begun = self.file, 0, False
        with closing(Errors(set() if file.sequence is not None else {file.container.format.name})) as errors:
            for packet in packets:
                begun = begun or packet.is_keyframe  # what is before the first key frame was cut off from its own
                if (said := errors.take()) and begun and file.damaged == known:
                    file.damage(f"FFmpeg reports an error ({said})")
                known = file.damaged
                yield packet
            if (said := errors.take()) and file.damaged == known:
                file.damage(f"FFmpeg reports an error ({said})")

    def _note(self, until: int | None) -> None:
        while self._tally is not None and self._shown and (until is None or self._shown[0] < until):
            self._tally.frame(heappop(self._shown))

    def finish(self, frames: int, end: Fraction) -> None:
        """Read what is left, and count what is lost.

        Args:
            frames: How many there are in the output.
            end: Where the last of them ends, in seconds of the output.
        """
        timeline = self.file.timeline
        reached = end + timeline.shift
        if timeline.end is None:
            for _ in self._rest or ():
                pass
        else:
            self.file.reader.read_rest(timeline.end)
        self._note(None)
        whole = frames != self.file.limit and (timeline.end is None or reached < timeline.end)
        if self._tally is not None:
            self.file.account(self._tally, reached, None if whole else timeline.end or reached)
