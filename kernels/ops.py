"""The kernels as operators of torch: named, with a rule for shapes, so that torch.compile and torch.export see them.

They live under ``torch.ops.vsr_plugin``, compute on CUDA (on the CPU under ``TRITON_INTERPRET=1``), and are not
differentiable. A layer's form travels as text, for an operator takes nothing but tensors, numbers and text.
"""

# No postponed annotations here: torch reads the types.

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache

import torch
from torch import Tensor

from . import color, convolution, espcn, fsrcnn, sampling, strip
from .convolution import Form, Packed
from .convolution import pack as pack
from .launch import INTERPRETED as INTERPRETED
from .launch import LOCK as LOCK
from .launch import probe as probe

WHOLE = {"espcn": espcn.fits, "fsrcnn": fsrcnn.fits}  # networks in one kernel, and which chains of layers they take


def to_text(*forms: Form) -> str:
    """Forms as an operator takes them."""
    return json.dumps([asdict(form) for form in forms])


@lru_cache(maxsize=1024)
def _forms(text: str) -> tuple[Form, ...]:
    return tuple(Form(**fields) for fields in json.loads(text))


@torch.library.custom_op("vsr_plugin::convolution", mutates_args=())
def layer(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    slope: Tensor,
    residual: Tensor | None,
    form: str,
    peak: int | None,
    depth: int | None,
    out_peak: int | None,
    dtype: torch.dtype,
) -> Tensor:
    """`convolution.convolution`, of a layer taken apart."""
    packed = Packed(weight, bias, slope, _forms(form)[0])
    return convolution.convolution(x, packed, residual=residual, peak=peak, depth=depth, out_peak=out_peak, dtype=dtype)


@layer.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    slope: Tensor,
    residual: Tensor | None,
    form: str,
    peak: int | None,
    depth: int | None,
    out_peak: int | None,
    dtype: torch.dtype,
) -> Tensor:
    shape = _forms(form)[0].result(x.shape[0], x.shape[2], x.shape[3])
    return convolution.empty(shape, convolution.storage(depth, dtype), x.device)


def tensors_of(kernel: str, layers: Sequence[Packed]) -> list[Tensor]:
    """What `whole` takes of packed layers."""
    if kernel == "fsrcnn":
        maps = fsrcnn.join_maps(layers[2:-2])
        return [*strip.arguments(layers[:2]), *maps, *strip.arguments(layers[-2:])]
    return strip.arguments(layers)


def _joined(tensors: Sequence[Tensor], forms: Sequence[Form]) -> tuple[Packed, ...]:
    return tuple(
        Packed(weight, bias, slope, form)
        for weight, bias, slope, form in zip(tensors[::3], tensors[1::3], tensors[2::3], forms, strict=True)
    )


@torch.library.custom_op("vsr_plugin::whole", mutates_args=())
def whole(
    x: Tensor,
    tensors: Sequence[Tensor],
    kernel: str,
    forms: str,
    peak: int | None,
    depth: int | None,
    out_peak: int | None,
    dtype: torch.dtype,
) -> Tensor:
    """A network in one kernel: ``kernel`` is a key of `WHOLE`, ``tensors`` are those of `tensors_of`."""
    parts = _forms(forms)
    if kernel == "espcn":
        first, second, last = _joined(tensors, parts)
        return espcn.espcn(x, (first, second, last), peak=peak, depth=depth, out_peak=out_peak, dtype=dtype)
    ends = _joined([*tensors[:6], *tensors[9:]], (*parts[:2], *parts[-2:]))
    maps = (tensors[6], tensors[7], tensors[8])
    return fsrcnn.fsrcnn(x, ends, maps, peak=peak, depth=depth, out_peak=out_peak, dtype=dtype)


@whole.register_fake
def _(
    x: Tensor,
    tensors: Sequence[Tensor],
    kernel: str,
    forms: str,
    peak: int | None,
    depth: int | None,
    out_peak: int | None,
    dtype: torch.dtype,
) -> Tensor:
    return strip.result(x, _forms(forms)[-1].shuffle, convolution.storage(depth, dtype))


@torch.library.custom_op("vsr_plugin::pixel_shuffle", mutates_args=())
def pixel_shuffle(x: Tensor, r: int) -> Tensor:
    """`sampling.pixel_shuffle`."""
    return sampling.pixel_shuffle(x, r)


@pixel_shuffle.register_fake
def _(x: Tensor, r: int) -> Tensor:
    n, c, h, w = x.shape
    return torch.empty((n, c // r**2, h * r, w * r), dtype=x.dtype, device=x.device)


@torch.library.custom_op("vsr_plugin::shuffle_to_samples", mutates_args=())
def shuffle_to_samples(
    x: Tensor, r: int, depth: int, peak: int, bias: Tensor | None = None, base: Tensor | None = None
) -> Tensor:
    """`sampling.shuffle_to_samples`."""
    return sampling.shuffle_to_samples(x, r, depth, peak, bias=bias, base=base)


@shuffle_to_samples.register_fake
def _(x: Tensor, r: int, depth: int, peak: int, bias: Tensor | None = None, base: Tensor | None = None) -> Tensor:
    n, c, h, w = x.shape
    dtype = convolution.storage(depth, x.dtype)
    return torch.empty((n, c // r**2, h * r, w * r), dtype=dtype, device=x.device)


@torch.library.custom_op("vsr_plugin::enlarge", mutates_args=())
def enlarge(x: Tensor, scale: int, peak: int | None, dtype: torch.dtype) -> Tensor:
    """`color.enlarge` with the edges repeated, as networks want it."""
    return color.enlarge(x, scale, peak=peak, dtype=dtype)


@enlarge.register_fake
def _(x: Tensor, scale: int, peak: int | None, dtype: torch.dtype) -> Tensor:
    n, c, h, w = x.shape
    return torch.empty((n, c, h * scale, w * scale), dtype=dtype, device=x.device)


@torch.library.custom_op("vsr_plugin::enlarge_samples", mutates_args=())
def enlarge_samples(samples: Tensor, scale: int, depth: int, shape: Sequence[int], shift: Sequence[float]) -> Tensor:
    """`color.enlarge_samples`."""
    return color.enlarge_samples(samples, scale, depth, (shape[0], shape[1]), (shift[0], shift[1]))


@enlarge_samples.register_fake
def _(samples: Tensor, scale: int, depth: int, shape: Sequence[int], shift: Sequence[float]) -> Tensor:
    return torch.empty((len(samples), *shape), dtype=samples.dtype, device=samples.device)


@torch.library.custom_op("vsr_plugin::planes_to_rgb", mutates_args=())
def planes_to_rgb(
    y: Tensor, u: Tensor, v: Tensor, matrix: Sequence[float], subsampling: Sequence[int], offset: Sequence[float]
) -> Tensor:
    """`color.planes_to_rgb`, with the matrix as twelve numbers."""
    rows = torch.tensor(matrix, dtype=torch.float64).reshape(-1, 4)
    return color.planes_to_rgb((y, u, v), rows, (subsampling[0], subsampling[1]), (offset[0], offset[1]))


@planes_to_rgb.register_fake
def _(
    y: Tensor, u: Tensor, v: Tensor, matrix: Sequence[float], subsampling: Sequence[int], offset: Sequence[float]
) -> Tensor:
    return torch.empty((y.shape[0], 3, *y.shape[1:]), dtype=torch.float32, device=y.device)


@torch.library.custom_op("vsr_plugin::rgb_to_planes", mutates_args=())
def rgb_to_planes(
    x: Tensor, matrix: Sequence[float], depth: int, subsampling: Sequence[int], offset: Sequence[float]
) -> list[Tensor]:
    """`color.rgb_to_planes`, with the matrix as four or twelve numbers."""
    rows = torch.tensor(matrix, dtype=torch.float64).reshape(-1, 4)
    return list(color.rgb_to_planes(x, rows, depth, (subsampling[0], subsampling[1]), (offset[0], offset[1])))


@rgb_to_planes.register_fake
def _(
    x: Tensor, matrix: Sequence[float], depth: int, subsampling: Sequence[int], offset: Sequence[float]
) -> list[Tensor]:
    n, _, h, w = x.shape
    small = (-(-h // subsampling[0]), -(-w // subsampling[1]))
    shapes = [(h, w), *[small] * (len(matrix) // 4 - 1)]
    return [torch.empty((n, *s), dtype=convolution.storage(depth, x.dtype), device=x.device) for s in shapes]
