"""Every model that has weights: how good it is beside its paper, and how fast here, as tables and as data."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..backends.ensemble import mean_of_eight
from ..device import find_device
from ..engine import Upscaler
from ..errors import UsageError
from ..evaluation import bicubic, evaluate
from ..execution import Execution
from ..images import read_images
from ..interpolation import interpolation
from ..models import MODELS, load_model
from ..models.listing import signed
from ..models.published import BENCHMARKS, published_psnr
from . import Settings, inference
from .clip import frames
from .report import processor_name, warn_if_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from ..images import Image

_log = logging.getLogger(__name__)

WIDTH, HEIGHT = 480, 270


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one scale.

    Attributes:
        model: Name of the model, or bicubic.
        scale: Whole number.
        psnr: dB, mean over the images.
        ssim: Mean over the images.
        published: The paper's PSNR on these images, None if it has none.
        fps: Frames of 480 × 270 per second, colors included.
        how: Backend and precision that ``fps`` was measured with.
    """

    model: str
    scale: int
    psnr: float
    ssim: float
    published: float | None
    fps: float
    how: str

    @property
    def difference(self) -> float | None:
        """PSNR measured here minus the paper's, in dB."""
        return None if self.published is None else self.psnr - self.published


@dataclass(frozen=True, slots=True)
class Survey:
    """All models at all scales.

    Attributes:
        benchmark: Name of the images: Set5, Set14, or that of their folder.
        images: Number of images.
        processor: Name of the CPU or GPU that ran the networks.
        self_ensemble: Whether each ran eight times, for PSNR and for fps.
        rows: Ordered by scale, bicubic first.
    """

    benchmark: str
    images: int
    processor: str
    self_ensemble: bool
    rows: tuple[Row, ...]

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales that were measured."""
        return tuple(sorted({row.scale for row in self.rows}))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"rows": [asdict(row) | {"difference": row.difference} for row in self.rows]}

    def as_markdown(self) -> str:
        """A table for each scale, and how it was measured."""
        parts = []
        for scale in self.scales:
            lines = ["| model | PSNR | SSIM | paper | difference | fps |", "|---|---|---|---|---|---|"]
            lines += [f"| {' | '.join(cells(row))} |" for row in self.rows if row.scale == scale]
            parts.append(f"### ×{scale}\n\n" + "\n".join(lines) + "\n")
        return "\n".join([f"# PSNR and speed on {self.benchmark}\n", *parts, self.legend + "\n"])

    @property
    def legend(self) -> str:
        """How it was measured."""
        how = " and ".join(sorted({row.how for row in self.rows if row.model != "bicubic"}))
        eight = ", each run eight times (self-ensemble)" if self.self_ensemble else ""
        return (
            f"PSNR in dB and SSIM of luma, {self.images} images, a border of the scale cropped, in float32{eight}; "
            f"fps: frames of {WIDTH}×{HEIGHT} a second on {self.processor} ({how}; bicubic in plain torch), in memory."
        )


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table, as text."""
    paper = "–" if row.published is None else f"{row.published:.2f}"
    difference = "–" if row.difference is None else signed(row.difference)
    return row.model, f"{row.psnr:.2f}", f"{row.ssim:.4f}", paper, difference, f"{row.fps:.3g}"


def benchmark_name(folder: Path) -> str:
    """``Set5`` of …/Set5/HR: a folder that is named like a benchmark holds it; any other is called by its own name."""
    return next((part for part in reversed(folder.parts) if part.lower() in BENCHMARKS), folder.name)


def measure(data: Path, scales: Sequence[int] = (), *, self_ensemble: bool = False) -> Survey:
    """Measure bicubic, and every model that has weights, at every scale that it has them for.

    Args:
        data: Folder of large images.
        scales: Those wanted; all if empty.
        self_ensemble: Measure with the self-ensemble.

    Raises:
        UsageError: a scale that no model has weights for.
        InputError: images that cannot be read.
        VsrError: as `Upscaler` raises it.
    """
    shipped = [(spec.name, s) for spec in MODELS.values() for s in spec.scales if spec.weights(s) is not None]
    known = sorted({scale for _, scale in shipped})
    for scale in scales:
        if scale not in known:
            raise UsageError(f"Expected a scale that there are weights for ({', '.join(map(str, known))}), got {scale}")
    warn_if_busy()
    benchmark = benchmark_name(data.resolve())
    images = {channels: read_images(data, channels) for channels in (1, 3)}
    wanted = sorted(set(scales) or known)
    rows = tuple(
        row
        for scale in wanted
        for row in _measure_scale(scale, shipped, images, benchmark, self_ensemble=self_ensemble)
    )
    return Survey(benchmark, len(images[1]), processor_name(find_device(None)), self_ensemble, rows)


def _measure_scale(
    scale: int,
    shipped: Sequence[tuple[str, int]],
    images: dict[int, list[Image]],
    benchmark: str,
    *,
    self_ensemble: bool,
) -> Iterator[Row]:
    names = [name for name, s in shipped if s == scale]
    (frame,) = frames(Settings(width=WIDTH, height=HEIGHT, frames=1))
    for name in ["bicubic", *names]:
        network: Callable[[Tensor], Tensor]
        if name == "bicubic":
            channels, network = 1, bicubic(scale)
            upscaler = interpolation("bicubic", scale, Execution())
        else:
            channels, network = MODELS[name].channels, load_model(name, scale)
            if self_ensemble:
                network = partial(mean_of_eight, upright=network, lying=network)
            upscaler = Upscaler(name, scale, Execution(self_ensemble=self_ensemble))
        scores = evaluate(network, scale, images[channels], channels)
        with upscaler:
            fps = inference.fps(upscaler, frame)
        paper = published_psnr(name, scale, benchmark.lower())
        row = Row(name, scale, scores.psnr, scores.ssim, paper, fps, f"{upscaler.backend}, {upscaler.precision}")
        _log.info("%s ×%d: %.2f dB, %.3g fps", name, scale, row.psnr, row.fps)
        yield row
