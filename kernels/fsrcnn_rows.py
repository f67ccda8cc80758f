"""FSRCNN in one kernel, in Gluon: activations never leave the multiprocessor.

A program of four warps walks down a strip of 64 columns, of which 54 are kept (52 where the deconvolution has 5 × 5
taps, at ×2), and makes one row of every layer at a step; see `rows`. A layer reads the row that the layer before it
left at the step before; only shrinking and expanding, 1 × 1, take their operand from the registers that it was left in.
So a step has two rounds of products.

No layer adds a bias. Channels are padded to 64 and 16, and two that are left over are always 1: what is multiplied by
them is the next layer's bias, in two parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from . import fsrcnn
from .examples import fsrcnn_layers
from .gluon import constexpr_function, jit
from .gluon import language as gl
from .launch import Tuned, numbers
from .products import (
    PIXELS,
    kind_of,
    operands,
    pack_columns,
    pack_first,
    pack_rows,
    products,
    split,
    sums_layout,
)
from .row_walk import rows_walked, whole_kernels
from .rows import (
    FLAT,
    input_row,
    keep_ones,
    keep_row,
    place,
    prelu,
    publish,
    read_taps,
    row_layout,
    store_row,
    weights,
)
from .whole import PackedNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .convolution import Form, Packed

_MAPS = 4
_LAG = _MAPS + 1  # layers that read rows of the step before
_ONES = 2  # channels that are always 1

MAPS = gl.constexpr(_MAPS)
LAG = gl.constexpr(_LAG)
WIDE = gl.constexpr(64)  # channels at both ends, padded
NARROW = gl.constexpr(16)  # ″ between them


@jit
def _inside(x, left, r, height, width, is_edge):
    """A row of a layer, which begins at column ``left``, with zeros beyond the image."""
    if is_edge:
        columns = left + gl.arange(0, x.shape[0], gl.SliceLayout(1, x.type.layout))
        x = gl.where(((columns >= 0) & (columns < width) & (r >= 0) & (r < height))[:, None], x, 0.0)
    return x


@constexpr_function
def _rows(columns, taps):
    maps = (("row", 16, 16, 3),) * 4
    return ("taps", 32, 64, 1), *maps, ("row", 64, columns, taps)


@constexpr_function
def _row_products(unit, kind, columns, taps):
    return products(unit, kind, _rows(columns, taps))


@constexpr_function
def _row_operands(unit, columns, taps):
    return operands(unit, _rows(columns, taps))


@constexpr_function
def _pixels():
    return ("registers", 64, 16, 1), ("registers", 16, 64, 1)


@constexpr_function
def _pixel_products(unit, kind):
    return products(unit, kind, _pixels())


@constexpr_function
def _pixel_operands(unit):
    return operands(unit, _pixels())


@jit(do_not_specialize=["height", "width", "segment"])
def _fsrcnn_rows_kernel(
    x_ptr, out_ptr, first_ptr, shrink_ptr, maps_ptr, expand_ptr, last_ptr, slopes_ptr,
    height, width, segment, stride_xn, stride_xh, stride_xw, stride_on, stride_oh, stride_ow, x_gain, out_peak,
    SCALE: gl.constexpr, SIDE: gl.constexpr, COLUMNS: gl.constexpr, TAPS: gl.constexpr,
    FROM_SAMPLES: gl.constexpr, TO_SAMPLES: gl.constexpr, DTYPE: gl.constexpr, UNIT: gl.constexpr,
):  # fmt: skip
    """Shapes: x (N, height, width), out (N, height · SCALE, width · SCALE); weights as `pack` leaves them."""
    KIND: gl.constexpr = kind_of(DTYPE)
    HALO: gl.constexpr = MAPS + TAPS // 2
    KEPT: gl.constexpr = PIXELS - 2 * HALO
    SUMS_WIDE: gl.constexpr = sums_layout(WIDE, UNIT)
    SUMS_NARROW: gl.constexpr = sums_layout(NARROW, UNIT)
    left, top, bottom, frame = place(height, width, segment, KEPT)
    x_ptr += frame * stride_xn
    out_ptr += frame * stride_on

    # There is room behind each row: the taps of its last pixels read beyond it, for columns that are not kept.
    room0 = gl.allocate_shared_memory(gl.int32, [5, PIXELS * NARROW // 8], FLAT)
    room1 = gl.allocate_shared_memory(gl.int32, [5, PIXELS * NARROW // 8], FLAT)
    room2 = gl.allocate_shared_memory(gl.int32, [5, PIXELS * NARROW // 8], FLAT)
    room3 = gl.allocate_shared_memory(gl.int32, [5, PIXELS * NARROW // 8], FLAT)
    room4 = gl.allocate_shared_memory(gl.int32, [9, PIXELS * WIDE // 16], FLAT)
    row0 = room0.reinterpret(DTYPE, [PIXELS, NARROW], row_layout(NARROW))
    row1 = room1.reinterpret(DTYPE, [PIXELS, NARROW], row_layout(NARROW))
    row2 = room2.reinterpret(DTYPE, [PIXELS, NARROW], row_layout(NARROW))
    row3 = room3.reinterpret(DTYPE, [PIXELS, NARROW], row_layout(NARROW))
    row4 = room4.reinterpret(DTYPE, [PIXELS, WIDE], row_layout(WIDE))
    ring = gl.allocate_shared_memory(gl.int32, [1024], FLAT)
    first = weights(first_ptr, 1, 16 * WIDE, UNIT)
    shrink = weights(shrink_ptr, 1, WIDE * NARROW // 2, UNIT)
    expand = weights(expand_ptr, 1, WIDE * NARROW // 2, UNIT)
    map1 = weights(maps_ptr, 9, NARROW * NARROW // 2, UNIT)
    map2 = weights(maps_ptr + 9 * (NARROW * NARROW // 2), 9, NARROW * NARROW // 2, UNIT)
    map3 = weights(maps_ptr + 18 * (NARROW * NARROW // 2), 9, NARROW * NARROW // 2, UNIT)
    map4 = weights(maps_ptr + 27 * (NARROW * NARROW // 2), 9, NARROW * NARROW // 2, UNIT)
    last = weights(last_ptr, TAPS * TAPS, WIDE * COLUMNS // 2, UNIT)
    keep_ones(ring, KIND)
    begin = left - HALO - 2
    for above in gl.static_range(5):
        y = top - HALO - 2 + above
        coming = input_row(x_ptr, y, begin, height, width, stride_xh, stride_xw, x_gain, FROM_SAMPLES, KIND)
        keep_row(ring, coming, y)
    publish(UNIT)

    offs_wide = gl.arange(0, WIDE, gl.SliceLayout(0, SUMS_WIDE))
    offs_narrow = gl.arange(0, NARROW, gl.SliceLayout(0, SUMS_NARROW))
    slope_first = gl.load(slopes_ptr + offs_wide)[None, :]
    slope_expand = gl.load(slopes_ptr + WIDE + offs_wide)[None, :]
    slopes_ptr += 2 * WIDE
    slope0 = gl.load(slopes_ptr + offs_narrow)[None, :]
    slope1 = gl.load(slopes_ptr + NARROW + offs_narrow)[None, :]
    slope2 = gl.load(slopes_ptr + 2 * NARROW + offs_narrow)[None, :]
    slope3 = gl.load(slopes_ptr + 3 * NARROW + offs_narrow)[None, :]
    slope4 = gl.load(slopes_ptr + 4 * NARROW + offs_narrow)[None, :]
    wide = gl.full([PIXELS, WIDE], 0.0, gl.float32, SUMS_WIDE)
    none = gl.full([PIXELS, NARROW], 0.0, gl.float32, SUMS_NARROW)
    nothing = gl.full([PIXELS, COLUMNS], 0.0, gl.float32, sums_layout(COLUMNS, UNIT))
    on_edge = (left < HALO) | (left + PIXELS - HALO > width)

    # Of every layer, the sums of the row that comes, of this one, and of the last one, which is two rows further up
    # than that of the layer before; the last layer may have two more.
    c1, t1, l1 = none, none, none
    c2, t2, l2 = none, none, none
    c3, t3, l3 = none, none, none
    c4, t4, l4 = none, none, none
    sums = (nothing,) * TAPS
    for r in range(top - HALO, bottom + HALO + LAG):
        is_edge = on_edge | (r < 8) | (r >= height)
        coming = input_row(x_ptr, r + 3, begin, height, width, stride_xh, stride_xw, x_gain, FROM_SAMPLES, KIND)
        made = gl.inline_asm(
            _row_products(UNIT, KIND, COLUMNS, TAPS), _row_operands(UNIT, COLUMNS, TAPS),
            [
                read_taps(ring, r), first,
                c1, t1, l1, row0, map1,
                c2, t2, l2, row1, map2,
                c3, t3, l3, row2, map3,
                c4, t4, l4, row3, map4,
            ] + sums + [row4, last],
            (wide.type,) + (none.type,) * 12 + (nothing.type,) * TAPS,
            is_pure=False,
        )  # fmt: skip
        a, c1, t1, l1, c2, t2, l2, c3, t3, l3, c4, t4, l4 = made[:13]
        sums = made[13:]
        b, wide = gl.inline_asm(
            _pixel_products(UNIT, KIND), _pixel_operands(UNIT),
            [prelu(a.to(DTYPE), slope_first, KIND), shrink, prelu(l4.to(DTYPE), slope4, KIND), expand],
            [none.type, wide.type], is_pure=False,
        )  # fmt: skip
        y0 = _inside(prelu(b.to(DTYPE), slope0, KIND), left - HALO, r, height, width, is_edge)
        y1 = _inside(prelu(l1.to(DTYPE), slope1, KIND), left - HALO + 1, r - 2, height, width, is_edge)
        y2 = _inside(prelu(l2.to(DTYPE), slope2, KIND), left - HALO + 2, r - 4, height, width, is_edge)
        y3 = _inside(prelu(l3.to(DTYPE), slope3, KIND), left - HALO + 3, r - 6, height, width, is_edge)
        y4 = _inside(prelu(wide.to(DTYPE), slope_expand, KIND), left - HALO + 4, r - 8, height, width, is_edge)
        y = r - 9 - TAPS // 2
        store_row(
            out_ptr, sums[TAPS - 1], y, left, width, stride_oh, stride_ow, out_peak, y >= top,
            SCALE, SIDE, COLUMNS, KEPT, TO_SAMPLES,
        )  # fmt: skip
        gl.barrier()  # all have read the rows
        row0.store(y0)
        row1.store(y1)
        row2.store(y2)
        row3.store(y3)
        row4.store(y4)
        keep_row(ring, coming, r + 3)
        publish(UNIT)
        c1, t1, l1 = none, c1, t1
        c2, t2, l2 = none, c2, t2
        c3, t3, l3 = none, c3, t3
        c4, t4, l4 = none, c4, t4
        sums = (nothing,) + sums[:-1]


def _steps(values: dict[str, Any]) -> int:
    return rows_walked(values, 2 * (_MAPS + values["TAPS"] // 2) + _LAG)


_tuned = Tuned(_fsrcnn_rows_kernel, key=(), steps=_steps)


def fits(forms: Sequence[Form]) -> bool:
    """Whether a chain of layers is the paper's FSRCNN, with two channels to spare in each width."""
    if not fsrcnn.fits(forms) or len(forms) != _MAPS + 4:
        return False
    first, shrink, *_, last = forms
    return (
        first.size == 5
        and last.size == (5 if last.shuffle == 2 else 3)
        and 48 < first.outputs <= 64 - _ONES
        and 8 < shrink.outputs <= 16 - _ONES
    )


def pack(unit: str, layers: Sequence[Packed]) -> PackedNetwork:
    """Pack layers that `fits` accepts, for the kernel with one of the units; in float16 or bfloat16."""
    first, shrink, *maps, expand, last = layers
    scale, taps = last.form.shuffle, last.form.size
    columns = 8 if scale == 2 else 16
    wide, narrow, dtype = first.form.outputs, shrink.form.outputs, first.weight.dtype
    ones = torch.nn.functional.one_hot(torch.tensor([wide, wide + 1]), 64).sum(0).to(first.bias)
    tensors = (
        pack_first(unit, first.weight, first.bias + ones),
        pack_columns(unit, _with_bias(shrink, 1, wide, narrow)[:, :16]),
        torch.cat([pack_rows(unit, _with_bias(layer, 9, narrow, narrow), 16, 16) for layer in maps]),
        pack_columns(unit, _with_bias(expand, 1, narrow, wide)[:, :64]),
        pack_rows(unit, _with_bias(last, taps**2, wide, None), 64, columns, taps),
        torch.cat([layer.slope for layer in (first, expand, shrink, *maps)]).to(dtype),
    )
    side = 2 if scale == 2 else 4
    constants = {
        "SCALE": scale, "SIDE": side, "COLUMNS": columns, "TAPS": taps, "DTYPE": numbers(dtype)["DTYPE"], "UNIT": unit,
    }  # fmt: skip
    return PackedNetwork(tensors, scale=scale, halo=_MAPS + taps // 2, constants=constants)


def _with_bias(layer: Packed, taps: int, ones_in: int, ones_out: int | None) -> Tensor:
    """(taps · channels, columns): weights that multiply the input's ones by the bias, and pass the ones on.

    Args:
        layer: A layer with weights in the kernel's order.
        taps: Taps of the layer.
        ones_in: The first of the input's two channels that are 1.
        ones_out: ″ of the output; None if there are none.
    """
    weight = layer.weight.clone().view(taps, -1, layer.weight.shape[1])
    middle = weight[taps // 2]
    middle[ones_in], middle[ones_in + 1] = split(layer.bias, weight.dtype)
    if ones_out is not None:
        middle[ones_in, ones_out : ones_out + _ONES] = 1
    return weight.flatten(0, 1)


HOPPER, AMPERE = whole_kernels("fsrcnn", _tuned, fits, pack, _LAG, resident=2, registers=255, example=fsrcnn_layers)
