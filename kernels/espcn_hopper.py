"""ESPCN in one kernel for Hopper, in Gluon: no activation ever leaves the multiprocessor.

A program is one warpgroup. It walks down a strip of 64 columns, of which 60 are kept, and makes one row of every layer
at a step; see `rows` for how a row is multiplied. The first layer, of one plane, takes its operand straight to
registers, as pairs of samples from a ring of eight input rows: K is 5 rows × 6 columns, and the bias in two parts.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from . import convolution, espcn, reference
from .convolution import peak_of
from .gluon import fence_async_shared, jit
from .gluon import language as gl
from .launch import Tuned, check_offsets, numbers, processors
from .rows import (
    FLAT,
    LINE,
    PIXELS,
    copy_words,
    first_products,
    kind_of,
    pack_rows,
    pair,
    row_layout,
    row_operands,
    row_products,
    sums_layout,
    tanh,
)
from .strip import PackedNetwork, WholeKernel, segment_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .convolution import Form, Packed
    from .reference import SampleFormat

_log = logging.getLogger(__name__)

_KEPT = 60  # columns of a strip; a constant of the kernel, too
_HALO = 2
_RESIDENT = 3  # programs that share a multiprocessor

KEPT = gl.constexpr(_KEPT)
WIDE = gl.constexpr(64)  # channels of the first layer
NARROW = gl.constexpr(32)  # ″ of the second one
PITCH = gl.constexpr(80)  # words of a row of the ring: the same place in two rows lies in different banks
BIAS_PLACE = gl.constexpr(8 * 80)  # of the word (1, 1), which the bias is multiplied by
# Element pixel · 16 + pair: a register holds a pair of numbers, as two wgmma of K = 16 take them.
PAIRS = gl.constexpr(
    gl.DistributedLinearLayout(
        reg_bases=[[8 * 16], [4], [8]],
        lane_bases=[[1], [2], [16], [32], [64]],
        warp_bases=[[256], [512]],
        block_bases=[],
        shape=[1024],
    )
)


@jit
def _input_row(x_ptr, y, left, height, width, stride_h, stride_w, gain, FROM_SAMPLES: gl.constexpr, KIND: gl.constexpr):
    """(128,) words: samples x and x + 1 of a row, from column left − 4 on; zeros beyond the picture."""
    at = gl.arange(0, 128, LINE)
    x = left - 4 + at
    row = x_ptr + y.to(gl.int64) * stride_h
    inside = (y >= 0) & (y < height) & (at < PIXELS + 6)
    low = gl.load(row + x * stride_w, mask=inside & (x >= 0) & (x < width), other=0).to(gl.float32)
    high = gl.load(row + (x + 1) * stride_w, mask=inside & (x + 1 >= 0) & (x + 1 < width), other=0).to(gl.float32)
    if FROM_SAMPLES:
        low = gl.minimum(low * gain, 1.0)
        high = gl.minimum(high * gain, 1.0)
    return pair(low, high, KIND)


@jit
def _keep_row(ring, words, y):
    """Leave an input row in the ring; words beyond it go where nobody reads."""
    at = gl.arange(0, 128, LINE)
    ring.scatter(words, gl.where(at < PITCH, (y & 7) * PITCH + at, BIAS_PLACE + 1 + at), 0)


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
    pid = gl.program_id(0)
    strips = gl.cdiv(width, KEPT)
    segments = gl.cdiv(height, segment)
    left = pid % strips * KEPT
    top = pid // strips % segments * segment
    bottom = gl.minimum(top + segment, height)
    picture = (pid // strips // segments).to(gl.int64)
    x_ptr += picture * stride_xn
    out_ptr += picture * stride_on

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

    ones = gl.full([128], 0x3F803F80 if KIND == "bf16" else 0x3C003C00, gl.int32, LINE)
    ring.scatter(ones, gl.full([128], BIAS_PLACE, gl.int32, LINE), 0)
    for above in gl.static_range(5):
        first = top - 4 + above
        coming = _input_row(x_ptr, first, left, height, width, stride_xh, stride_xw, x_gain, FROM_SAMPLES, KIND)
        _keep_row(ring, coming, first)
    fence_async_shared()
    gl.barrier()

    # Where the first layer reads: pair p of a pixel is taps 2 (p % 3) and 2 (p % 3) + 1 of row p // 3; the last, bias.
    at = gl.arange(0, 1024, PAIRS)
    pixel, pair_of_taps = at // 16, at % 16
    tap_row = pair_of_taps // 3
    is_tap = pair_of_taps < 15
    place = gl.where(is_tap, pixel + 2 * (pair_of_taps % 3), BIAS_PLACE)
    # Beyond the picture a layer is zero. So are all factors of the first one there, and with them its tanh.
    wide1 = gl.where((left - 2 + pixel >= 0) & (left - 2 + pixel < width), -1, 0)
    column2 = left - 1 + gl.arange(0, PIXELS, gl.SliceLayout(1, SUMS2))
    wide2 = (column2 >= 0) & (column2 < width)
    on_edge = (left == 0) | (left + PIXELS - 1 > width)

    offs2 = gl.arange(0, NARROW, gl.SliceLayout(0, SUMS2))
    offs3 = gl.arange(0, COLUMNS, gl.SliceLayout(0, SUMS3))
    none1 = gl.full([PIXELS, WIDE], 0.0, gl.float32, SUMS1)
    bias2 = gl.load(bias2_ptr + offs2)[None, :] + gl.full([PIXELS, NARROW], 0.0, gl.float32, SUMS2)
    bias3 = gl.load(bias3_ptr + offs3)[None, :] + gl.full([PIXELS, COLUMNS], 0.0, gl.float32, SUMS3)
    offs_m = gl.arange(0, PIXELS, gl.SliceLayout(1, SUMS3))
    i, j = offs3 // SIDE, offs3 % SIDE
    stored = ((offs_m < KEPT) & (left + offs_m < width))[:, None] & ((i < SCALE) & (j < SCALE))[None, :]
    offs_o = ((left + offs_m) * SCALE * stride_ow)[:, None] + (i * stride_oh + j * stride_ow)[None, :]

    next2, this2, last2 = bias2, bias2, bias2  # sums of rows r + 1, r and r − 1 of the second layer
    next3, this3, last3 = bias3, bias3, bias3
    for r in range(top - 2, bottom + 2):
        coming = _input_row(x_ptr, r + 3, left, height, width, stride_xh, stride_xw, x_gain, FROM_SAMPLES, KIND)
        words = ring.gather(place + gl.where(is_tap, ((r - 2 + tap_row) & 7) * PITCH, 0), 0)
        words = words & wide1 & gl.where((r >= 0) & (r < height), -1, 0)
        a = gl.inline_asm(first_products(KIND), ("=f", "r", "r"), [words, weight1], none1.type, is_pure=False)
        row1.store(tanh(a).to(DTYPE))
        fence_async_shared()
        gl.barrier()
        next2, this2, last2 = gl.inline_asm(
            row_products(KIND, WIDE, NARROW), row_operands(NARROW),
            [next2, this2, last2, row1, weight2], [next2.type, this2.type, last2.type], is_pure=False,
        )  # fmt: skip
        b = last2
        if on_edge | (r < 1) | (r > height):
            b = gl.where((wide2 & (r >= 1) & (r <= height))[:, None], b, 0.0)
        row2.store(tanh(b).to(DTYPE))
        _keep_row(ring, coming, r + 3)
        fence_async_shared()
        gl.barrier()
        next3, this3, last3 = gl.inline_asm(
            row_products(KIND, NARROW, COLUMNS), row_operands(COLUMNS),
            [next3, this3, last3, row2, weight3], [next3.type, this3.type, last3.type], is_pure=False,
        )  # fmt: skip
        y = r - 2
        c = last3
        if TO_SAMPLES:
            c = gl.minimum(gl.maximum(c * out_peak, 0.0), out_peak)
            c = ((c + 12582912.0) - 12582912.0).to(gl.int32)  # to the nearest, ties to even: see `epilogue._round`
        row = out_ptr + (y * SCALE).to(gl.int64) * stride_oh
        gl.store(row + offs_o, c.to(out_ptr.dtype.element_ty), mask=stored & (y >= top))
        next2, this2, last2 = bias2, next2, this2
        next3, this3, last3 = bias3, next3, this3


# 168 registers a thread: as many as three programs can have.
CONFIGS: list[dict[str, Any]] = [{"num_warps": 4, "maxnreg": 168}]


def _steps(values: dict[str, Any]) -> int:
    height: int = min(values["segment"], values["height"])
    return height + 2 * _HALO


_tuned = Tuned(_espcn_hopper_kernel, key=(), steps=_steps)


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
    # K of the first layer: rows of five taps and a zero, then the bias and what its rounding loses.
    terms = first.weight.new_zeros((32, 64))
    terms[:30].view(5, 6, 64)[:, :5] = first.weight[:25].view(5, 5, 64)
    terms[30] = first.bias.to(dtype)
    terms[31] = (first.bias - terms[30].float()).to(dtype)
    words = terms.reshape(4, 8, 64).permute(0, 2, 1).contiguous().flatten().view(torch.int32)
    tensors = (
        words,
        pack_rows(second.weight, 64, 32),
        pack_rows(last.weight, 32, columns),
        second.bias,
        last.bias,
    )
    constants = {"SCALE": scale, "SIDE": 2 if scale == 2 else 4, "COLUMNS": columns, "DTYPE": numbers(dtype)["DTYPE"]}
    return PackedNetwork(tensors, scale=scale, halo=_HALO, constants=constants)


def run(
    x: Tensor,
    network: PackedNetwork,
    *,
    source: SampleFormat | None = None,
    target: SampleFormat | None = None,
    dtype: torch.dtype = torch.float32,
    out: Tensor | None = None,
) -> Tensor:
    """As `strip.Run` says."""
    n, _, height, width = x.shape
    check_offsets(x)
    out = network.empty(x, target, dtype) if out is None else out
    strips = n * -(-width // _KEPT)
    segment = segment_rows(strips, height, _HALO, processors(x.device), _RESIDENT)
    _tuned(
        lambda _: (strips * -(-height // segment),),
        CONFIGS,
        x, out, *network.tensors, height, width, segment,
        x.stride(0), x.stride(2), x.stride(3), out.stride(0), out.stride(2), out.stride(3),
        1.0 / peak_of(source), peak_of(target),
        FROM_SAMPLES=source is not None, TO_SAMPLES=target is not None, **network.constants,
    )  # fmt: skip
    return out


def supports(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether it is Hopper, which alone has these instructions, and the kernel has proved itself there."""
    halves = (torch.float16, torch.bfloat16)
    if dtype not in halves or device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return False
    return _proves_itself(device, dtype)


@cache
def _proves_itself(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a small frame comes out right: tried once, for Gluon and what it compiles to may change with Triton."""
    from .cases import espcn_layers, in_dtype

    layers = espcn_layers(3)
    samples = reference.SampleFormat(255, 8)
    x = torch.randint(0, 256, (1, 1, 12, 130), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).to(device)
    plain, truth = (
        reference.chain(x, tuple(in_dtype(layer, kind, device) for layer in layers), source=samples, target=samples)
        for kind in (dtype, torch.float64)
    )
    try:
        found = run(
            x, pack([convolution.pack(layer, dtype, device) for layer in layers]), source=samples, target=samples
        )
        away, allowed = (int((y.int() - truth.int()).abs().max()) for y in (found, plain))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, another kernel does the same
        _log.warning("The kernel for Hopper does not run, the one for all GPUs does instead: %s", error)
        return False
    if away > max(1, 2 * allowed):
        _log.warning("The kernel for Hopper computes wrong samples, the one for all GPUs runs instead")
        return False
    return True


KERNEL = WholeKernel("espcn_hopper", fits, pack, run, supports)
