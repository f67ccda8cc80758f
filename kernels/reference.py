"""What each kernel computes, in plain torch: the slow version that every fast one is measured and checked against.

Every function takes any floating dtype on any device (float64 gives the truth) and any batch. Positions are in samples
with the centre of the first one at 0; a picture's edge is at −0.5.
"""

from __future__ import annotations

import math
import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_exact_lock = threading.Lock()
_exact_now = 0
_put_back: Callable[[], None]

Edges = Literal["replicate", "symmetric"]
Activation = Literal["none", "relu", "leaky", "prelu", "tanh", "sigmoid"]


@dataclass(frozen=True)
class SampleFormat:
    """How a plane of integer samples is stored; without one, samples are floating point in [0, 1].

    Attributes:
        peak: The sample that is 1.
        depth: Bits of a sample.
    """

    peak: int
    depth: int

    @property
    def dtype(self) -> torch.dtype:
        """What holds a sample."""
        return torch.uint8 if self.depth == 8 else torch.uint16


@dataclass(frozen=True)
class Layer:
    """A convolution and what is done with its sums before they reach memory.

    The order is: convolution, bias, activation, scale, pixel shuffle, residual, the activation after it.

    Attributes:
        weight: (out, in, k, k).
        bias: (out,), or None.
        padding: Samples around the picture.
        edges: What they are: zeros, or the edge sample repeated.
        activation: Its name.
        slope: Of "leaky" and "prelu" below zero: (out,) or (1,).
        scale: Multiplies what comes out of the activation.
        shuffle: r of the pixel shuffle; 1 is none.
        after: What follows the residual: "none" or "relu".
    """

    weight: Tensor
    bias: Tensor | None = None
    padding: int = 0
    edges: Literal["zeros", "replicate"] = "zeros"
    activation: Activation = "none"
    slope: Tensor | None = None
    scale: float = 1.0
    shuffle: int = 1
    after: Literal["none", "relu"] = "none"


def convolution(
    x: Tensor,
    layer: Layer,
    *,
    residual: Tensor | None = None,
    source: SampleFormat | None = None,
    target: SampleFormat | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A layer, from floating-point or native samples to either.

    Args:
        x: (N, in, H, W), samples of ``source``.
        layer: What to compute, in the dtype of its weights.
        residual: (N, out / r², H', W'), floating point; added after the shuffle.
        source: Format of ``x``, if it is not floating point.
        target: ″ of the result, which is stored as `to_samples` does.
        dtype: Of a result in floating point; by default that of the weights.

    Returns:
        (N, out / r², (H + 2·padding − k + 1)·r, …).
    """
    if source is not None:
        x = to_unit(x, source.peak)
    x = x.to(layer.weight.dtype)
    if layer.edges == "replicate":
        x = F.conv2d(F.pad(x, (layer.padding,) * 4, mode="replicate"), layer.weight, layer.bias)
    else:
        x = F.conv2d(x, layer.weight, layer.bias, padding=layer.padding)
    if layer.activation == "tanh":
        x = torch.tanh(x)
    elif layer.activation == "sigmoid":
        x = torch.sigmoid(x)
    elif layer.activation == "relu":
        x = F.relu(x)
    elif layer.slope is not None:
        x = F.prelu(x, layer.slope.to(x))
    x = x if layer.scale == 1.0 else x * layer.scale
    x = pixel_shuffle(x, layer.shuffle)
    x = x if residual is None else x + residual
    x = F.relu(x) if layer.after == "relu" else x
    if target is not None:
        return to_samples(x.to(torch.promote_types(x.dtype, torch.float32)), target.depth, peak=target.peak)
    return x.to(dtype or layer.weight.dtype)


def pixel_shuffle(x: Tensor, r: int) -> Tensor:
    """Rearrange (N, C·r², H, W) into (N, C, H·r, W·r): output (y·r + i, x·r + j) is channel c·r² + i·r + j.

    Source: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network", CVPR 2016, eq. 4.
    """
    return F.pixel_shuffle(x, r)


def chain(
    x: Tensor,
    layers: tuple[Layer, ...],
    *,
    source: SampleFormat | None = None,
    target: SampleFormat | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Two or more layers, one after the other: a whole network. The arguments are those of `convolution`."""
    first, *middle, last = layers
    x = convolution(x, first, source=source)
    for layer in middle:
        x = convolution(x, layer)
    return convolution(x, last, target=target, dtype=dtype)


def shuffle_to_samples(
    x: Tensor, r: int, target: SampleFormat, *, bias: Tensor | None = None, base: Tensor | None = None
) -> Tensor:
    """The end of a network: bias, pixel shuffle, what the picture is added to, clamp, round, native samples.

    Args:
        x: (N, C·r², H, W), floating point.
        r: Of the shuffle; 1 is none.
        target: Of the result.
        bias: (C·r²,), added first.
        base: (N, C, H·r, W·r), added after the shuffle: the picture enlarged in a simpler way.

    Returns:
        (N, C, H·r, W·r).
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    x = x if bias is None else x + bias.to(x)[:, None, None]
    x = pixel_shuffle(x, r)
    return to_samples(x if base is None else x + base, target.depth, peak=target.peak)


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
        edges: What lies outside: the edge sample ("replicate"), or the mirror image ("symmetric", as zimg does).
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
    """(size, taps) weights in float64 of `resample`, and the input index that each one belongs to."""
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
    if c != 1:  # luma needs no reshape, which graphs of other programs would keep for one size of frame
        x = x.reshape(n * c, 1, h, w)
    if edges == "symmetric":
        x = _pad_symmetric(_pad_symmetric(x, 2, top, bottom), 3, left, right)
    else:
        x = F.pad(x, (left, right, top, bottom), mode="replicate")
    with exact_float32(x):
        x = F.conv2d(x, kernel)  # (N·C, scale², H, W)
    x = F.pixel_shuffle(x, scale).to(dtype)
    return x if c == 1 else x.reshape(n, c, h * scale, w * scale)


def exact_float32(x: Tensor) -> AbstractContextManager[None]:
    """Let convolutions of float32 on CUDA keep all their bits, where torch would round factors to 11."""
    if not x.is_cuda or torch.compiler.is_compiling():
        return nullcontext()
    return _exact()


@contextmanager
def _exact() -> Iterator[None]:
    """Of several threads at once the first sets what torch has once for all of them, and the last puts it back."""
    global _exact_now, _put_back
    with _exact_lock:
        if _exact_now == 0:
            _put_back = _forbid_tf32()
        _exact_now += 1
    try:
        yield
    finally:
        with _exact_lock:
            _exact_now -= 1
            if _exact_now == 0:
                _put_back()


def _forbid_tf32() -> Callable[[], None]:
    """Change what torch has once for all threads; give what puts it back."""
    cudnn: Any = torch.backends.cudnn
    try:
        before = cudnn.allow_tf32
    except RuntimeError:  # torch refuses this reading once `fp32_precision`, its newer name, has been set
        conv = cudnn.conv
        before = conv.fp32_precision
        conv.fp32_precision = "ieee"
        return partial(setattr, conv, "fp32_precision", before)
    cudnn.allow_tf32 = False
    return partial(setattr, cudnn, "allow_tf32", before)


def _phase_kernel(numbers: tuple[float, ...], shape: tuple[int, int, int, int], x: Tensor) -> Tensor:
    """Weights where ``x`` is, float32 or float64; on CUDA they are sent once, for sending waits for the device."""
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

    Plain numbers, because what traces or compiles a network would record tensors, or not, as the cache has it.
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
    """Which of ``length`` samples stands at each place of their extension by their mirror image (… b a | a b …)."""
    index = torch.arange(-before, length + after, device=device) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # as for `taps`
def _mirrored(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """`_mirror_image`, once for all frames."""
    return _mirror_image(length, before, after, device)


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
    x = samples.to(torch.float32)
    x = x.index_select(1, _mirrored(x.shape[1], top, bottom, x.device))
    x = x.index_select(2, _mirrored(x.shape[2], left, right, x.device))
    # Sums of shifted pictures, phase by phase: on a CPU a third of the time of a convolution and its shuffle.
    x = torch.stack([_weighted_sum(x, 1, weights) for weights in vertical], 2).flatten(1, 2)
    columns = [to_samples(_weighted_sum(x, 2, weights), depth) for weights in horizontal]
    return torch.stack(columns, 3).flatten(2, 3)[:, : shape[0], : shape[1]]


def _weighted_sum(x: Tensor, dim: int, weights: tuple[float, ...]) -> Tensor:
    """Correlate one dimension with a few weights; it gets shorter by all but one of them."""
    length = x.shape[dim] - len(weights) + 1
    terms = [(x.narrow(dim, index, length), weight) for index, weight in enumerate(weights) if weight != 0.0]
    total = terms[0][0] * terms[0][1]
    for term, weight in terms[1:]:
        total.add_(term, alpha=weight)
    return total


def to_unit(samples: Tensor, peak: int) -> Tensor:
    """Integer samples of any shape to float32 in [0, 1]: divided by ``peak``, which becomes 1, and clamped."""
    return samples.to(torch.float32).div_(peak).clamp_(max=1.0)


_STRIP = 1 << 18  # samples: 1 MiB of float32


def to_samples(x: Tensor, depth: int, *, peak: int | None = None) -> Tensor:
    """Floating samples of any shape to integers of ``depth`` bits: rounded to the nearest, never truncated.

    Args:
        x: Code values, or with ``peak`` values in [0, 1]; what lies outside is clamped.
        depth: 8 gives uint8, 9 to 16 uint16.
        peak: The code value of 1.0.
    """
    result = torch.empty(x.shape, dtype=torch.uint8 if depth == 8 else torch.uint16, device=x.device)
    # Large pictures on a CPU in strips, so that what lies between does not leave the cache: nearly twice as fast.
    dim = max(0, x.dim() - 2)
    rows = x.shape[dim] if not x.is_cpu or x.numel() <= 8 * _STRIP else max(1, _STRIP * x.shape[dim] // x.numel())
    for samples, strip in zip(result.split(rows, dim), x.split(rows, dim), strict=True):
        code = strip.clamp(0, (1 << depth) - 1) if peak is None else (strip * peak).clamp_(0, peak)
        code = code.round_()
        # By way of int16, because torch has no fast way from floating point to bytes.
        samples.copy_(code.to(torch.int16) if depth == 8 else code)
    return result


def planes_to_rgb(
    planes: tuple[Tensor, Tensor, Tensor],
    matrix: Tensor,
    subsampling: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Native planes to the three components a matrix makes of them, at the size of the first plane.

    Args:
        planes: Y (N, H, W) and two of ⌈H/f⌉ × ⌈W/f⌉, integer or floating code values.
        matrix: (3, 4): three weights and a constant for each component; holds color matrix, range and depth.
        subsampling: (vertical, horizontal) luma samples per chroma sample, the f above.
        offset: (vertical, horizontal) place of the first chroma sample, in luma samples from the first one.

    Returns:
        (N, 3, H, W), float32 for integer planes, not clamped.
    """
    luma, *chroma = (plane if plane.is_floating_point() else plane.to(torch.float32) for plane in planes)
    height, width = luma.shape[-2:]
    full = [luma]
    for plane in chroma:
        x = plane[:, None]
        for dim, length, f, place in ((2, height, subsampling[0], offset[0]), (3, width, subsampling[1], offset[1])):
            if f > 1:
                x = resample(x, dim, length, f, shift=0.5 - (place + 0.5) / f, edges="symmetric")
        full.append(x[:, 0])
    return mix(torch.stack(full, 1), matrix)


def rgb_to_planes(
    x: Tensor,
    matrix: Tensor,
    depth: int,
    subsampling: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> tuple[Tensor, ...]:
    """What a matrix makes of RGB, as native planes: subsampled (antialiased, sited), rounded once.

    Args:
        x: (N, 3, H, W), floating point.
        matrix: (P, 4): three weights and a constant for each of P planes; holds color matrix, range and depth.
        depth: Bits of a sample.
        subsampling: (vertical, horizontal) luma samples per chroma sample, for all planes but the first.
        offset: (vertical, horizontal) place of the first chroma sample, in luma samples from the first one.

    Returns:
        P planes: the first (N, H, W), the others of ⌈H/f⌉ × ⌈W/f⌉, uint8 or uint16.
    """
    mixed = mix(x, matrix)
    planes = [mixed[:, index : index + 1] for index in range(mixed.shape[1])]
    for index in range(1, len(planes)):
        for dim, f, place in ((2, subsampling[0], offset[0]), (3, subsampling[1], offset[1])):
            if f > 1:
                size = -(-planes[index].shape[dim] // f)
                shift = place + 0.5 - 0.5 * f
                planes[index] = resample(planes[index], dim, size, 1 / f, shift=shift, edges="symmetric")
    return tuple(to_samples(plane[:, 0], depth) for plane in planes)


def mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the components of (N, C, H, W) by a (P, C) matrix and add its last column: (P, C + 1) in all."""
    weights = matrix.to(x)
    return torch.einsum("pc,nchw->nphw", weights[:, :-1], x) + weights[:, -1, None, None]
