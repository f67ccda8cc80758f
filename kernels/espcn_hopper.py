"""ESPCN in one kernel for Hopper, in Gluon: no activation ever leaves the multiprocessor.

A program is one warpgroup. It walks down a strip of 64 columns, of which 60 are kept, and makes one row of every layer
at a step; see `rows` for how a row is multiplied. A layer reads the row that the layer before it left at the step
before, so that no product of a step waits for another one. The first layer, of one plane, takes its operand straight to
registers, as pairs of samples from a ring of eight input rows: K is 5 rows × 6 columns, and the bias in two parts.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from . import espcn
from .examples import espcn_layers
from .gluon import constexpr_function, fence_async_shared, jit
from .gluon import language as gl
from .hopper import rows_walked, walk
from .launch import Tuned, numbers
from .rows import (
    FLAT,
    PIXELS,
    copy_words,
    input_row,
    keep_ones,
    keep_row,
    kind_of,
    operands,
    pack_first,
    pack_rows,
    pixel_of_taps,
    place,
    products,
    read_taps,
    row_layout,
    store_row,
    sums_layout,
    tanh,
)
from .whole import PackedNetwork, WholeKernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .convolution import Form, Packed

_HALO = 2
_LAG = 2  # layers that read what was left at the step before

HALO = gl.constexpr(_HALO)
LAG = gl.constexpr(_LAG)
KEPT = gl.constexpr(60)  # columns of a strip
WIDE = gl.constexpr(64)  # channels of the first layer
NARROW = gl.constexpr(32)  # ″ of the second one


@constexpr_function
def _step(columns):
    return ("taps", 32, 64), ("row", 64, 32), ("row", 32, columns)


@constexpr_function
def _products(kind, columns):
    return products(kind, _step(columns))


@constexpr_function
def _operands(columns):
    return operands(_step(columns))


@jit(do_not_specialize=["height", "width", "segment"])
def _espcn_hopper_kernel(
    x_ptr, out_ptr, weight1_ptr, weight2_ptr, weight3_ptr, bias2_ptr, bias3_ptr,
    height, width, segment, stride_xn, stride_xh, stride_xw, stride_on, stride_oh, stride_ow, x_gain, out_peak,
    SCALE: gl.constexpr, SIDE: gl.constexpr, COLUMNS: gl.constexpr,
    FROM_SAMPLES: gl.constexpr, TO_SAMPLES: gl.constexpr, DTYPE: gl.constexpr,
):  # fmt: skip
    """Shapes: x (N, height, width), out (N, height · SCALE, width · SCALE); weights as `pack` leaves them."""
    KIND: gl.constexpr = kind_of(DTYPE)
    SUMS1: gl.constexpr = sums_layout(WIDE)
    SUMS2: gl.constexpr = sums_layout(NARROW)
    SUMS3: gl.constexpr = sums_layout(COLUMNS)
    left, top, bottom, frame = place(height, width, segment, KEPT)
    x_ptr += frame * stride_xn
    out_ptr += frame * stride_on

    # Each row has room behind it: its last pixels' taps read 32 bytes more, for columns that nobody keeps.
    room1 = gl.allocate_shared_memory(gl.int32, [9, PIXELS * WIDE // 16], FLAT)
    room2 = gl.allocate_shared_memory(gl.int32, [5, PIXELS * NARROW // 8], FLAT)
    row1 = room1.reinterpret(DTYPE, [PIXELS, WIDE], row_layout(WIDE))
    row2 = room2.reinterpret(DTYPE, [PIXELS, NARROW], row_layout(NARROW))
    weight1 = gl.allocate_shared_memory(gl.int32, [16 * WIDE], FLAT)
    # In nine parts, for each has to be a power of two.
    weight2 = gl.allocate_shared_memory(gl.int32, [9, WIDE * NARROW // 2], FLAT)
    weight3 = gl.allocate_shared_memory(gl.int32, [9, NARROW * COLUMNS // 2], FLAT)
    ring = gl.allocate_shared_memory(gl.int32, [1024], FLAT)
    copy_words(weight1, weight1_ptr, 16 * WIDE)
    for part in gl.static_range(9):
        copy_words(weight2.index(part), weight2_ptr + part * (WIDE * NARROW // 2), WIDE * NARROW // 2)
        copy_words(weight3.index(part), weight3_ptr + part * (NARROW * COLUMNS // 2), NARROW * COLUMNS // 2)

    keep_ones(ring, KIND)
    for above in gl.static_range(5):
        first = top - 4 + above
        coming = input_row(x_ptr, first, left - 4, height, width, stride_xh, stride_xw, x_gain, FROM_SAMPLES, KIND)
        keep_row(ring, coming, first)
    fence_async_shared()
    gl.barrier()

    # Beyond the image a layer is zero. So are all factors of the first one there, and with them its tanh.
    column1 = left - 2 + pixel_of_taps()
    wide1 = gl.where((column1 >= 0) & (column1 < width), -1, 0)
    column2 = left - 1 + gl.arange(0, PIXELS, gl.SliceLayout(1, SUMS2))
    wide2 = (column2 >= 0) & (column2 < width)
    on_edge = (left == 0) | (left + PIXELS - 1 > width)

    offs2 = gl.arange(0, NARROW, gl.SliceLayout(0, SUMS2))
    offs3 = gl.arange(0, COLUMNS, gl.SliceLayout(0, SUMS3))
    none1 = gl.full([PIXELS, WIDE], 0.0, gl.float32, SUMS1)
    bias2 = gl.load(bias2_ptr + offs2)[None, :] + gl.full([PIXELS, NARROW], 0.0, gl.float32, SUMS2)
    bias3 = gl.load(bias3_ptr + offs3)[None, :] + gl.full([PIXELS, COLUMNS], 0.0, gl.float32, SUMS3)

    next2, this2, last2 = bias2, bias2, bias2  # sums of rows r, r − 1 and r − 2 of the second layer
    next3, this3, last3 = bias3, bias3, bias3  # ″ r − 2, r − 3 and r − 4 of the last one
    for r in range(top - HALO, bottom + HALO + LAG):
        coming = input_row(x_ptr, r + 3, left - 4, height, width, stride_xh, stride_xw, x_gain, FROM_SAMPLES, KIND)
        words = read_taps(ring, r) & wide1 & gl.where((r >= 0) & (r < height), -1, 0)
        a, next2, this2, last2, next3, this3, last3 = gl.inline_asm(
            _products(KIND, COLUMNS), _operands(COLUMNS),
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
        fence_async_shared()
        gl.barrier()
        next2, this2, last2 = bias2, next2, this2
        next3, this3, last3 = bias3, next3, this3


# 168 registers a thread: as many as three programs can have.
_RESIDENT = 3
CONFIGS: list[dict[str, Any]] = [{"num_warps": 4, "maxnreg": 168}]
_tuned = Tuned(_espcn_hopper_kernel, key=(), steps=partial(rows_walked, extra=2 * _HALO + _LAG))


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


def pack(layers: Sequence[Packed]) -> PackedNetwork:
    """Three layers that `fits` takes, for the kernel; in float16 or bfloat16."""
    first, second, last = layers
    scale, dtype = last.form.shuffle, first.weight.dtype
    columns = 8 if scale == 2 else 16
    tensors = (
        pack_first(first.weight, first.bias),
        pack_rows(second.weight, 64, 32),
        pack_rows(last.weight, 32, columns),
        second.bias,
        last.bias,
    )
    constants = {"SCALE": scale, "SIDE": 2 if scale == 2 else 4, "COLUMNS": columns, "DTYPE": numbers(dtype)["DTYPE"]}
    return PackedNetwork(tensors, scale=scale, halo=_HALO, constants=constants)


_run = walk(_tuned, CONFIGS, 64, _RESIDENT, _LAG)

KERNEL = WholeKernel("espcn_hopper", fits, pack, _run, architecture=90, example=partial(espcn_layers, 3))
