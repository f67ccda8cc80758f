"""Bicubic interpolation by any ratio, and by whole numbers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..exact import exact_float32
from .samples import to_samples

Edges = Literal["replicate", "symmetric"]

_STRIP = 1 << 16  # samples: 256 KiB of float32


def cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = −0.5, the "bicubic" of MATLAB, of the SR literature, and of zimg with b=0, c=0.5.

    Source: Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE TASSP 1981, eq. 15.
    """
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x <= 1.0, near, torch.where(x <= 2.0, far, torch.zeros_like(x)))


def resample(x: Tensor, dim: int, size: int, ratio: float, *, shift: float = 0.0, edges: Edges = "replicate") -> Tensor:
    """Resize one dimension bicubically, widening the kernel when shrinking (antialiasing), as MATLAB's imresize does.

    Args:
        x: Any shape, floating point.
        dim: The dimension to resize.
        size: Its new length.
        ratio: New samples per old sample (2.0 doubles, 0.5 halves).
        shift: Added to the input position of every output sample, in input samples.
        edges: The samples outside: the edge sample ("replicate"), or the mirror image ("symmetric", as in zimg).
    """
    weights, index = taps(x.shape[dim], size, ratio, shift, edges)
    moved = x.movedim(dim, -1)
    gathered = moved[..., index.to(x.device)]  # (..., size, taps)
    return (gathered * weights.to(x)).sum(-1).movedim(-1, dim)


def resize(x: Tensor, shape: tuple[int, int], ratio: tuple[float, float], shift: tuple[float, float]) -> Tensor:
    """Resample planes to any size: two passes of `resample` with symmetric edges.

    Args:
        x: (…, H, W), floating point.
        shape: (height, width) of the result.
        ratio: (vertical, horizontal), as in `resample`; and so is ``shift``.
        shift: ″
    """
    for dim in (-2, -1):
        x = resample(x, dim, shape[dim], ratio[dim], shift=shift[dim], edges="symmetric")
    return x


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # the cache must hold tensors that autograd may use as well
def taps(length: int, size: int, ratio: float, shift: float, edges: Edges) -> tuple[Tensor, Tensor]:
    """The (size, taps) float64 weights of `resample`, and the input index of each."""
    shrink = min(ratio, 1.0)
    position = (torch.arange(size, dtype=torch.float64) + 0.5) / ratio - 0.5 + shift
    count = int(-(-4.0 / shrink // 1)) + 2
    first = torch.floor(position - 2.0 / shrink).to(torch.int64)
    index = first[:, None] + torch.arange(count)
    weights = cubic((position[:, None] - index) * shrink)
    weights = weights / weights.sum(1, keepdim=True)
    if edges == "symmetric":
        index = index % (2 * length)
        index = torch.where(index < length, index, 2 * length - 1 - index)
    return weights, index.clamp(0, length - 1)


def enlarge(x: Tensor, scale: int, *, shift: tuple[float, float] = (0.0, 0.0), edges: Edges = "replicate") -> Tensor:
    """Enlarge (N, C, H, W) to (N, C, H·scale, W·scale) bicubically: one convolution to scale² phases, and a shuffle.

    The same numbers as two passes of `resample`, in a form that every backend runs and exports.

    Args:
        x: (N, C, H, W), floating point.
        scale: Whole number.
        shift: (vertical, horizontal), added to the input position of every output sample, in input samples.
        edges: As in `resample`.
    """
    n, c, h, w = x.shape
    vertical, top, bottom = _phases(scale, shift[0])
    horizontal, left, right = _phases(scale, shift[1])
    numbers = tuple(v * u for column in vertical for row in horizontal for v in column for u in row)
    kernel = _phase_kernel(numbers, (scale * scale, 1, len(vertical[0]), len(horizontal[0])), x)
    dtype, x = x.dtype, x.to(kernel.dtype)
    if c != 1:  # luma needs no reshape, which exported graphs would fix to one size of frame
        x = x.reshape(n * c, 1, h, w)
    if edges == "symmetric":
        x = _pad_symmetric(_pad_symmetric(x, 2, top, bottom), 3, left, right)
    else:
        x = F.pad(x, (left, right, top, bottom), mode="replicate")
    with exact_float32(x):
        x = F.conv2d(x, kernel)  # (N·C, scale², H, W)
    x = F.pixel_shuffle(x, scale).to(dtype)
    return x if c == 1 else x.reshape(n, c, h * scale, w * scale)


def enlarge_samples(
    samples: Tensor, scale: int, depth: int, shape: tuple[int, int], shift: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """Enlarge native samples to native samples, as `enlarge` does with symmetric edges; rounded once, in float32.

    Args:
        samples: (N, H, W), uint8 or uint16.
        scale: Whole number.
        depth: Bits of a sample.
        shape: (height, width) of the result: at most H·scale × W·scale, of which it is the top left corner.
        shift: (vertical, horizontal), as in `enlarge`.
    """
    (vertical, top, bottom), (horizontal, left, right) = (_phases(scale, part) for part in shift)
    count, height, width = samples.shape
    x = samples.to(torch.float32)
    x = x.index_select(1, _mirrored(height, top, bottom, x.device))
    x = x.index_select(2, _mirrored(width, left, right, x.device))
    result = samples.new_empty((count, height * scale, width * scale))
    phases = result.view(count, height, scale, width, scale)
    # Sums of shifted images, phase by phase: on a CPU a third of the time of a convolution and its shuffle. In strips,
    # whose intermediate results stay in the cache: half of that.
    rows = max(1, _STRIP // (count * width)) if x.is_cpu else height
    for first in range(0, height, rows):
        last = min(first + rows, height)
        strip = x[:, first : last + top + bottom]
        for row, weights in enumerate(vertical):
            tall = _weighted_sum(strip, 1, weights)
            for column, across in enumerate(horizontal):
                phases[:, first:last, row, :, column] = to_samples(_weighted_sum(tall, 2, across), depth)
    return result[:, : shape[0], : shape[1]]


def _weighted_sum(x: Tensor, dim: int, weights: tuple[float, ...]) -> Tensor:
    """Correlate one dimension with a few weights; it gets shorter by their number minus 1."""
    length = x.shape[dim] - len(weights) + 1
    terms = [(x.narrow(dim, index, length), weight) for index, weight in enumerate(weights) if weight != 0.0]
    total = terms[0][0] * terms[0][1]
    for term, weight in terms[1:]:
        total.add_(term, alpha=weight)
    return total


def _phase_kernel(numbers: tuple[float, ...], shape: tuple[int, int, int, int], x: Tensor) -> Tensor:
    """Weights on the device of ``x``, float32 or float64; copied to CUDA only once, as a copy waits for the device."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if type(x) is Tensor and x.is_cuda and not torch.compiler.is_compiling():
        return _sent(numbers, shape, dtype, x.device)
    return x.new_tensor(numbers, dtype=dtype).reshape(shape)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # as for `taps`
def _sent(
    numbers: tuple[float, ...], shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device).reshape(shape)


@lru_cache(maxsize=64)
def _phases(scale: int, shift: float) -> tuple[tuple[tuple[float, ...], ...], int, int]:
    """The weights of each output phase, and how many samples they reach before and after.

    They are plain numbers, because tracing or compiling a network would record tensors only if they are not cached.
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


def _pad_symmetric(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    return x.index_select(dim, _mirror_image(x.shape[dim], before, after, x.device))


def _mirror_image(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """For each position of an extension by the mirror image (… b a | a b …), the index among ``length`` samples."""
    index = torch.arange(-before, length + after, device=device) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # as for `taps`
def _mirrored(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """`_mirror_image`, once for all frames."""
    return _mirror_image(length, before, after, device)
