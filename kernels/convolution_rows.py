"""A convolution of 64 to 64 channels with 3 × 3 taps on Hopper, in Gluon: every row is fetched once, not nine times.

A program of four warps walks down a strip of 64 columns, of which 62 are kept, one row at a step; see `rows`. While a
row is multiplied, the next one arrives. Columns of the product are ordered so that a thread ends up with eight channels
in a row, which it stores at once.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from . import reference
from .convolution import convolution, empty
from .convolution import pack as pack_layer
from .examples import in_dtype, random_layer
from .gluon import async_copy, constexpr_function, fence_async_shared, jit
from .gluon import language as gl
from .launch import Tuned, check_offsets, numbers, processors
from .products import PIXELS, kind_of, operands, pack_rows, products
from .row_walk import rows_walked
from .rows import FLAT, place, row_layout, weights
from .strip import segment_rows
from .whole import architecture_of, is_right

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from .convolution import Form, Packed
    from .reference import SampleFormat

_CHANNELS = 64
_HALO = 1
_RESIDENT = 2  # programs per multiprocessor
_ACTIVATIONS = ("none", "relu", "leaky", "prelu")

CHANNELS = gl.constexpr(_CHANNELS)

# Eight pixels, 16 bytes of each: threads that write together write to different banks.
_FETCH = gl.constexpr(gl.BlockedLayout([1, 8], [8, 4], [4, 1], [0, 1]))


def _layout(registers: list[list[int]]) -> gl.DistributedLinearLayout:
    """(64, 64) over four warps as a product leaves it, whose columns `pack` has ordered."""
    lanes = [[0, 8], [0, 16], [1, 0], [2, 0], [4, 0]]
    return gl.DistributedLinearLayout(registers, lanes, [[16, 0], [32, 0]], block_bases=[], shape=[64, 64])


# The same numbers in the same threads: in the registers of the product, and with channels of a pixel one after another.
_SUMS = gl.constexpr(_layout([[0, 1], [8, 0], [0, 2], [0, 4], [0, 32]]))
_STORED = gl.constexpr(_layout([[0, 1], [0, 2], [0, 4], [0, 32], [8, 0]]))


@constexpr_function
def _products(kind):
    return products("wgmma", kind, (("row", 64, 64, 3),))


@constexpr_function
def _operands():
    return operands("wgmma", (("row", 64, 64, 3),))


@jit
def _fetch(row, x_ptr, y, left, height, width, stride_h, stride_w):
    """Start to fetch a row into shared memory; zeros beyond the image."""
    x = left - 1 + gl.arange(0, PIXELS, gl.SliceLayout(1, _FETCH))
    channel = gl.arange(0, CHANNELS, gl.SliceLayout(0, _FETCH))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    at = x_ptr + y.to(gl.int64) * stride_h + (x * stride_w)[:, None] + channel[None, :]
    async_copy.async_load(row, at, mask=inside[:, None])
    async_copy.commit_group()


@jit(do_not_specialize=["height", "width", "segment"])
def _convolution_rows_kernel(
    x_ptr, weight_ptr, bias_ptr, slope_ptr, residual_ptr, out_ptr, height, width, segment,
    stride_xn, stride_xh, stride_xw, stride_rn, stride_rh, stride_rw, stride_on, stride_oh, stride_ow, factor,
    ACTIVATION: gl.constexpr, AFTER: gl.constexpr, RESIDUAL: gl.constexpr, DTYPE: gl.constexpr,
):  # fmt: skip
    """Shapes: x, residual, out (N, height, width, 64); weights as `pack` leaves them."""
    KEPT: gl.constexpr = PIXELS - 2
    left, top, bottom, frame = place(height, width, segment, KEPT)
    x_ptr += frame * stride_xn
    residual_ptr += frame * stride_rn + (top.to(gl.int64) - 2) * stride_rh
    out_ptr += frame * stride_on + (top.to(gl.int64) - 2) * stride_oh

    room = gl.allocate_shared_memory(gl.int32, [2, 4096], FLAT)  # a row takes half; 32 bytes behind it are read
    row_type: gl.constexpr = row_layout(CHANNELS)
    weight = weights(weight_ptr, 9, CHANNELS * CHANNELS // 2, "wgmma")
    first = room.index(0).reinterpret(DTYPE, [PIXELS, CHANNELS], row_type)
    _fetch(first, x_ptr, top - 1, left, height, width, stride_xh, stride_xw)

    bias = gl.load(bias_ptr + gl.arange(0, CHANNELS, gl.SliceLayout(0, _SUMS)))
    bias = bias[None, :] + gl.full([PIXELS, CHANNELS], 0.0, gl.float32, _SUMS)
    offs_m = gl.arange(0, PIXELS, gl.SliceLayout(1, _STORED))
    channel = gl.arange(0, CHANNELS, gl.SliceLayout(0, _STORED))
    kept = (offs_m < KEPT) & (left + offs_m < width)
    offs_o = ((left + offs_m) * stride_ow)[:, None] + channel[None, :]
    offs_r = ((left + offs_m) * stride_rw)[:, None] + channel[None, :]
    slope = gl.load(slope_ptr + channel)[None, :]

    coming, this, last = bias, bias, bias  # sums of rows r + 1, r and r − 1
    for r in range(top - 1, bottom + 1):
        odd = (r - top + 1) & 1
        async_copy.wait_group(0)
        fence_async_shared()
        gl.barrier()  # the row is there, and all have read the one before
        if r < bottom:
            following = room.index(1 - odd).reinterpret(DTYPE, [PIXELS, CHANNELS], row_type)
            _fetch(following, x_ptr, r + 1, left, height, width, stride_xh, stride_xw)
        coming, this, last = gl.inline_asm(
            _products(kind_of(DTYPE)), _operands(), [coming, this, last, room.index(odd), weight],
            [coming.type, this.type, last.type], is_pure=False,
        )  # fmt: skip
        y = gl.convert_layout(last, _STORED)
        if ACTIVATION == "relu":
            y = gl.maximum(y, 0.0)
        elif ACTIVATION != "none":
            y = gl.where(y < 0.0, y * slope, y)
        y *= factor
        mask = (kept & (r > top))[:, None]
        if RESIDUAL:
            y += gl.load(residual_ptr + offs_r, mask=mask, other=0.0).to(gl.float32)
        if AFTER == "relu":
            y = gl.maximum(y, 0.0)
        gl.store(out_ptr + offs_o, y.to(out_ptr.dtype.element_ty), mask=mask)
        residual_ptr += stride_rh
        out_ptr += stride_oh
        coming, this, last = bias, coming, this


_tuned = Tuned(_convolution_rows_kernel, key=(), steps=lambda values: rows_walked(values, 2 * _HALO))


def fits(form: Form) -> bool:
    """Whether the kernel computes layers of this form."""
    shape = form.inputs, form.outputs, form.size, form.padding, form.edges, form.shuffle
    return shape == (_CHANNELS, _CHANNELS, 3, _HALO, "zeros", 1) and form.activation in _ACTIVATIONS


def is_for(architecture: int, dtype: torch.dtype) -> bool:
    """Whether the kernel is for GPUs of this compute capability, with weights of this type."""
    return architecture == 90 and dtype in (torch.float16, torch.bfloat16)


def supports(packed: Packed) -> bool:
    """Whether to use the kernel for a layer, on the device of its weights."""
    device, dtype = packed.weight.device, packed.weight.dtype
    return fits(packed.form) and is_for(architecture_of(device), dtype) and proves_itself(device, dtype)


@cache
def proves_itself(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel computes a small layer correctly: tried once, as for `WholeKernel`."""
    layer = random_layer(_CHANNELS, _CHANNELS, 3, activation="prelu", scale=0.5)
    shape = (2, _CHANNELS, 9, 70)
    random = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0)).to(device, dtype)
    x, residual = (each.contiguous(memory_format=torch.channels_last) for each in random)
    plain, truth = (
        reference.convolution(x.to(kind), in_dtype(layer, kind, device), residual=residual.to(kind))
        for kind in (dtype, torch.float64)
    )

    def compute() -> Tensor:
        packed = pack_layer(layer, dtype, device)
        return convolution_rows(x, packed, pack(packed), residual=residual)

    return is_right("convolution_hopper", compute, plain, truth)


def pack(packed: Packed) -> Tensor:
    """Pack the weights of a layer that `fits`, for the kernel."""
    n = torch.arange(_CHANNELS)  # the column of a product that belongs to a channel: see `_SUMS`
    order = 32 * (n // 32) + 8 * (n // 2 % 4) + 2 * (n // 8 % 4) + n % 2
    return pack_rows("wgmma", packed.weight[:, order.to(packed.weight.device)], _CHANNELS, _CHANNELS)


def convolution_rows(
    x: Tensor,
    packed: Packed,
    weight: Tensor,
    *,
    residual: Tensor | None = None,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Like `reference.convolution`, for a layer that `fits` and features that `_takes` accepts.

    Args:
        x: (N, 64, H, W).
        packed: The layer.
        weight: The result of `pack` for it.
        residual: (N, 64, H, W), floating point.
        dtype: Type of the result; by default that of the weights.
        out: (N, 64, H, W), channels last; written to.
    """
    form, kind = packed.form, packed.weight.dtype
    n, _, height, width = x.shape
    out = empty((n, _CHANNELS, height, width), dtype or kind, x.device) if out is None else out
    other = x if residual is None else residual
    check_offsets(*(tensor[..., :1, :] for tensor in (x, other, out)))  # rows are counted in 64 bits
    strips = n * -(-width // (PIXELS.value - 2 * _HALO))
    segment = segment_rows(strips, height, 2 * _HALO, processors(x.device), _RESIDENT)
    _tuned(
        lambda _: (strips * -(-height // segment),),
        [{"num_warps": 4}],
        x, weight, packed.bias, packed.slope, other, out, height, width, segment,
        *(tensor.stride(axis) for tensor in (x, other, out) for axis in (0, 2, 3)), float(form.scale),
        ACTIVATION=form.activation, AFTER=form.after, RESIDUAL=residual is not None, DTYPE=numbers(kind)["DTYPE"],
    )  # fmt: skip
    return out


def layer(packed: Packed) -> Callable[..., Tensor]:
    """A function for a layer that `fits`: it uses this kernel, or `convolution` for features that `_takes` rejects."""
    weight, kind = pack(packed), packed.weight.dtype

    def compute(
        x: Tensor,
        *,
        residual: Tensor | None = None,
        source: SampleFormat | None = None,
        target: SampleFormat | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        if target is None and _takes(x, residual, kind):
            return convolution_rows(x, packed, weight, residual=residual, dtype=dtype)
        return convolution(x, packed, residual=residual, source=source, target=target, dtype=dtype)

    return compute


def _takes(x: Tensor, residual: Tensor | None, kind: torch.dtype) -> bool:
    """Whether the kernel can fetch features: of its weights' type, channels last, at multiples of 16 bytes."""
    if x.dtype != kind or any(each.stride(1) != 1 for each in (x, residual) if each is not None):
        return False
    return x.data_ptr() % 16 == 0 and all(x.stride(axis) % 16 == 0 for axis in (0, 2, 3))
