"""Products of whole rows by the matrix units, in PTX, and the order in which they take weights.

There are two kinds of units, by PTX's names: on Hopper "wgmma", by which a warpgroup multiplies matrices in shared
memory, and on all other GPUs from Ampere on "mma", for which each warp loads its operands into registers. Their sums
are in the same places: those of 16 pixels in the registers of one warp, 8 columns at a time.

Sources: PTX ISA, "Asynchronous warpgroup-level matrix instructions" (wgmma, matrix descriptors, fragments), "Matrix
multiply-accumulate operation using mma instruction", and "ldmatrix".
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gluon import constexpr_function
from .gluon import language as gl

PIXELS = gl.constexpr(64)
"""Pixels of a row that a program makes at once: 16 for each of its four warps."""


@constexpr_function
def sums_layout(columns, unit):
    """The register layout of the sums of products, (64, columns) float32."""
    if unit == "wgmma":
        return gl.NVMMADistributedLayout([3, 0], [4, 1], [16, columns, 16])
    return gl.NVMMADistributedLayout([2, 0], [4, 1], [16, 8])


@constexpr_function
def kind_of(dtype):
    """PTX's name of float16 or bfloat16."""
    return "bf16" if dtype.name == "bf16" else "f16"


@constexpr_function
def _count(columns, taps):
    """Sums per thread: a row in shared memory adds to as many rows of the result as there are taps."""
    return columns // 2 * taps


@constexpr_function
def operands(unit, parts):
    """The constraints of `products`: all sums, then the inputs and addresses of each part.

    The sums of a row are read and written in the same registers.
    """
    given, place = [], 0
    for what, channels, columns, taps in parts:
        count = _count(columns, taps)
        if what == "row":
            given += [*map(str, range(place, place + count)), "r"]
        else:
            given += ["r"] * 8 if what == "taps" else ["h"] * (channels // 2)
        given.append("r" if unit == "wgmma" else "l")  # of the weights
        place += count
    return ",".join(["=f"] * place + given)


@constexpr_function
def products(unit, kind, parts):
    """PTX of independent products: on Hopper all of them are issued, then there is one wait for all.

    A part is (what, input channels, output columns, taps): "taps", 32 pairs of samples in registers, as returned by
    `read_taps`; "registers", numbers of 16 bits in the layout of `sums_layout`; or "row", a row in shared memory with
    three or five horizontal taps, which adds to the sums of as many rows, and is read beyond its end, 16 bytes for each
    tap but one. For the others, taps is 1.

    Weights are in the order of `pack_columns`, those of a row in that of `pack_rows`.
    """
    begin, work = "", ""
    place, given = 0, sum(_count(columns, taps) for _, _, columns, taps in parts)
    for index, (what, channels, columns, taps) in enumerate(parts):
        count = _count(columns, taps)
        sums = [f"${place + number}" for number in range(count)]
        place += count
        row, pairs = "", [f"pair{index}_{number}" for number in range(channels // 4)]
        if what == "row":
            given += count
            row = f"${given}"
            given += 1
        elif what == "taps":
            pairs = [f"${given + number}" for number in range(8)]
            given += 8
        else:
            begin += f".reg .b32 {', '.join(pairs)};\n"
            for pair in pairs:
                begin += f"mov.b32 {pair}, {{${given}, ${given + 1}}};\n"
                given += 2
        part = _wgmma_part if unit == "wgmma" else _mma_part
        work += part(kind, channels // 16, taps, taps * columns, sums, row, pairs, f"${given}")
        given += 1
    if unit == "wgmma":
        return (
            "{ .reg .b32 low, high, row, weights; .reg .b64 left, right; .reg .pred never;\n"
            f"{begin}mov.u32 high, 8; setp.ne.b32 never, 0, 0;\nwgmma.fence.sync.aligned;\n"
            f"{work}wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0; }}"
        )
    # Eight lanes give the addresses of eight pixels: of a warp's first and last ones, then of those eight channels on.
    return (
        "{ .reg .b32 thread, pixel, block, row, a<4>, b<4>; .reg .b64 weights, lane; .reg .f32 zero;\n"
        f"{begin}mov.f32 zero, 0f00000000; mov.u32 thread, %tid.x;\n"
        "shr.u32 pixel, thread, 5; bfi.b32 pixel, pixel, thread, 4, 28; and.b32 pixel, pixel, 63;\n"
        "bfe.u32 block, thread, 4, 1; and.b32 thread, thread, 31; mul.wide.u32 lane, thread, 16;\n"
        f"{work}}}"
    )


@constexpr_function
def _wgmma_part(kind, steps, taps, width, sums, row, pairs, weights):
    """PTX of the products of a part; ``row`` and ``weights`` are addresses of shared memory."""
    ptx = f"shr.u32 weights, {weights}, 4;\n" + (f"shr.u32 row, {row}, 4;\n" if row else "")
    for number in range(taps * steps):
        tap, k = divmod(number, steps)
        if row:
            ptx += _descriptor("left", "row", tap + k * 2 * 64, 64)
            left, keep, tail = "left", "1", "0, 0"
        else:
            left, keep, tail = f"{{{', '.join(pairs[4 * k : 4 * k + 4])}}}", "1" if k else "never", "0"
        ptx += _descriptor("right", "weights", number * 2 * width, width)
        ptx += f"wgmma.mma_async.sync.aligned.m64n{width}k16.f32.{kind}.{kind} "
        ptx += f"{{{', '.join(sums)}}}, {left}, right, {keep}, 1, 1, {tail};\n"
    return ptx


@constexpr_function
def _descriptor(name, base, offset, leading):
    """PTX that makes a matrix descriptor, in units of 16 bytes, without a swizzle.

    ``leading`` is the distance to the next eight of K; that to the next eight of M or N, 128 bytes, is in ``high``.
    """
    return f"add.u32 low, {base}, {offset + (leading << 16)}; mov.b64 {name}, {{low, high}};\n"


@constexpr_function
def _mma_part(kind, steps, taps, width, sums, row, pairs, weights):
    """PTX of the products of a part; ``row`` is an address of shared memory, ``weights`` one of global memory."""
    ptx = f"add.u64 weights, lane, {weights};\n"
    if row:
        ptx += f"mad.lo.u32 row, block, {64 * 16}, {row}; mad.lo.u32 row, pixel, 16, row;\n"
    for number in range(taps * steps):
        tap, k = divmod(number, steps)
        left = "a0, a1, a2, a3" if row else ", ".join(pairs[4 * k : 4 * k + 4])
        if row:
            ptx += f"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{left}}}, [row+{16 * tap + 2 * 64 * 16 * k}];\n"
        for tile in range(0, width // 8, 2):
            block = number * -(-width // 16) + tile // 2
            ptx += f"ld.global.nc.v4.b32 {{b0, b1, b2, b3}}, [weights+{512 * block}];\n"
            for right, first in (("b0, b1", 4 * tile), ("b2, b3", 4 * tile + 4)):
                four = ", ".join(sums[first : first + 4])
                if four:
                    before = four if row or number else "zero, zero, zero, zero"
                    ptx += f"mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32 "
                    ptx += f"{{{four}}}, {{{left}}}, {{{right}}}, {{{before}}};\n"
    return ptx


def pack_first(unit: str, weight: Tensor, bias: Tensor) -> Tensor:
    """Pack the weights of a first layer, of 5 × 5 taps and 64 channels, for a product of taps, in words.

    Args:
        unit: "wgmma" or "mma".
        weight: (25 …, 64), of 16 bits.
        bias: (64,) float32; it is kept in two parts, as it may need more bits than the weights have.
    """
    terms = weight.new_zeros((32, 64))  # K: rows of five taps and a zero, then the bias
    terms[:30].view(5, 6, 64)[:, :5] = weight[:25].view(5, 5, 64)
    terms[30], terms[31] = split(bias, weight.dtype)
    return pack_columns(unit, terms)


def pack_rows(unit: str, weight: Tensor, channels: int, columns: int, taps: int = 3) -> Tensor:
    """Pack the weights of a layer of taps × taps for a product of a row, in words.

    Args:
        unit: "wgmma" or "mma".
        weight: (taps² · channels, …), taps before channels, of 16 bits; only ``columns`` columns are used.
        channels: Input channels.
        columns: A multiple of 8.
        taps: 3 or 5.
    """
    x = weight[:, :columns].reshape(taps, taps, channels, columns)  # down, side, …
    return pack_columns(unit, x.permute(1, 2, 0, 3).reshape(taps * channels, taps * columns))


def pack_columns(unit: str, weight: Tensor) -> Tensor:
    """Pack a matrix (K, N) of 16 bits as the right operand of products, in words.

    For wgmma it is [K / 8][N][8 of K]. For mma it is [K / 16][N / 16][32 lanes][8], the registers of each lane for two
    products; missing columns are zeros.
    """
    k, n = weight.shape
    if unit == "wgmma":
        x = weight.reshape(k // 8, 8, n).permute(0, 2, 1)
    else:
        x = torch.nn.functional.pad(weight, (0, -n % 16))
        x = x.reshape(k // 16, 2, 4, 2, -1, 2, 8).permute(0, 4, 6, 2, 5, 1, 3)
    return x.contiguous().flatten().view(torch.int32)


def split(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Split float32 into two numbers of 16 bits, whose sum it is."""
    high = x.to(dtype)
    return high, (x - high.float()).to(dtype)
