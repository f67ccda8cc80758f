"""ESPCN in one kernel, in Gluon: activations never leave the multiprocessor.

A program of four warps walks down a strip of 64 columns, of which 60 are kept, and makes one row of every layer at a
step; see `rows`. A layer reads the row that the layer before it stored at the step before, so that no product of a step
waits for another one. The first layer, of one plane, reads its operand directly into registers, as pairs of samples
from a ring of eight input rows: K is 5 rows × 6 columns, and the bias in two parts.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from . import espcn
from .examples import espcn_layers
from .gluon import constexpr_function, jit
from .gluon import language as gl
from .launch import Tuned, numbers
from .products import PIXELS, kind_of, operands, pack_first, pack_rows, products, sums_layout
from .row_walk import rows_walked, whole_kernels
from .rows import (
    FLAT,
    input_row,
    keep_ones,
    keep_row,
    pixel_of_taps,
    place,
    publish,
    read_taps,
    row_layout,
    store_row,
    tanh,
    weights,
)
from .whole import PackedNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .convolution import Form, Packed

_HALO = 2
_LAG = 2  # layers that read rows of the step before

HALO = gl.constexpr(_HALO)
LAG = gl.constexpr(_LAG)
WIDE = gl.constexpr(64)  # channels of the first layer
NARROW = gl.constexpr(32)  # ″ of the second one


@constexpr_function
def _step(columns):
    return ("taps", 32, 64, 1), ("row", 64, 32, 3), ("row", 32, columns, 3)


@constexpr_function
def _products(unit, kind, columns):
    return products(unit, kind, _step(columns))


@constexpr_function
def _operands(unit, columns):
    return operands(unit, _step(columns))


@jit
def _bias(ptr, COLUMNS: gl.constexpr, UNIT: gl.constexpr):
    """The initial sums of a row: the bias."""
    layout: gl.constexpr = sums_layout(COLUMNS, UNIT)
    bias = gl.load(ptr + gl.arange(0, COLUMNS, gl.SliceLayout(0, layout)))
    return bias[None, :] + gl.full([PIXELS, COLUMNS], 0.0, gl.float32, layout)


@jit(do_not_specialize=["height", "width", "segment"])
def _espcn_rows_kernel(
    x_ptr, out_ptr, weight1_ptr, weight2_ptr, weight3_ptr, bias2_ptr, bias3_ptr,
    height, width, segment, stride_xn, stride_xh, stride_xw, stride_on, stride_oh, stride_ow, x_gain, out_peak,
    SCALE: gl.constexpr, SIDE: gl.constexpr, COLUMNS: gl.constexpr,
    FROM_SAMPLES: gl.constexpr, TO_SAMPLES: gl.constexpr, DTYPE: gl.constexpr, UNIT: gl.constexpr,
):  # fmt: skip
    """Shapes: x (N, height, width), out (N, height · SCALE, width · SCALE); weights as `pack` leaves them."""
    KIND: gl.constexpr = kind_of(DTYPE)
    KEPT: gl.constexpr = PIXELS - 2 * HALO
    SUMS1: gl.constexpr = sums_layout(WIDE, UNIT)
    SUMS2: gl.constexpr = sums_layout(NARROW, UNIT)
    left, top, bottom, frame = place(height, width, segment, KEPT)
    x_ptr += frame * stride_xn
    out_ptr += frame * stride_on

    # There is room behind each row: the taps of its last pixels read 32 bytes more, for columns that are not kept.
    room1 = gl.allocate_shared_memory(gl.int32, [9, PIXELS * WIDE // 16], FLAT)
    room2 = gl.allocate_shared_memory(gl.int32, [5, PIXELS * NARROW // 8], FLAT)
    row1 = room1.reinterpret(DTYPE, [PIXELS, WIDE], row_layout(WIDE))
    row2 = room2.reinterpret(DTYPE, [PIXELS, NARROW], row_layout(NARROW))
    ring = gl.allocate_shared_memory(gl.int32, [1024], FLAT)
    weight1 = weights(weight1_ptr, 1, 16 * WIDE, UNIT)
    weight2 = weights(weight2_ptr, 9, WIDE * NARROW // 2, UNIT)
    weight3 = weights(weight3_ptr, 9, NARROW * COLUMNS // 2, UNIT)
    keep_ones(ring, KIND)
    for above in gl.static_range(5):
        first = top - 4 + above
        coming = input_row(x_ptr, first, left - 4, height, width, stride_xh, stride_xw, x_gain, FROM_SAMPLES, KIND)
        keep_row(ring, coming, first)
    publish(UNIT)

    # Beyond the image a layer is zero. All factors of the first one are zero there, and so is its tanh.
    column1 = left - 2 + pixel_of_taps()
    wide1 = gl.where((column1 >= 0) & (column1 < width), -1, 0)
    column2 = left - 1 + gl.arange(0, PIXELS, gl.SliceLayout(1, SUMS2))
    wide2 = (column2 >= 0) & (column2 < width)
    on_edge = (left == 0) | (left + PIXELS - 1 > width)

    none1 = gl.full([PIXELS, WIDE], 0.0, gl.float32, SUMS1)
    bias2 = _bias(bias2_ptr, NARROW, UNIT)
    bias3 = _bias(bias3_ptr, COLUMNS, UNIT)

    next2, this2, last2 = bias2, bias2, bias2  # sums of rows r, r − 1 and r − 2 of the second layer
    next3, this3, last3 = bias3, bias3, bias3  # ″ r − 2, r − 3 and r − 4 of the last one
    for r in range(top - HALO, bottom + HALO + LAG):
        coming = input_row(x_ptr, r + 3, left - 4, height, width, stride_xh, stride_xw, x_gain, FROM_SAMPLES, KIND)
        words = read_taps(ring, r) & wide1 & gl.where((r >= 0) & (r < height), -1, 0)
        a, next2, this2, last2, next3, this3, last3 = gl.inline_asm(
            _products(UNIT, KIND, COLUMNS), _operands(UNIT, COLUMNS),
            [words, weight1, next2, this2, last2, row1, weight2, next3, this3, last3, row2, weight3],
            [none1.type, next2.type, next2.type, next2.type, next3.type, next3.type, next3.type], is_pure=False,
        )  # fmt: skip
        a = tanh(a).to(DTYPE)
        b = last2
        if on_edge | (r < 2) | (r - 2 >= height):
            b = gl.where((wide2 & (r >= 2) & (r - 2 < height))[:, None], b, 0.0)
        b = tanh(b).to(DTYPE)
        store_row(
            out_ptr, last3, r - 4, left, width, stride_oh, stride_ow, out_peak, r - 4 >= top,
            SCALE, SIDE, COLUMNS, KEPT, TO_SAMPLES,
        )  # fmt: skip
        gl.barrier()  # all have read the rows
        row1.store(a)
        row2.store(b)
        keep_row(ring, coming, r + 3)
        publish(UNIT)
        if UNIT == "mma":  # it needs registers for its operands: the biases are read again, and take none until then
            bias2 = _bias(bias2_ptr, NARROW, UNIT)
            bias3 = _bias(bias3_ptr, COLUMNS, UNIT)
        next2, this2, last2 = bias2, next2, this2
        next3, this3, last3 = bias3, next3, this3


_tuned = Tuned(_espcn_rows_kernel, key=(), steps=partial(rows_walked, extra=2 * _HALO + _LAG))


def fits(forms: Sequence[Form]) -> bool:
    """Whether a chain of layers is the paper's ESPCN."""
    if not espcn.fits(forms):
        return False
    first, second, last = forms
    return (
        (first.size, second.size, last.size) == (5, 3, 3)
        and (first.outputs, second.outputs) == (64, 32)
        and first.activation == second.activation == "tanh"
    )


def pack(unit: str, layers: Sequence[Packed]) -> PackedNetwork:
    """Pack three layers that `fits` accepts, for the kernel with one of the units; in float16 or bfloat16."""
    first, second, last = layers
    scale, dtype = last.form.shuffle, first.weight.dtype
    columns = 8 if scale == 2 else 16
    tensors = (
        pack_first(unit, first.weight, first.bias),
        pack_rows(unit, second.weight, 64, 32),
        pack_rows(unit, last.weight, 32, columns),
        second.bias,
        last.bias,
    )
    side = 2 if scale == 2 else 4
    constants = {"SCALE": scale, "SIDE": side, "COLUMNS": columns, "DTYPE": numbers(dtype)["DTYPE"], "UNIT": unit}
    return PackedNetwork(tensors, scale=scale, halo=_HALO, constants=constants)


# Three programs can have at most 168 registers per thread.
HOPPER, AMPERE = whole_kernels("espcn", _tuned, fits, pack, _LAG, resident=3, registers=168, example=espcn_layers)
