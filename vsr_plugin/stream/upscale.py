"""`upscale_file`: decode | buffered | upscale | buffered | encode.

Everything is pulled by the sink: it asks for a frame, and the request travels up. `buffered` lets decoding, the network
and encoding run at the same time; nothing else in the pipeline knows of threads.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import checked_arguments
from ..errors import UsageError
from ..reuse import Reuse
from .buffered import buffered
from .decode import Source
from .encode import encode
from .encoding import Encoding
from .output import check_output
from .selection import Selection, exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    from ..engine import Upscaler
    from ..frames import Frame
    from .segments.executor import Executor
    from .segments.job import Joined
    from .written import Written

# Frames read ahead and enlarged ahead: enough to ride out a key frame, and a bound on memory.
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is.

    Attributes:
        written: What is written.
        expected_frames: How many frames there will be, as far as it is known.
        workers: How many processes enlarge.
        kept: How many of the frames an earlier call has encoded.
        fps: Frames per second since the first frame of this call; 0 at that one.
    """

    written: Written
    expected_frames: int | None
    workers: int = 1
    kept: int = 0
    fps: float = 0.0

    @property
    def frame(self) -> int:
        """How many frames are done."""
        return self.written.frames

    @property
    def total(self) -> int | None:
        """How many there will be, as far as the file tells; None if it does not."""
        return None if self.expected_frames is None else max(self.expected_frames, self.frame)

    @property
    def eta(self) -> float | None:
        """How many seconds are left at this speed; None where that is not known."""
        return (self.total - self.frame) / self.fps if self.total is not None and self.fps else None


class Meter:
    """Measures the speed of frames that are written, and passes it on.

    Args:
        show: Takes what there is to be told after each frame.
    """

    def __init__(self, show: Callable[[Progress], None]) -> None:
        self._show = show
        self._first: tuple[int, float] | None = None

    def __call__(self, written: Written, expected: int | None, workers: int = 1, kept: int = 0) -> None:
        """Take what is written after a frame; the arguments are those of `Progress`."""
        now = time.perf_counter()
        self._first = self._first or (written.frames, now)
        frames, began = self._first
        fps = (written.frames - frames) / (now - began) if now > began else 0.0
        self._show(Progress(replace(written), expected, workers, kept, fps))


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """What was done of one segment.

    Attributes:
        number: From 0.
        start: Seconds of the output.
        frames: How many.
        size: Bytes that came out of the encoder.
        damaged: Places in which the input does not decode cleanly.
        seconds: Wall time.
        kept: Whether an earlier call has encoded it.
    """

    number: int
    start: float
    frames: int
    size: int
    damaged: int
    seconds: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What was done.

    Attributes:
        input: Its name.
        output: Its name.
        frames: How many were enlarged.
        seconds: Wall time.
        width: Of the output, in pixels.
        height: Of the output, in pixels.
        codec: The encoder.
        pixel_format: FFmpeg's name.
        damaged: Places in which the input lacks something or does not decode cleanly.
        model: Name.
        scale: How many times the networks enlarge.
        scales: Of the networks that a frame passes, one after the other.
        tuned_for: The kind of input that the weights are for; None with weights of the user's own.
        backend: What ran the network.
        device: Where.
        precision: In what numbers.
        batch: Frames or tiles at a time; None where workers choose it.
        tile: Side of a tile in input pixels; None for whole frames.
        kept: How many of the frames an earlier call has encoded.
        segments: Of a film in segments.
        transposed: Whether players show the rows of the output as columns, because its header says so.
        reused: The share of the networks' work, from 0 to 1, that was not done because nothing had changed since the
            frame before.
    """

    input: str
    output: str
    frames: int
    seconds: float
    width: int
    height: int
    codec: str
    pixel_format: str
    damaged: int
    model: str
    scale: int
    scales: tuple[int, ...]
    tuned_for: str | None
    backend: str
    device: str
    precision: str
    batch: int | None
    tile: int | None
    kept: int = 0
    segments: tuple[SegmentReport, ...] = ()
    transposed: bool = False
    reused: float | None = None

    @property
    def fps(self) -> float:
        """Frames per second of wall time, without those that were kept."""
        return (self.frames - self.kept) / self.seconds if self.seconds else 0.0


@checked_arguments(upscaler="Upscaler", selection="Selection", encoding="Encoding", executor="Cluster")
def upscale_file(
    source: str | Path,
    output: str | Path,
    upscaler: Upscaler,
    selection: Selection | None = None,
    *,
    encoding: Encoding | str | None = None,
    overwrite: bool = False,
    strict: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    resume: bool = False,
    fresh: bool = False,
    segment_length: Fraction | float = 20,
    executor: Executor | None = None,
) -> Report:
    """Enlarge a file; its sound, subtitles, chapters, metadata, timestamps and colors stay as they are.

    Args:
        source: Anything FFmpeg opens, a pattern of images (``frame_%04d.png``), or ``-`` for standard input.
        output: A file, a pattern of images, or ``-`` for y4m on standard output.
        upscaler: The network; it may serve many files.
        selection: Which frames are taken; all by default.
        encoding: Encoder and options, or an encoder's name; visually lossless by default.
        overwrite: Replace an existing output.
        strict: Refuse damaged input, and refuse what would drop a stream.
        on_progress: Called after each frame, in the calling thread, with a `Progress`: frame, total, fps, eta.
        resume: Work in segments, and keep those that are done in the folder ``OUTPUT.parts`` until the output is whole:
            after a crash, the same call goes on with the others. An input that cannot be cut is enlarged as a whole.
        fresh: As ``resume``, but begin anew, whatever an earlier call has left.
        segment_length: Of a segment in seconds, as near as key frames allow.
        executor: Who enlarges the segments; implies ``resume``. By default it is this process.

    Raises:
        InputError: the source cannot be read, is interlaced, or holds no frame.
        OutputError: the output exists, or cannot be written.
        UsageError: the encoder does not know an option.
        BackendError: the network cannot run.
    """
    began = time.perf_counter()
    if executor is not None and not hasattr(executor, "run"):
        raise UsageError(f"Expected executor to be a Cluster or another Executor, got {executor!r}")
    selection, encoding = selection or Selection(), Encoding.of(encoding)
    show = Meter(on_progress or (lambda _: None))
    if resume or fresh or executor is not None:
        from .segments.job import Cutting, upscale_segments

        joined = upscale_segments(
            str(source),
            Path(output),
            upscaler,
            selection,
            encoding,
            Cutting(exact("segment_length", segment_length), fresh=fresh, executor=executor),
            overwrite=overwrite,
            strict=strict,
            on_written=show,
        )
        if joined is not None:
            report = _report(Path(source).name, joined.written, joined.damaged, upscaler, joined.target.scales, began)
            rows = _segments(joined)
            reused = sum(part.reused for part in joined.parts) / max(report.frames, 1)
            kept = sum(row.frames for row in rows if row.kept)
            return replace(report, kept=kept, segments=rows, reused=round(reused, 3))
    if str(output) != "-":
        check_output(Path(output), source, overwrite=overwrite)
    decoded = Source(source, selection, strict=strict, keep_packets=True)
    reuse = Reuse()
    enlarged = buffered(_named(upscaler.stage(buffered(decoded, _AHEAD), reuse), decoded.name), _AHEAD)
    written = encode(
        enlarged,
        output,
        decoded,
        encoding,
        overwrite=overwrite,
        strict=strict,
        on_frame=lambda so_far: show(so_far, decoded.expected_frames),
    )
    report = _report(decoded.name, written, decoded.damaged, upscaler, upscaler.scales, began)
    return replace(report, reused=round(reuse.share, 3))


def _named(frames: Iterator[Frame], name: str) -> Iterator[Frame]:
    """Say which of several files it is whose frames the network does not take."""
    try:
        yield from frames
    except UsageError as error:
        raise UsageError(f"{name}: {error.message[0].lower()}{error.message[1:]}", **error.use) from error


def _segments(joined: Joined) -> tuple[SegmentReport, ...]:
    return tuple(
        SegmentReport(
            number=part.number,
            start=float((segment.first - joined.plan.shift) * joined.plan.time_base),
            frames=part.frames,
            size=part.size,
            damaged=part.damaged,
            seconds=part.seconds,
            kept=part.number in joined.kept,
        )
        for segment, part in zip(joined.plan.segments, joined.parts, strict=True)
    )


def _report(
    name: str, written: Written, damaged: int, upscaler: Upscaler, scales: tuple[int, ...], began: float
) -> Report:
    return Report(
        input=name,
        output=written.output,
        frames=written.frames,
        seconds=time.perf_counter() - began,
        width=written.width,
        height=written.height,
        transposed=written.transposed,
        codec=written.codec,
        pixel_format=written.pixel_format,
        damaged=damaged,
        model=upscaler.spec.name,
        scale=math.prod(scales),
        scales=scales,
        tuned_for=upscaler.tuned_for,
        backend=upscaler.backend,
        device=str(upscaler.device),
        precision=upscaler.precision,
        batch=upscaler.batch,
        tile=upscaler.tile,
    )
