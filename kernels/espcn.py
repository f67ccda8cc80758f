"""ESPCN in one kernel, samples to samples: a convolution of one plane, two more, and a pixel shuffle.

Any widths up to a limit are supported; only the shape of the chain is fixed. See `strip` for how the layers stay on
the chip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


@triton.jit(do_not_specialize=["height", "width", "segment"])
def _espcn_kernel(
    x_ptr, out_ptr, scratch_ptr,
    weight1_ptr, bias1_ptr, slope1_ptr, weight2_ptr, bias2_ptr, slope2_ptr, weight3_ptr, bias3_ptr, slope3_ptr,
    height, width, segment, stride_xn, stride_xh, stride_xw, stride_on, stride_oh, stride_ow, x_peak, out_peak,
    SIZE1: tl.constexpr, SIZE2: tl.constexpr, SIZE3: tl.constexpr,
    OUT1: tl.constexpr, OUT2: tl.constexpr, OUT3: tl.constexpr, SCALE: tl.constexpr,
    ACTIVATION1: tl.constexpr, ACTIVATION2: tl.constexpr, FROM_SAMPLES: tl.constexpr, TO_SAMPLES: tl.constexpr,
    DTYPE: tl.constexpr, OPERAND: tl.constexpr, FAST: tl.constexpr, STRIP_W: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Shapes: x (N, height, width), out (N, height · SCALE, width · SCALE), scratch (programs, both rings)."""
    REACH2: tl.constexpr = SIZE2 // 2
    REACH3: tl.constexpr = SIZE3 // 2
    HALO: tl.constexpr = REACH2 + REACH3
    DEPTH1: tl.constexpr = ROWS + SIZE2 - 1
    DEPTH2: tl.constexpr = ROWS + SIZE3 - 1
    ring1 = scratch_ptr + tl.program_id(0).to(tl.int64) * (STRIP_W * (DEPTH1 * OUT1 + DEPTH2 * OUT2))
    ring2 = ring1 + STRIP_W * DEPTH1 * OUT1
    kept, top, bottom, frame = _place(height, width, segment, STRIP_W - 2 * HALO)
    left = kept - HALO
    x_ptr += frame * stride_xn
    out_ptr += frame * stride_on

    offs_m = tl.arange(0, ROWS * STRIP_W)
    rows, x = offs_m // STRIP_W, left + offs_m % STRIP_W
    wide = (x >= 0) & (x < width)
    origin = top - HALO  # the image's row that is row 0 of the rings
    for first in tl.range(0, bottom - top + 2 * HALO, ROWS, num_stages=1):
        y = origin + first + rows
        a = _first_layer(
            x_ptr, weight1_ptr, bias1_ptr, y, x, height, width, stride_xh, stride_xw, x_peak,
            SIZE1, OUT1, FROM_SAMPLES, DTYPE, OPERAND,
        )  # fmt: skip
        a = _activate(a, tl.load(slope1_ptr + tl.arange(0, OUT1))[None, :], ACTIVATION1, FAST)
        _keep(ring1, a, wide & (y >= 0) & (y < height), first, offs_m, OUT1, STRIP_W, DEPTH1)
        tl.debug_barrier()
        b = _ring_layer(
            ring1, weight2_ptr, bias2_ptr, first - REACH2, offs_m, SIZE2, OUT1, OUT2, STRIP_W, DEPTH1, OPERAND
        )
        b = _activate(b, tl.load(slope2_ptr + tl.arange(0, OUT2))[None, :], ACTIVATION2, FAST)
        y -= REACH2
        _keep(ring2, b, wide & (y >= 0) & (y < height), first - REACH2, offs_m, OUT2, STRIP_W, DEPTH2)
        tl.debug_barrier()
        c = _ring_layer(
            ring2, weight3_ptr, bias3_ptr, first - HALO, offs_m, SIZE3, OUT2, OUT3, STRIP_W, DEPTH2, OPERAND
        )
        _emit(
            out_ptr, c, origin + first - HALO, top, bottom, left, width, stride_oh, stride_ow, out_peak,
            SCALE, OUT3, HALO, TO_SAMPLES, STRIP_W, ROWS,
        )  # fmt: skip


def _steps(values: dict[str, Any]) -> int:
    return strip.steps(values, halo=values["SIZE2"] // 2 + values["SIZE3"] // 2)


_tuned = Tuned(
    _espcn_kernel,
    key=("SIZE1", "SIZE2", "SIZE3", "OUT1", "OUT2", "OUT3", "SCALE", "FROM_SAMPLES", "TO_SAMPLES"),
    steps=_steps,
)


def fits(forms: Sequence[Form]) -> bool:
    """Whether a chain of layers has ESPCN's shape, and is narrow enough."""
    if len(forms) != 3 or not all(strip.is_plain(form) for form in forms):
        return False
    first, second, last = forms
    return (
        (first.inputs, second.inputs, last.inputs) == (1, first.outputs, second.outputs)
        and max(form.size for form in forms) <= 9  # with a larger halo, no columns of a strip are kept
        and first.outputs in (16, 32, 64)
        and second.outputs in (16, 32, 64)
        and first.shuffle == second.shuffle == 1
        and last.activation == "none"
        and last.shuffle in (2, 3, 4)
        and last.to_plane
    )


def pack(layers: Sequence[Packed]) -> PackedNetwork:
    """Pack three layers that `fits` accepts, for the kernel."""
    sizes = [packed.form.size for packed in layers]
    outs = [packed.weight.shape[1] for packed in layers]
    constants = {
        "SIZE1": sizes[0], "SIZE2": sizes[1], "SIZE3": sizes[2], "OUT1": outs[0], "OUT2": outs[1], "OUT3": outs[2],
        "ACTIVATION1": layers[0].form.activation, "ACTIVATION2": layers[1].form.activation,
    }  # fmt: skip
    return PackedNetwork(
        tuple(strip.arguments(layers)),
        scale=layers[2].form.shuffle,
        halo=sizes[1] // 2 + sizes[2] // 2,
        constants=constants,
        ring=lambda rows: (rows + sizes[1] - 1) * outs[0] + (rows + sizes[2] - 1) * outs[1],
    )


KERNEL = WholeKernel("espcn", fits, pack, walk(_tuned), slower_on=(90,))
