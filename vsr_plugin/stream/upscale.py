"""`upscale_file`: decode | buffered | upscale | buffered | encode.

Everything is pulled by the sink: it asks for a frame, and the request travels up. `buffered` lets decoding, the network
and encoding run at the same time; nothing else in the pipeline knows of threads.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .buffered import buffered
from .decode import Source
from .encode import encode
from .encoder import Encoding
from .output import check_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine import Upscaler
    from .selection import Selection
    from .writer import Written

# Frames read ahead and enlarged ahead: enough to ride out a key frame, and a bound on memory.
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is.

    Attributes:
        source: What is read; ``source.expected_frames`` is the whole, as far as it is known.
        written: What is written.
    """

    source: Source
    written: Written


@dataclass(frozen=True, slots=True)
class Report:
    """What was done.

    Attributes:
        input: Its name.
        output: Its name.
        frames: Pictures enlarged.
        seconds: Wall time.
        width: Of the output, in pixels.
        height: Of the output, in pixels.
        codec: The encoder.
        pixel_format: FFmpeg's name.
        damaged: Places in which the input lacks something or does not decode cleanly.
        model: Name.
        scale: Whole number.
        backend: What ran the network.
        device: Where.
        precision: In what numbers.
        batch: Pictures or tiles at a time.
        tile: Side of a tile in input pixels; None for whole pictures.
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
    backend: str
    device: str
    precision: str
    batch: int | None
    tile: int | None

    @property
    def fps(self) -> float:
        """Frames per second of wall time."""
        return self.frames / self.seconds if self.seconds else 0.0


def upscale_file(
    source: str | Path,
    output: str | Path,
    upscaler: Upscaler,
    selection: Selection | None = None,
    *,
    encoding: Encoding | None = None,
    overwrite: bool = False,
    strict: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Enlarge a file; its sound, subtitles, chapters, metadata, timestamps and colours stay as they are.

    Args:
        source: Anything FFmpeg opens, a pattern of images (``frame_%04d.png``), or ``-`` for standard input.
        output: A file, a pattern of images, or ``-`` for y4m on standard output.
        upscaler: The network; it may serve many files.
        selection: Which frames are taken; all by default.
        encoding: Encoder and options; visually lossless by default.
        overwrite: Replace an existing output.
        strict: Refuse damaged input, and refuse what would drop a stream.
        on_progress: Called after each frame, in the calling thread.

    Raises:
        InputError: the source cannot be read, is interlaced, or holds no picture.
        OutputError: the output exists, or cannot be written.
        UsageError: the encoder does not know an option.
        BackendError: the network cannot run.
    """
    if str(output) != "-":
        check_output(Path(output), source, overwrite=overwrite)
    began = time.perf_counter()
    decoded = Source(source, selection, strict=strict, keep_packets=True)
    enlarged = buffered(upscaler.stage(buffered(decoded, _AHEAD)), _AHEAD)
    written = encode(
        enlarged,
        output,
        decoded,
        encoding or Encoding(),
        overwrite=overwrite,
        strict=strict,
        on_frame=None if on_progress is None else lambda so_far: on_progress(Progress(decoded, so_far)),
    )
    return Report(
        input=decoded.name,
        output=written.output,
        frames=written.frames,
        seconds=time.perf_counter() - began,
        width=written.width,
        height=written.height,
        codec=written.codec,
        pixel_format=written.pixel_format,
        damaged=decoded.damaged,
        model=upscaler.spec.name,
        scale=upscaler.scale,
        backend=upscaler.backend,
        device=str(upscaler.device),
        precision=upscaler.precision,
        batch=upscaler.batch,
        tile=upscaler.tile,
    )
