"""Planes of native samples without torch: how a luma network reads them, and bicubic enlargement in NumPy."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .frames import Range

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .frames import ColorSpec, Samples

_STRIP = 1 << 15  # samples


class SampleFormat(NamedTuple):
    """How a plane of integer samples is stored; the kernels have one of their own, with torch's type.

    Attributes:
        peak: The sample that means 1.
        depth: Bits of a sample.
    """

    peak: int
    depth: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a sample."""
        return np.dtype(np.uint8 if self.depth == 8 else np.uint16)


def luma_format(color: ColorSpec) -> SampleFormat:
    """How a luma network reads stored Y: its input is the same for 8 and 10 bits, and as in training."""
    return SampleFormat(255 << (color.depth - 8) if color.range is Range.LIMITED else color.peak, color.depth)


def chroma_grid(color: ColorSpec) -> tuple[tuple[int, int], tuple[float, float]]:
    """(vertical, horizontal) luma samples per chroma sample, and the first chroma sample's position among them."""
    fx, fy = (1 << log2 for log2 in color.subsampling)
    x, y = color.chroma_location.value
    return (fy, fx), ((fy - 1) * (y + 1) / 2, (fx - 1) * (x + 1) / 2)


def to_unit(samples: Samples, peak: int) -> NDArray[np.float32]:
    """Integer samples to float32 in [0, 1]: divided by ``peak``, which becomes 1, and clamped."""
    x = samples.astype(np.float32)
    x /= np.float32(peak)
    return np.minimum(x, np.float32(1), out=x)


def enlarge_plane(
    planes: Samples,
    scale: int,
    depth: int,
    shape: tuple[int, int],
    spacing: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> Samples:
    """Enlarge planes bicubically, mirrored at the edges; samples keep their position in the picture. Rounded once.

    Source: Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE TASSP 1981, eq. 15.

    Args:
        planes: (N, H, W), uint8 or uint16.
        scale: Whole number.
        depth: Bits of a sample.
        shape: (height, width) of the result: at most H·scale × W·scale, of which it is the top left corner.
        spacing: (vertical, horizontal) luma samples per sample.
        offset: (vertical, horizontal) position of the first sample, in luma samples from the first luma sample.
    """
    most = np.float32((1 << depth) - 1)
    large = np.empty((planes.shape[0], planes.shape[1] * scale, planes.shape[2] * scale), planes.dtype)

    def rounded(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.clip(np.rint(x, out=x), 0, most, out=x)

    _enlarge(planes, large, scale, shifts(scale, spacing, offset), "symmetric", rounded)
    return large[:, : shape[0], : shape[1]]


def enlarge_unit(x: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Enlarge floating-point samples bicubically, edge samples repeated, as `models.layers.BicubicUpsample` does.

    Args:
        x: (N, C, H, W).
        scale: Whole number.
    """
    n, c, h, w = x.shape
    large = np.empty((n * c, h * scale, w * scale), np.float32)
    _enlarge(x.reshape(n * c, h, w), large, scale, (0.0, 0.0), "edge", lambda x: x)
    return large.reshape(n, c, h * scale, w * scale)


def _enlarge(
    planes: Samples,
    large: Samples,
    scale: int,
    shift: tuple[float, float],
    edges: Literal["symmetric", "edge"],
    finish: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> None:
    """Fill ``large`` phase by phase with sums of shifted planes, in strips whose sums stay in the cache."""
    (vertical, top, bottom), (horizontal, left, right) = (_phases(scale, part) for part in shift)
    count, height, width = planes.shape
    x = np.pad(planes, ((0, 0), (top, bottom), (left, right)), edges).astype(np.float32, copy=False)
    phases = large.reshape(count, height, scale, width, scale)
    rows = max(1, _STRIP // (count * width))
    for first in range(0, height, rows):
        last = min(first + rows, height)
        strip = x[:, first : last + top + bottom]
        for row, down in enumerate(vertical):
            tall = _weighted_sum([strip[:, index : index + last - first] for index in range(len(down))], down)
            for column, across in enumerate(horizontal):
                wide = _weighted_sum([tall[:, :, index : index + width] for index in range(len(across))], across)
                phases[:, first:last, row, :, column] = finish(wide)


def shifts(scale: int, spacing: tuple[int, int], offset: tuple[float, float]) -> tuple[float, float]:
    """(vertical, horizontal) input samples by which an enlargement must shift for samples to keep their position."""
    y, x = ((0.5 - (place + 0.5) / f) * (1 - 1 / scale) for place, f in zip(offset, spacing, strict=True))
    return y, x


def _weighted_sum(terms: list[NDArray[np.float32]], weights: tuple[float, ...]) -> NDArray[np.float32]:
    total = terms[0] * np.float32(weights[0])
    part = np.empty_like(total)
    for term, weight in zip(terms[1:], weights[1:], strict=True):
        if weight != 0.0:
            np.multiply(term, np.float32(weight), out=part)
            total += part
    return total


@lru_cache(maxsize=64)
def _phases(scale: int, shift: float) -> tuple[tuple[tuple[float, ...], ...], int, int]:
    """The weights of each output phase, and how many samples they reach before and after.

    As in `kernels.reference`, which imports torch; a test compares both enlargements.
    """
    positions = [(phase + 0.5) / scale - 0.5 + shift for phase in range(scale)]
    low = math.floor(min(positions)) - 1
    high = math.floor(max(positions)) + 2
    weights = tuple(tuple(_cubic(position - index) for index in range(low, high + 1)) for position in positions)
    return weights, -low, high


def _cubic(x: float) -> float:
    x = abs(x)
    if x <= 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x <= 2.0 else 0.0
