"""Parts of the whole-network kernels: a program walks down a strip of the image, and keeps the last rows.

Every layer makes ROWS rows of STRIP_W columns at each step and stores them in a ring of ROWS + SIZE − 1 rows, as many
as the next layer needs. The rings of a program are some tens of kilobytes of memory that only this program uses, few
enough for the level-1 cache, so that only the image's samples are moved to and from memory. Rows are computed twice
only at the top of a segment, columns where neighboring strips overlap: of STRIP_W, STRIP_W − 2 · halo are kept.

Layers lag behind each other: a layer's rows at a step are that step's rows, moved up by the reach of all layers before
it. A barrier separates the layers, as a ring is written by some threads and read by others.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from .convolution import peak_of
from .epilogue import _store, _to_rows
from .launch import Tuned, check_offsets, numbers, processors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .convolution import Form, Packed
    from .reference import SampleFormat
    from .whole import PackedNetwork, Run


@triton.jit
def _place(height, width, segment, KEPT: tl.constexpr):
    """This program's first kept column, first row, last row plus 1, and frame."""
    pid = tl.program_id(0)
    strips = tl.cdiv(width, KEPT)
    top = pid // strips % tl.cdiv(height, segment) * segment
    frame = (pid // strips // tl.cdiv(height, segment)).to(tl.int64)
    return pid % strips * KEPT, top, tl.minimum(top + segment, height), frame


@triton.jit
def _first_layer(
    x_ptr, weight_ptr, bias_ptr, y, x, height, width, stride_h, stride_w, peak,
    SIZE: tl.constexpr, OUT: tl.constexpr, FROM_SAMPLES: tl.constexpr, DTYPE: tl.constexpr, OPERAND: tl.constexpr,
):  # fmt: skip
    """(M, OUT) float32: the convolution of one plane, at places ``y`` and ``x`` (M,), with zeros around it."""
    BLOCK_K: tl.constexpr = 16 if SIZE * SIZE <= 16 else 32  # what the weights are padded to: `Form.block_k`
    offs_n = tl.arange(0, OUT)
    acc = tl.zeros((y.shape[0], OUT), tl.float32)
    for k in tl.static_range(0, SIZE * SIZE, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        row = y[:, None] + (offs_k // SIZE - SIZE // 2)[None, :]
        column = x[:, None] + (offs_k % SIZE - SIZE // 2)[None, :]
        mask = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (offs_k < SIZE * SIZE)[None, :]
        a = tl.load(x_ptr + row * stride_h + column * stride_w, mask=mask, other=0)
        if FROM_SAMPLES:
            a = tl.minimum(a.to(tl.float32) / peak, 1.0)
        b = tl.load(weight_ptr + offs_k[:, None] * OUT + offs_n[None, :])
        acc = tl.dot(a.to(DTYPE).to(OPERAND), b.to(OPERAND), acc, input_precision="ieee")
    return acc + tl.load(bias_ptr + offs_n)[None, :]


@triton.jit
def _ring_layer(
    ring_ptr, weight_ptr, bias_ptr, first, offs_m,
    SIZE: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr, STRIP_W: tl.constexpr, DEPTH: tl.constexpr,
    OPERAND: tl.constexpr,
):  # fmt: skip
    """(M, OUT) float32: the convolution of a ring, of rows from ``first`` on, counted from the top of the segment."""
    rows, columns = offs_m // STRIP_W, offs_m % STRIP_W
    offs_c, offs_n = tl.arange(0, IN), tl.arange(0, OUT)
    acc = tl.zeros((offs_m.shape[0], OUT), tl.float32)
    for tap in tl.static_range(SIZE * SIZE):
        # Rows above the segment are never used by what is stored; DEPTH keeps them from being negative.
        slot = (rows + first + (tap // SIZE - SIZE // 2 + 16 * DEPTH)) % DEPTH
        column = columns + (tap % SIZE - SIZE // 2)
        mask = ((column >= 0) & (column < STRIP_W))[:, None]
        offsets = ((slot * STRIP_W + column) * IN)[:, None] + offs_c[None, :]
        a = tl.load(ring_ptr + offsets, mask=mask, other=0.0)
        b = tl.load(weight_ptr + (tap * IN + offs_c)[:, None] * OUT + offs_n[None, :])
        acc = tl.dot(a.to(OPERAND), b.to(OPERAND), acc, input_precision="ieee")
    return acc + tl.load(bias_ptr + offs_n)[None, :]


@triton.jit
def _keep(ring_ptr, value, inside, first, offs_m, CHANNELS: tl.constexpr, STRIP_W: tl.constexpr, DEPTH: tl.constexpr):
    """Leave (M, CHANNELS) in a ring, as rows from ``first`` on; beyond the image there are zeros."""
    slot = (offs_m // STRIP_W + first + 16 * DEPTH) % DEPTH
    offsets = ((slot * STRIP_W + offs_m % STRIP_W) * CHANNELS)[:, None] + tl.arange(0, CHANNELS)[None, :]
    tl.store(ring_ptr + offsets, tl.where(inside[:, None], value, 0.0).to(ring_ptr.dtype.element_ty))


@triton.jit
def _emit(
    out_ptr, value, first, top, bottom, left, width, stride_h, stride_w, peak,
    SCALE: tl.constexpr, COLUMNS: tl.constexpr, HALO: tl.constexpr, TO_SAMPLES: tl.constexpr,
    STRIP_W: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Store the rows from ``first`` on of (M, COLUMNS), shuffled; only what this strip and segment must make."""
    SIDE: tl.constexpr = 2 if SCALE == 2 else 4
    value = _to_rows(value, ROWS, STRIP_W, COLUMNS, SIDE)
    p, q = tl.arange(0, ROWS * SIDE), tl.arange(0, STRIP_W * SIDE)
    y, i, x, j = first + p // SIDE, p % SIDE, q // SIDE, q % SIDE
    mask_h = (i < SCALE) & (y >= top) & (y < bottom)
    mask_w = (j < SCALE) & (x >= HALO) & (x < STRIP_W - HALO) & (left + x < width)
    row = (y * SCALE + i).to(tl.int64) * stride_h
    column = ((left + x) * SCALE + j) * stride_w
    _store(out_ptr + row[:, None] + column[None, :], value, mask_h[:, None] & mask_w[None, :], TO_SAMPLES, peak, peak)


# None of them spills registers; the second and third ones let more programs share a processor.
CONFIGS: list[dict[str, Any]] = [
    {"STRIP_W": columns, "ROWS": rows, "num_warps": warps, "num_stages": 1}
    for columns, rows, warps in ((64, 2, 8), (64, 1, 4), (128, 1, 8))
]
EXACT_CONFIGS: list[dict[str, Any]] = [{"STRIP_W": 32, "ROWS": 1, "num_warps": 4, "num_stages": 1}]

_LEAST_SEGMENT = 32
_RESIDENT = 2  # programs per multiprocessor, in most configurations


def segment_rows(strips: int, height: int, extra: int, processors: int, resident: int = _RESIDENT) -> int:
    """The number of rows per program with which all programs finish soonest.

    Short segments keep every multiprocessor busy, but each also needs the rows above and below it.

    Args:
        strips: Strips of all frames of a batch.
        height: Height of a frame.
        extra: Rows that a program computes in addition to its own.
        processors: Multiprocessors of the device.
        resident: Programs per multiprocessor.
    """
    return _segment_rows(strips, height, extra, processors * resident, _LEAST_SEGMENT)


@lru_cache(maxsize=256)
def _segment_rows(strips: int, height: int, extra: int, places: int, least: int) -> int:
    lengths = [-(-height // segments) for segments in range(1, max(1, height // least) + 1)]
    return min(lengths, key=lambda rows: -(-strips * -(-height // rows) // places) * (rows + extra))


def steps(values: dict[str, Any], halo: int) -> int:
    """A program's steps of ROWS rows: through its segment, and the rows that it needs above and below."""
    rows: int = values["ROWS"]
    height: int = min(values["segment"], values["height"])
    return -(-(height + 2 * halo) // rows)


def is_plain(form: Form) -> bool:
    """Whether a layer keeps the size of the image, pads it with zeros, and has no scale and no activation after."""
    plain = (form.size // 2, "zeros", 1.0, "none")
    return form.size % 2 == 1 and (form.padding, form.edges, form.scale, form.after) == plain


def arguments(layers: Sequence[Packed]) -> list[Tensor]:
    """Weights, biases and slopes of layers, in the order of the kernels' arguments."""
    return [tensor for packed in layers for tensor in (packed.weight, packed.bias, packed.slope)]


def walk(tuned: Tuned) -> Run:
    """Make the function that runs a kernel that walks down strips, with rings in memory."""

    def run(
        x: Tensor,
        network: PackedNetwork,
        *,
        source: SampleFormat | None = None,
        target: SampleFormat | None = None,
        dtype: torch.dtype = torch.float32,
        out: Tensor | None = None,
    ) -> Tensor:
        n, _, height, width = x.shape
        check_offsets(x)
        out = network.empty(x, target, dtype) if out is None else out
        weights = network.tensors[0].dtype
        choices = EXACT_CONFIGS if weights == torch.float32 else CONFIGS

        def strips(meta: dict[str, Any]) -> int:
            return int(n * -(-width // (meta["STRIP_W"] - 2 * network.halo)))

        segment = segment_rows(strips(choices[0]), height, 2 * network.halo, processors(x.device))

        def count(meta: dict[str, Any]) -> int:
            return strips(meta) * -(-height // segment)

        assert network.ring is not None
        size = max(count(meta) * meta["STRIP_W"] * network.ring(meta["ROWS"]) for meta in choices)
        tuned(
            lambda meta: (count(meta),),
            choices,
            x, out, torch.empty(size, dtype=weights, device=x.device), *network.tensors,
            height, width, segment,
            x.stride(0), x.stride(2), x.stride(3), out.stride(0), out.stride(2), out.stride(3),
            peak_of(source), peak_of(target),
            SCALE=network.scale, FROM_SAMPLES=source is not None, TO_SAMPLES=target is not None,
            **network.constants, **numbers(weights),
        )  # fmt: skip
        return out

    return run
