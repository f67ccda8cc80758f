"""`upscale_file`: decode | buffered | upscale | buffered | encode.

The sink pulls: it asks for a frame, and the request travels up. `buffered` lets decoding, the network and encoding run
at the same time; no other stage of the pipeline uses threads.
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

# Frames read ahead and enlarged ahead: enough to bridge a slow key frame, and few enough to bound the memory.
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of `upscale_file`.

    Attributes:
        written: What has been written so far.
        expected_frames: Expected number of frames in the output; None if unknown.
        workers: Number of processes that enlarge frames.
        kept: Number of frames that an earlier call has encoded.
        fps: Frames per second since the first frame of this call; 0 at the first frame.
    """

    written: Written
    expected_frames: int | None
    workers: int = 1
    kept: int = 0
    fps: float = 0.0

    @property
    def frame(self) -> int:
        """Number of frames done."""
        return self.written.frames

    @property
    def total(self) -> int | None:
        """Total number of frames, estimated from the file; None if unknown."""
        return None if self.expected_frames is None else max(self.expected_frames, self.frame)

    @property
    def eta(self) -> float | None:
        """Seconds left at this speed; None if unknown."""
        return (self.total - self.frame) / self.fps if self.total is not None and self.fps else None


class Meter:
    """Measures the speed at which frames are written, and reports it.

    Args:
        show: Called with the progress after each frame.
    """

    def __init__(self, show: Callable[[Progress], None]) -> None:
        self._show = show
        self._first: tuple[int, float] | None = None

    def __call__(self, written: Written, expected: int | None, workers: int = 1, kept: int = 0) -> None:
        """Report the progress after a frame; the arguments are those of `Progress`."""
        now = time.perf_counter()
        self._first = self._first or (written.frames, now)
        frames, began = self._first
        fps = (written.frames - frames) / (now - began) if now > began else 0.0
        self._show(Progress(replace(written), expected, workers, kept, fps))


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """Report on one segment.

    Attributes:
        number: Number of the segment, from 0.
        start: Where it starts in the output, in seconds.
        frames: Number of frames.
        size: Bytes that came out of the encoder.
        damaged: Number of places where the input does not decode cleanly.
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
    """Result of `upscale_file`.

    Attributes:
        input: Name of the input.
        output: Name of the output.
        frames: Number of frames enlarged.
        seconds: Wall time.
        width: Width of the output, in pixels.
        height: Height of the output, in pixels.
        codec: Name of the encoder.
        pixel_format: FFmpeg's name of the output's pixel format.
        damaged: Number of places where the input lacks something or does not decode cleanly.
        model: Name of the model.
        scale: Total enlargement by the networks.
        scales: Scales of the networks that a frame passes through, in order.
        tuned_for: Kind of input that the weights are for; None with the user's own weights.
        backend: Backend that ran the network.
        device: Device that it ran on.
        precision: Precision that it ran in.
        batch: Frames or tiles at a time; None if workers choose it.
        tile: Side of a tile in input pixels; None for whole frames.
        kept: Number of frames that an earlier call has encoded.
        segments: Reports on the segments of a film in segments.
        transposed: Whether the header tells players to show the rows of the output as columns.
        reused: Share of the networks' work, from 0 to 1, that was skipped because nothing had changed since the
            previous frame.
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
        upscaler: The network; it can be used for many files.
        selection: Which frames to take; all by default.
        encoding: Encoder and options, or an encoder's name; visually lossless by default.
        overwrite: Replace an existing output.
        strict: Refuse damaged input, and outputs that would lose a stream.
        on_progress: Called after each frame, in the calling thread, with a `Progress`: frame, total, fps, eta.
        resume: Work in segments, and keep finished ones in the folder ``OUTPUT.parts`` until the output is complete:
            after a crash, the same call continues with the others. Input that cannot be cut is enlarged as a whole.
        fresh: Like ``resume``, but discard the segments of an earlier call.
        segment_length: Length of a segment in seconds, as near as key frames allow.
        executor: What enlarges the segments; implies ``resume``. By default, this process does.

    Raises:
        InputError: the source cannot be read, is interlaced, or contains no frame.
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
    """Add the name of the file to the error if the network does not take its frames."""
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
