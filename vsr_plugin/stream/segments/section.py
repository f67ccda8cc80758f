"""`Section` reads the frames of consecutive segments; `Copied` the packets of other streams, without decoding."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from heapq import heappop, heappush
from itertools import chain, islice
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

    from . import Film, Segment
    from .parts import Seam

_TOLD = 3  # damaged places of a segment whose descriptions are kept
_AHEAD = 2  # seconds that the other streams are read ahead: in the file, their packets may be this late


def digest(frame: Frame) -> str:
    """Return a checksum of a frame's samples."""
    found = hashlib.sha256()
    for plane in frame.planes:
        found.update(plane.tobytes())
    return found.hexdigest()[:32]


class Section(Iterator[Frame]):
    """The frames of consecutive segments, as if all frames before them had been decoded, too.

    Args:
        film: The film.
        segments: Consecutive segments.
        cancelled: As for `Source`.

    Attributes:
        file: The file that is read.
        seams: Timestamp of a seam → checksums of the frames decoded there, including the seam at the end, unless that
            is the end of the film.
        damages: Number of a segment → number of places so far that do not decode cleanly.
        told: Number of a segment → descriptions of some of them.

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
        """Close the file; may be called again."""
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
                if before is None and len(thrown) == 2:  # a deinterlacer's first frame lacks its predecessor
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
    """Damage inside some segments; damage of the file itself is reported when it is read as a whole.

    Attributes:
        of_segments: Number of a segment → number of damaged places in it.
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
        """Count one damaged place, if it is in one of the segments.

        Raises:
            InputError: the input has changed, which is checked at the first damaged place of each segment.
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
    """Reads the packets of a film's other streams, while its frames come from parts.

    Reading begins at once, up to the first packet of the video: covers, which a header may contain, come before it.

    Args:
        film: The film.
        quiet: Log no damage, because the same will be found again.

    Attributes:
        file: The file that is read.
    """

    def __init__(self, film: Film, *, quiet: bool = False) -> None:
        plan = film.plan
        damage = Damage(input_name(film.path), strict=film.strict, quiet=quiet)
        self.file = InputFile(film.path, film.selection, damage, keep_packets=True)
        self._plan = plan
        self._shown: list[int] = []  # timestamps of frames that are not counted yet, a heap
        self._reached: int | None = None  # decoding time of the last video packet
        self._ahead = round(_AHEAD / plan.time_base)
        with ExitStack() as cleanup:
            cleanup.callback(self.file.release)
            cleanup.callback(self.file.close)
            self.file.first = replace(plan.opening.first)
            self.file.begin(plan.shift)
            if self.file.timeline.start is not None:
                self.file.reader.seek(self.file.timeline.start)
            self._tally = cleanup.enter_context(closing(self.file.new_tally()))
            reading = cleanup.enter_context(closing(self._listened(self.file.packets(self._tally))))
            self._rest = chain(list(islice(reading, 1)), reading)
            self._cleanup = cleanup.pop_all()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._cleanup.close()

    def settle(self) -> None:
        """Set the end of the film to that of the plan."""
        timeline, end = self.file.timeline, self._plan.segments[-1].end
        if end is not None and self.file.limit is not None:
            timeline.end = end * self.file.time_base
        timeline.settled = True

    def follow(self, packet: Any) -> None:
        """Read all packets of the other streams that come before an encoded one, which has times of the output.

        The frames are counted, to find those that the file states but that are lost.
        """
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
        """Pass packets on, and count errors that the demuxer logs as damage; segments count those of decoders."""
        file, known, begun = self.file, 0, False
        with closing(Errors(set() if file.sequence is not None else {file.container.format.name})) as errors:
            for packet in packets:
                begun = begun or packet.is_keyframe  # frames before the first key frame lack their references
                if (said := errors.take()) and begun and file.damaged == known:
                    file.damage(f"FFmpeg reports an error ({said})")
                known = file.damaged
                yield packet
            if (said := errors.take()) and file.damaged == known:
                file.damage(f"FFmpeg reports an error ({said})")

    def _note(self, until: int | None) -> None:
        while self._shown and (until is None or self._shown[0] < until):
            self._tally.frame(heappop(self._shown))

    def finish(self, frames: int, end: Fraction) -> None:
        """Read the rest of the packets, and count losses.

        Args:
            frames: Number of frames in the output.
            end: Where the last of them ends, in seconds of the output.
        """
        timeline = self.file.timeline
        reached = end + timeline.shift
        if timeline.end is None:
            for _ in self._rest:
                pass
        else:
            self.file.reader.read_rest(timeline.end)
        self._note(None)
        whole = frames != self.file.limit and (timeline.end is None or reached < timeline.end)
        self.file.account(self._tally, reached, None if whole else timeline.end or reached)
