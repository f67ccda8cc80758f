"""FSRCNN in one kernel, samples to samples: features, shrinking, mapping, expanding, and the deconvolution's phases.

Shrinking and expanding are 1 × 1: they read the layer before them in registers, so that all stored rows are narrow,
except the last layer's input. See `strip` for how the layers stay on the chip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from . import strip
from .epilogue import _activate
from .launch import Tuned
from .strip import _emit, _first_layer, _keep, _place, _ring_layer, walk
from .whole import PackedNetwork, WholeKernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .convolution import Form, Packed


@triton.jit
def _one_by_one(
    x, weight_ptr, bias_ptr, IN: tl.constexpr, OUT: tl.constexpr, DTYPE: tl.constexpr, OPERAND: tl.constexpr
):
    """(M, IN) float32 in registers to (M, OUT): a 1 × 1 convolution."""
    offs_n = tl.arange(0, OUT)
    weight = tl.load(weight_ptr + tl.arange(0, IN)[:, None] * OUT + offs_n[None, :])
    total = tl.dot(x.to(DTYPE).to(OPERAND), weight.to(OPERAND), input_precision="ieee")
    return total + tl.load(bias_ptr + offs_n)[None, :]


@triton.jit(do_not_specialize=["height", "width", "segment"])
def _fsrcnn_kernel(
    x_ptr, out_ptr, scratch_ptr,
    weight1_ptr, bias1_ptr, slope1_ptr, weight2_ptr, bias2_ptr, slope2_ptr,
    maps_ptr, biases_ptr, slopes_ptr,
    weight3_ptr, bias3_ptr, slope3_ptr, weight4_ptr, bias4_ptr, slope4_ptr,
    height, width, segment, stride_xn, stride_xh, stride_xw, stride_on, stride_oh, stride_ow, x_peak, out_peak,
    SIZE1: tl.constexpr, SIZE4: tl.constexpr, WIDE: tl.constexpr, NARROW: tl.constexpr, OUT: tl.constexpr,
    MAPS: tl.constexpr, SCALE: tl.constexpr, FROM_SAMPLES: tl.constexpr, TO_SAMPLES: tl.constexpr,
    DTYPE: tl.constexpr, OPERAND: tl.constexpr, FAST: tl.constexpr, STRIP_W: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Shapes: x (N, height, width), out (N, height · SCALE, width · SCALE), scratch (programs, all rings).

    The MAPS mapping layers are concatenated in ``maps_ptr``, ``biases_ptr`` and ``slopes_ptr``.
    """
    REACH: tl.constexpr = SIZE4 // 2
    HALO: tl.constexpr = MAPS + REACH
    DEPTH: tl.constexpr = ROWS + 2
    LAST_DEPTH: tl.constexpr = ROWS + SIZE4 - 1
    RING: tl.constexpr = STRIP_W * DEPTH * NARROW
    rings = scratch_ptr + tl.program_id(0).to(tl.int64) * (MAPS * RING + STRIP_W * LAST_DEPTH * WIDE)
    last_ring = rings + MAPS * RING
    kept, top, bottom, frame = _place(height, width, segment, STRIP_W - 2 * HALO)
    left = kept - HALO
    x_ptr += frame * stride_xn
    out_ptr += frame * stride_on

    offs_m = tl.arange(0, ROWS * STRIP_W)
    rows, x = offs_m // STRIP_W, left + offs_m % STRIP_W
    wide = (x >= 0) & (x < width)
    offs_wide, offs_narrow = tl.arange(0, WIDE), tl.arange(0, NARROW)
    origin = top - HALO  # the image's row that is row 0 of the rings
    for first in tl.range(0, bottom - top + 2 * HALO, ROWS, num_stages=1):
        y = origin + first + rows
        a = _first_layer(
            x_ptr, weight1_ptr, bias1_ptr, y, x, height, width, stride_xh, stride_xw, x_peak,
            SIZE1, WIDE, FROM_SAMPLES, DTYPE, OPERAND,
        )  # fmt: skip
        a = _activate(a, tl.load(slope1_ptr + offs_wide)[None, :], "prelu", FAST)
        b = _one_by_one(a, weight2_ptr, bias2_ptr, WIDE, NARROW, DTYPE, OPERAND)
        b = _activate(b, tl.load(slope2_ptr + offs_narrow)[None, :], "prelu", FAST)
        _keep(rings, b, wide & (y >= 0) & (y < height), first, offs_m, NARROW, STRIP_W, DEPTH)
        tl.debug_barrier()
        for layer in tl.static_range(MAPS):
            weights, at = maps_ptr + layer * 9 * NARROW * NARROW, layer * NARROW
            b = _ring_layer(
                rings + layer * RING, weights, biases_ptr + at, first - layer - 1, offs_m,
                3, NARROW, NARROW, STRIP_W, DEPTH, OPERAND,
            )  # fmt: skip
            b = _activate(b, tl.load(slopes_ptr + at + offs_narrow)[None, :], "prelu", FAST)
            y -= 1
            inside = wide & (y >= 0) & (y < height)
            if layer < MAPS - 1:
                _keep(rings + (layer + 1) * RING, b, inside, first - layer - 1, offs_m, NARROW, STRIP_W, DEPTH)
            else:
                a = _one_by_one(b, weight3_ptr, bias3_ptr, NARROW, WIDE, DTYPE, OPERAND)
                a = _activate(a, tl.load(slope3_ptr + offs_wide)[None, :], "prelu", FAST)
                _keep(last_ring, a, inside, first - MAPS, offs_m, WIDE, STRIP_W, LAST_DEPTH)
            tl.debug_barrier()
        c = _ring_layer(
            last_ring, weight4_ptr, bias4_ptr, first - HALO, offs_m, SIZE4, WIDE, OUT, STRIP_W, LAST_DEPTH, OPERAND
        )
        _emit(
            out_ptr, c, origin + first - HALO, top, bottom, left, width, stride_oh, stride_ow, out_peak,
            SCALE, OUT, HALO, TO_SAMPLES, STRIP_W, ROWS,
        )  # fmt: skip


def _steps(values: dict[str, Any]) -> int:
    return strip.steps(values, halo=values["MAPS"] + values["SIZE4"] // 2)


_tuned = Tuned(
    _fsrcnn_kernel,
    key=("SIZE1", "SIZE4", "WIDE", "NARROW", "MAPS", "SCALE", "FROM_SAMPLES", "TO_SAMPLES"),
    steps=_steps,
)


def fits(forms: Sequence[Form]) -> bool:
    """Whether a chain of layers has FSRCNN's shape, and is narrow enough."""
    if not 5 <= len(forms) <= 12 or not all(strip.is_plain(form) for form in forms):
        return False
    first, shrink, *maps, _, last = forms
    d, s = first.outputs, shrink.outputs
    shapes = [(form.inputs, form.outputs, form.size) for form in forms[:-1]]
    return (
        shapes == [(1, d, first.size), (d, s, 1), *[(s, s, 3)] * len(maps), (s, d, 1)]
        and first.size <= 9
        and 4 < s <= 16  # a narrower layer is packed in another order
        and (16 < d <= 32 or 48 < d <= 64)  # the layer that reads other widths is not packed to a power of two
        and all(form.activation == "prelu" and form.shuffle == 1 for form in forms[:-1])
        and last.activation == "none"
        and last.inputs == d
        and last.shuffle in (2, 3, 4)
        and last.to_plane
        and last.size <= 5
    )


def pack(layers: Sequence[Packed]) -> PackedNetwork:
    """Pack layers that `fits` accepts, for the kernel; the mapping layers are concatenated."""
    first, shrink, *maps, _, last = layers
    wide, narrow, size = first.weight.shape[1], shrink.weight.shape[1], last.form.size
    joined = [torch.cat([getattr(packed, name) for packed in maps]) for name in ("weight", "bias", "slope")]
    constants = {
        "SIZE1": first.form.size, "SIZE4": size, "WIDE": wide, "NARROW": narrow, "OUT": last.weight.shape[1],
        "MAPS": len(maps),
    }  # fmt: skip
    return PackedNetwork(
        (*strip.arguments(layers[:2]), *joined, *strip.arguments(layers[-2:])),
        scale=last.form.shuffle,
        halo=len(maps) + size // 2,
        constants=constants,
        ring=lambda rows: len(maps) * (rows + 2) * narrow + (rows + size - 1) * wide,
    )


KERNEL = WholeKernel("fsrcnn", fits, pack, walk(_tuned), slower_on=(90,))
