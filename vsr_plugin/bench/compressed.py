"""How networks enlarge compressed video: a clip is shrunk, compressed, enlarged, and compared with the original.

Beside PSNR and SSIM of every frame, as `evaluation` measures them on luma, and VMAF, *flicker* says how steady the
result is: the mean difference between the change from one frame to the next in the result and the same change in the
original, in code values of 8-bit luma. A result that changes as the original does has a flicker of 0.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..color import convert
from ..compare import Candidate
from ..errors import UsageError
from ..evaluation import psnr, ssim
from ..execution import Execution
from ..frames import ColorSpec, Frame, Matrix, Range
from ..interpolation import interpolation
from ..kernels import resample
from ..models import CLEAN, TUNINGS, find_model
from ..samples import chroma_grid
from ..stream import Selection, Source
from ..stream.compression import Compression
from ..stream.quality import has_vmaf, lanczos, vmaf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ..engine import Upscaler
    from ..stream.compression import Planes

    type Luma = NDArray[np.uint8]
    type Enlarge = Callable[[Sequence[Planes]], list[Planes]]

_log = logging.getLogger(__name__)

_FORMAT = (8, (1, 1))  # bits and subsampling of the compressed clip
CRFS = (18, 23, 28, 32)
_FRAMES = 30  # for the manifest
_OWN = "own weights"  # in place of what shipped weights are tuned for
SIGN = "none"  # in place of a CRF, for the clip without compression


@dataclass(frozen=True, slots=True)
class Row:
    """One way to enlarge the clip, compressed in one way.

    Attributes:
        crf: CRF of the encoder; None if nothing is compressed.
        kbps: Kilobits per second of the small clip; None if nothing is compressed.
        method: ``bicubic``, ``lanczos``, or the name of a model.
        tuned_for: The kind of input that the model's weights are for, or ``own weights``; None for other methods.
        psnr: dB, of luma, a border of the scale cropped; the mean over the frames.
        ssim: ″
        vmaf: 0 to 100; None without libvmaf.
        flicker: Code values of luma: see the module.
    """

    crf: float | None
    kbps: float | None
    method: str
    tuned_for: str | None
    psnr: float
    ssim: float
    vmaf: float | None
    flicker: float

    @property
    def label(self) -> str:
        """Name, and what the weights are tuned for if it is not clean input."""
        return self.method if self.tuned_for in (None, CLEAN) else f"{self.method} ({self.tuned_for})"


@dataclass(frozen=True, slots=True)
class Study:
    """All ways to enlarge a clip, for all ways to compress it.

    Attributes:
        clip: Name of the clip.
        frames: Number of frames.
        width: Width of the original, with which the results are compared.
        height: ″
        scale: Whole number.
        codec: The encoder.
        preset: ″
        rows: Ordered by CRF, uncompressed first.
    """

    clip: str
    frames: int
    width: int
    height: int
    scale: int
    codec: str
    preset: str
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def table(self) -> list[tuple[str, ...]]:
        """Header and rows as text."""
        lines: list[tuple[str, ...]] = [("CRF", "kb/s", "enlarged by", "PSNR", "SSIM", "VMAF", "flicker")]
        lines += [
            (
                SIGN if row.crf is None else f"{row.crf:g}",
                "–" if row.kbps is None else f"{row.kbps:.0f}",
                row.label,
                f"{row.psnr:.2f}",
                f"{row.ssim:.4f}",
                "–" if row.vmaf is None else f"{row.vmaf:.1f}",
                f"{row.flicker:.2f}",
            )
            for row in self.rows
        ]
        return lines

    @property
    def legend(self) -> str:
        """The method and the figures, in words."""
        without = "" if self.rows[0].vmaf is not None else " No VMAF: this FFmpeg has no libvmaf."
        preset = f", preset {self.preset}" if self.preset else ""
        return (
            f"{self.clip}: {self.frames} frames of {self.width}×{self.height}, shrunk to 1/{self.scale}, compressed by "
            f"{self.codec}{preset}, and enlarged ×{self.scale}. PSNR in dB, SSIM and flicker of luma; flicker is how "
            f"much the change from frame to frame differs from the original's, in code values.{without}"
        )


def candidates(model: str, scale: int, weights: Path | None = None) -> list[Candidate]:
    """Every kind of shipped weights that a model has at this scale; or weights of the user's own beside them.

    Raises:
        UsageError: an unknown model, or a scale that it lacks.
    """
    spec = find_model(model, scale)
    found = [Candidate(model, tuned_for=kind) for kind in TUNINGS if spec.weights(scale, kind)]
    return found if weights is None else [*found, Candidate(model, weights)]


def measure(
    clip: Path,
    scale: int,
    chosen: Sequence[Candidate],
    crfs: Sequence[float],
    *,
    codec: str = "libx264",
    preset: str | None = None,
    frames: int = 60,
    execution: Execution | None = None,
) -> Study:
    """Shrink a clip, compress it, enlarge it, and compare it with the original.

    Args:
        clip: Anything FFmpeg opens; the better its quality, the more the figures mean.
        scale: Factor by which it is shrunk and enlarged.
        chosen: The models, measured beside bicubic and Lanczos.
        crfs: CRFs of the encoder; the clip is measured without compression, too.
        codec: One of `stream.compression.ENCODERS`.
        preset: Preset of x264 and x265; medium for None. VP9 has none.
        frames: Number of frames to take, from the beginning.
        execution: How the networks run.

    Raises:
        UsageError: a clip without color or of fewer than two frames, or an encoder or option that is not known.
        VsrError: as `Source` and `Upscaler` raise it.
    """
    if codec != "libvpx-vp9":
        preset = preset or "medium"
    elif preset is not None:
        raise UsageError(f"Expected no preset for {codec}, got {preset!r}", preset=None)
    color, rate, truth = _read(clip, scale, frames)
    height, width = truth[0][0].shape
    small = [_shrunk(planes, color, scale) for planes in truth]
    seen: list[tuple[float | None, float | None, list[Planes]]] = [(None, None, small)]
    for crf in crfs:
        compression = Compression(small, codec, _options(crf, preset), rate)
        decoded = list(compression)
        seen.append((crf, compression.size * 8 / 1000 / float(len(small) / rate), decoded))
    rows = []
    with ExitStack() as opened:
        methods = list(_methods(chosen, scale, color, execution or Execution(), opened))
        for asked, kbps, planes in seen:
            for name, tuned_for, enlarge in methods:
                row = _row(asked, kbps, name, tuned_for, truth, enlarge(planes), scale)
                _log.info("CRF %s, %s: %.2f dB", SIGN if asked is None else f"{asked:g}", row.label, row.psnr)
                rows.append(row)
    return Study(clip.name, len(truth), width, height, scale, codec, preset or "", tuple(rows))


def figures(clip: Path, model: str, scale: int, weights: Path, tuned_for: str) -> dict[str, dict[str, float]]:
    """PSNR for the manifest, of every third frame: ``none``, ``crf18`` … → bicubic, Lanczos, and the kinds of weights.

    Args:
        clip: Anything FFmpeg opens.
        model: Name.
        scale: One that the model has.
        weights: A file, in place of the shipped weights of its kind.
        tuned_for: The kind of input that it is for.
    """
    color, rate, truth = _read(clip, scale, _FRAMES)
    small = [_shrunk(planes, color, scale) for planes in truth]
    chosen = [each for each in candidates(model, scale) if each.tuned_for != tuned_for]
    chosen.append(Candidate(model, weights))
    made: dict[str, dict[str, float]] = {}
    with ExitStack() as opened:
        methods = list(_methods(chosen, scale, color, Execution(), opened))
        for asked in (None, *CRFS):
            seen = small
            if asked is not None:
                seen = list(Compression(small, "libx264", _options(asked, "medium"), rate))
            made[SIGN if asked is None else f"crf{asked}"] = {
                tuned_for if kind == _OWN else kind or name: round(
                    fmean(psnr(*pair) for pair in _inner(truth[::3], enlarge(seen[::3]), scale)), 2
                )
                for name, kind, enlarge in methods
            }
    return made


def _read(clip: Path, scale: int, frames: int) -> tuple[ColorSpec, Fraction, list[Planes]]:
    """How to read the clip, its frame rate, and its frames in 8-bit 4:2:0, cropped so that the small size is even."""
    unit = 2 * scale
    source = Source(clip, Selection(frames=frames))
    color, truth = ColorSpec(), []
    try:
        for frame in source:
            if frame.is_gray:
                raise UsageError(f"Expected a clip with color, got {source.name} in gray")
            color, planes = frame.color, frame.planes[:3]
            if (color.depth, color.subsampling) != _FORMAT or color.floating or color.matrix is Matrix.RGB:
                is_rgb = color.matrix is Matrix.RGB
                target = replace(color, depth=8, subsampling=(1, 1), floating=False)
                target = replace(target, matrix=Matrix.BT709, range=Range.LIMITED) if is_rgb else target
                color, planes = target, convert(planes, color, target)
            height, width = (side // unit * unit for side in planes[0].shape)
            y, cb, cr = planes
            half = (slice(height // 2), slice(width // 2))
            truth.append((y[:height, :width].copy(), cb[half].copy(), cr[half].copy()))
    finally:
        source.close()
    if len(truth) < 2 or min(truth[0][0].shape) < 11 + 2 * scale:
        raise UsageError(f"Expected a clip of two frames or more, and of some size, got {len(truth)} of {source.name}")
    return color, source.frame_rate or Fraction(25), truth


def _shrunk(planes: Planes, color: ColorSpec, scale: int) -> Planes:
    """Shrink planes bicubically with antialiasing, chroma to its siting with the smaller luma."""
    (fy, fx), (oy, ox) = chroma_grid(color)
    # The first small chroma sample lies at (o + 0.5)·scale − 0.5 of large luma; resample puts it in the middle.
    shifts = [(0.0, 0.0)] + 2 * [
        (((oy + 0.5) / fy - 0.5) * (scale - 1), ((ox + 0.5) / fx - 0.5) * (scale - 1)),
    ]
    made = []
    for plane, shift in zip(planes, shifts, strict=True):
        x = torch.from_numpy(plane).to(torch.float64)
        for dim in (0, 1):
            x = resample(x, dim, plane.shape[dim] // scale, 1 / scale, shift=shift[dim])
        made.append(torch.floor(x + 0.5).clamp(0, 255).to(torch.uint8).numpy())
    return made[0], made[1], made[2]


def _options(crf: float, preset: str | None) -> dict[str, str]:
    return {"crf": f"{crf:g}"} | ({"preset": preset} if preset else {})


def _methods(
    chosen: Sequence[Candidate], scale: int, color: ColorSpec, execution: Execution, opened: ExitStack
) -> Iterator[tuple[str, str | None, Enlarge]]:
    """Each method's name, what its weights are tuned for, and its function for frames; ``opened`` closes them."""
    bicubic = opened.enter_context(interpolation("bicubic", scale, execution))
    yield "bicubic", None, _through(bicubic, color)
    yield "lanczos", None, lambda frames: [lanczos(planes, scale) for planes in frames]
    for each in chosen:
        upscaler = opened.enter_context(each.open(scale, execution))
        yield each.model, _OWN if each.weights else each.tuned_for, _through(upscaler, color)


def _through(upscaler: Upscaler, color: ColorSpec) -> Enlarge:
    def enlarge(frames: Sequence[Planes]) -> list[Planes]:
        asked = [Frame(planes, index, Fraction(1, 25), color=color) for index, planes in enumerate(frames)]
        made: list[Planes] = []
        for frame in upscaler.stage(frame for frame in asked):
            y, cb, cr = frame.planes[:3]
            made.append((y, cb, cr))
        return made

    return enlarge


def _row(
    crf: float | None,
    kbps: float | None,
    name: str,
    tuned_for: str | None,
    truth: Sequence[Planes],
    result: Sequence[Planes],
    scale: int,
) -> Row:
    pairs = _inner(truth, result, scale)
    return Row(
        crf,
        kbps,
        name,
        tuned_for,
        fmean(psnr(*pair) for pair in pairs),
        fmean(ssim(*pair) for pair in pairs),
        vmaf(truth, result) if has_vmaf() else None,
        flicker([right for right, _ in pairs], [made for _, made in pairs]),
    )


def _inner(truth: Sequence[Planes], result: Sequence[Planes], scale: int) -> list[tuple[Luma, Luma]]:
    """Pairs of luma, without a border of ``scale`` samples."""
    inside = (slice(scale, -scale), slice(scale, -scale))
    return [(right[0][inside], made[0][inside]) for right, made in zip(truth, result, strict=True)]


def flicker(truth: Sequence[NDArray[np.uint8]], result: Sequence[NDArray[np.uint8]]) -> float:
    """How much the changes from frame to frame differ from the original's: see the module.

    Args:
        truth: (H, W) luma, two frames or more.
        result: As many of the same shape.
    """
    error = [made.astype(np.float64) - right for right, made in zip(truth, result, strict=True)]
    return fmean(float(np.abs(later - earlier).mean()) for earlier, later in pairwise(error))
