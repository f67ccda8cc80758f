"""`work`: makes parts from segments."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ...reuse import Reuse
from ..buffered import buffered
from ..copies import kept_tags
from ..encode import writing
from ..writer import Writer
from .encoding import Nowhere
from .original import check_unchanged
from .plan import without_samples
from .section import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from av.packet import Packet
    from av.video.stream import VideoStream

    from ...engine import Upscaler
    from ...frames import Frame
    from . import Film, Segment
    from .parts import OpenPart, Part

_AHEAD = 4  # frames, as for a film in one go


class PartWriter(Writer):
    """Encodes like `Writer`, but writes the packets into a part.

    Args:
        part: The part.
        film: The film of the frames.
        source: Where the frames come from.

    Attributes:
        dropped: What of the frames is lost, and why; it is logged where the parts are joined.
    """

    def __init__(self, part: OpenPart, film: Film, source: Section) -> None:
        self.dropped: list[tuple[str, str]] = []
        name = f"segment {part.number}"
        super().__init__(Nowhere(film.suffix), film.suffix, source.file, film.encoding, strict=film.strict, name=name)
        self._part = part

    def put(self, packet: Packet[Any]) -> None:
        """Add an encoded packet to the part."""
        self.written.size += packet.size
        self.written.encoded += 1
        self._part.add(packet)

    def complete(self) -> None:
        """Do nothing: the file is written when the parts are joined."""

    def _drop(self, what: str, why: str) -> None:
        if self._strict:
            super()._drop(what, why)
        self.dropped.append((what, why))

    def _lay_out(self, add_video: Callable[[], VideoStream]) -> VideoStream:
        video = add_video()
        video.metadata.update(kept_tags(self._source.tags, self._output.format.name))  # Matroska's 3D is one of them
        return video


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a segment after a frame.

    Attributes:
        number: Number of the segment.
        frames: Number of its frames given to the encoder.
        size: Bytes that came out of the encoder.
        encoded: Number of frames in these bytes.
        position: Time of the frame, in seconds of the output.
    """

    number: int
    frames: int
    size: int
    encoded: int
    position: float


def work(
    film: Film,
    segments: Sequence[Segment],
    upscaler: Upscaler,
    open_part: Callable[[int], OpenPart],
    on_step: Callable[[Step], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Part]:
    """Make the parts of consecutive segments, one after the other.

    They are decoded in one go; while the encoder of one segment finishes, the next one is enlarged.

    Args:
        film: The film.
        segments: Consecutive segments.
        upscaler: The network.
        open_part: Opens the part of a segment, by its number.
        on_step: Called after each frame, in the calling thread.
        cancelled: As for `Source`.

    Raises:
        InputError: the input cannot be read, or has changed since it was planned: then no part of what was read
            since is finished.
        OutputError: a part cannot be written.
        BackendError: the network cannot run.
    """
    section = Section(film, segments, cancelled)
    reuse = Reuse()
    frames = buffered(upscaler.stage(buffered(section, _AHEAD), reuse), _AHEAD)
    lead = without_samples(film.plan.opening.frame, upscaler.target(film.plan.opening.frame))
    bounds = [segment.first - film.plan.shift for segment in segments]
    unfinished: deque[_Encoder] = deque()
    with ExitStack() as cleanup:
        cleanup.callback(_abandon, unfinished)
        ending = cleanup.enter_context(ThreadPoolExecutor(1, "vsr part"))
        cleanup.callback(frames.close)
        groups = groupby(frames, lambda frame: bisect_right(bounds, frame.pts) - 1)
        group = next(groups, None)
        pending: Future[Part] | None = None
        count, spared = 0, 0.0
        for index, segment in enumerate(segments):
            encoder = _Encoder(film, segment, section, open_part(segment.number))
            unfinished.append(encoder)
            encoder.open(lead)
            if group is not None and group[0] == index:
                for frame in group[1]:
                    encoder.write(frame)
                    if on_step is not None:
                        on_step(encoder.step())
                group = next(groups, None)
            if pending is not None:
                yield pending.result()
                unfinished.popleft().abandon()
            count += encoder.step().frames
            before, spared = spared, reuse.share * count
            pending = ending.submit(encoder.finish, spared - before)
        assert pending is not None
        yield pending.result()


def _abandon(unfinished: Iterable[_Encoder]) -> None:
    for encoder in unfinished:
        encoder.abandon()


class _Encoder:
    """Encodes one part."""

    def __init__(self, film: Film, segment: Segment, section: Section, part: OpenPart) -> None:
        self._segment = segment
        self._film = film
        self._section = section
        self._part = part
        self._began = time.perf_counter()
        self._writer = PartWriter(part, film, section)

    def open(self, lead: Frame) -> None:
        with writing(self._writer):
            self._writer.open(lead)

    def write(self, frame: Frame) -> None:
        with writing(self._writer):
            self._writer.write(frame)

    def step(self) -> Step:
        written = self._writer.written
        return Step(self._segment.number, written.frames, written.size, written.encoded, written.position)

    def finish(self, reused: float) -> Part:
        """Write the encoder's last packets, and move the part to its place."""
        written, seams, segment = self._writer.written, self._section.seams, self._segment
        with writing(self._writer):
            if written.frames:
                self._writer.finish()
        check_unchanged(self._film)
        beyond = None if segment.end is None else seams.get(segment.end)
        return self._part.finish(
            job=self._film.job,
            frames=written.frames,
            damaged=self._section.damages[segment.number],
            told=tuple(self._section.told[segment.number]),
            dropped=tuple(self._writer.dropped),
            unread=beyond is None and self._section.file.reader.failed,
            first=seams.get(segment.first),
            beyond=beyond,
            codec=written.codec,
            header=self._writer.header.hex(),
            seconds=round(time.perf_counter() - self._began, 3),
            reused=round(reused, 3),
        )

    def abandon(self) -> None:
        """Close everything; after `finish`, this does nothing."""
        self._writer.abandon()
        self._part.close()
