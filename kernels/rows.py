"""What kernels for Hopper are made of: rows of activations in shared memory, and products of whole rows.

A row lies as [channels / 8][pixels][8 channels], so that the row moved by a pixel is the same matrix descriptor, 16
bytes further: taps to the side cost no copy. Taps down are in N, the columns of the product: a row adds to the sums
of three rows at once, which stay in registers and move up by one when the row is done. So every activation is stored
once and read three times, not nine.

Sources: PTX ISA, "Asynchronous warpgroup-level matrix instructions" (wgmma, matrix descriptors, fragments).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gluon import constexpr_function, jit
from .gluon import language as gl

PIXELS = gl.constexpr(64)
"""Of a row: the rows of a product by one warpgroup."""

PITCH = gl.constexpr(80)
"""Words of an input row in its ring: the same place in two rows lies in different banks."""

_BIAS_PLACE = gl.constexpr(8 * 80)  # in the ring: the word (1, 1), which the bias is multiplied by

# Element pixel · 16 + pair: a register holds a pair of numbers, as two wgmma of K = 16 take them.
_PAIRS = gl.constexpr(
    gl.DistributedLinearLayout(
        reg_bases=[[8 * 16], [4], [8]],
        lane_bases=[[1], [2], [16], [32], [64]],
        warp_bases=[[256], [512]],
        block_bases=[],
        shape=[1024],
    )
)

FLAT = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
"""Words of 32 bits in order."""

LINE = gl.constexpr(gl.BlockedLayout([1], [32], [4], [0]))
"""128 numbers, one for each thread."""

_WORDS = gl.constexpr(gl.BlockedLayout([4], [32], [4], [0]))


@constexpr_function
def row_layout(channels):
    """A row of so many channels in shared memory."""
    bases = [[0, 1], [0, 2], [0, 4]]
    bases += [[1 << bit, 0] for bit in range(6)]
    bases += [[0, 8 << bit] for bit in range((channels // 8).bit_length() - 1)]
    return gl.SharedLinearLayout(bases)


@constexpr_function
def sums_layout(columns):
    """(64, columns) float32 as wgmma leaves them in registers."""
    return gl.NVMMADistributedLayout([3, 0], [4, 1], [16, columns, 16])


@constexpr_function
def kind_of(dtype):
    """What PTX calls float16 or bfloat16."""
    return "bf16" if dtype.name == "bf16" else "f16"


@constexpr_function
def _descriptor(name, base, offset, leading):
    """PTX that makes a matrix descriptor, in units of 16 bytes, without a swizzle.

    ``leading`` is the way to the next eight of K; that to the next eight of M or N, 128 bytes, is in ``high``.
    """
    return f"add.u32 low, {base}, {offset + (leading << 16)}; mov.b64 {name}, {{low, high}};\n"


@constexpr_function
def _wgmma(columns, kind, sums, left, keep, tail):
    """PTX of one product, whose right operand is `right`."""
    shape = f"m64n{columns}k16.f32.{kind}.{kind}"
    return f"wgmma.mma_async.sync.aligned.{shape} {{{', '.join(sums)}}}, {left}, right, {keep}, 1, 1, {tail};\n"


@constexpr_function
def _count(what, columns):
    """Sums of a thread: a row in shared memory adds to three rows of the result."""
    return columns // 2 * (3 if what == "row" else 1)


@constexpr_function
def operands(parts):
    """The constraints of `products`: all sums, then of each part what goes in, and addresses of shared memory.

    The sums of a row go in and come out in the same registers.
    """
    given, place = [], 0
    for what, channels, columns in parts:
        count = _count(what, columns)
        if what == "row":
            given += [*map(str, range(place, place + count)), "r"]
        else:
            given += ["r"] * 8 if what == "taps" else ["h"] * (channels // 2)
        given.append("r")  # of the weights
        place += count
    return ",".join(["=f"] * place + given)


@constexpr_function
def products(kind, parts):
    """PTX of products that do not need each other: all of them are issued, then there is one wait for all.

    A part is (what, channels that go in, columns that come out): "taps", 32 pairs of samples in registers, as
    `read_taps` gives them; "registers", numbers of 16 bits in the layout of `sums_layout`; or "row", a row in shared
    memory at three taps to the side, which adds to the sums of three rows, and is read 32 bytes beyond its end.

    Weights are [channels / 8][columns][8], those of a row [3 taps to the side][channels / 8][3 taps down × columns][8].
    """
    begin, issue = "", ""
    place, given = 0, sum(_count(what, columns) for what, _, columns in parts)
    for index, (what, channels, columns) in enumerate(parts):
        count = _count(what, columns)
        sums = [f"${place + number}" for number in range(count)]
        place += count
        width = 3 * columns if what == "row" else columns
        steps, row = channels // 16, f"row{index}"
        pairs = [f"pair{index}_{number}" for number in range(channels // 4)]
        if what == "row":
            given += count
            begin += f".reg .b32 {row}; shr.u32 {row}, ${given}, 4;\n"
            given += 1
        elif what == "taps":
            pairs = [f"${given + number}" for number in range(8)]
            given += 8
        else:
            begin += f".reg .b32 {', '.join(pairs)};\n"
            for pair in pairs:
                begin += f"mov.b32 {pair}, {{${given}, ${given + 1}}};\n"
                given += 2
        begin += f".reg .b32 weights{index}; shr.u32 weights{index}, ${given}, 4;\n"
        given += 1
        for number in range(3 * steps if what == "row" else steps):
            tap, k = divmod(number, steps)
            if what == "row":
                issue += _descriptor("left", row, tap + k * 2 * 64, 64)
                left, keep, tail = "left", "1", "0, 0"
            else:
                left, keep, tail = f"{{{', '.join(pairs[4 * k : 4 * k + 4])}}}", "1" if k else "never", "0"
            issue += _descriptor("right", f"weights{index}", number * 2 * width, width)
            issue += _wgmma(width, kind, sums, left, keep, tail)
    return (
        "{ .reg .b32 low, high; .reg .b64 left, right; .reg .pred never;\n"
        f"{begin}mov.u32 high, 8; setp.ne.b32 never, 0, 0;\nwgmma.fence.sync.aligned;\n"
        f"{issue}wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0; }}"
    )


@constexpr_function
def _tanh_code(outputs, inputs):
    return "\n".join(f"tanh.approx.f32 {result}, {x};" for result, x in zip(outputs[0], inputs[0], strict=True))


@constexpr_function
def _pair_code(kind):
    return f"cvt.rn.{kind}x2.f32 $0, $2, $1;"


@jit
def place(height, width, segment, KEPT: gl.constexpr):
    """Of this program: the first of the columns that it keeps, its first row and that behind its last, its frame."""
    pid = gl.program_id(0)
    strips = gl.cdiv(width, KEPT)
    top = pid // strips % gl.cdiv(height, segment) * segment
    frame = (pid // strips // gl.cdiv(height, segment)).to(gl.int64)
    return pid % strips * KEPT, top, gl.minimum(top + segment, height), frame


@constexpr_function
def _prelu_code(kind):
    return (
        "{ .reg .b32 zero, above, below; mov.b32 zero, 0;\n"
        f"max.{kind}x2 above, $1, zero; min.{kind}x2 below, $1, zero; fma.rn.{kind}x2 $0, below, $2, above; }}"
    )


@jit
def prelu(x, slope, KIND: gl.constexpr):
    """PReLU of numbers of 16 bits, two at a time."""
    return gl.inline_asm_elementwise(_prelu_code(KIND), "=r,r,r", [x, slope], dtype=x.dtype, is_pure=True, pack=2)


@jit
def tanh(x):
    """The GPU's own hyperbolic tangent of float32, exact to 11 bits."""
    return gl.inline_asm(_tanh_code, ("=f", "f"), [x], x.type, is_pure=True)


@jit
def pair(low, high, KIND: gl.constexpr):
    """Words of two numbers of 16 bits, from float32; of one element a thread, as `LINE` has."""
    words: gl.constexpr = low.to(gl.int32).type
    return gl.inline_asm(_pair_code(KIND), ("=r", "f", "f"), [low, high], words, is_pure=True)


@jit
def copy_words(to, ptr, COUNT: gl.constexpr):
    """COUNT words from memory to shared memory, in order."""
    at = gl.arange(0, COUNT, _WORDS)
    to.store(gl.load(ptr + at))


@jit
def input_row(x_ptr, y, first, height, width, stride_h, stride_w, gain, FROM_SAMPLES: gl.constexpr, KIND: gl.constexpr):
    """(128,) words: samples x and x + 1 of a row, from a column on; zeros beyond the image."""
    at = gl.arange(0, 128, LINE)
    x = first + at
    row = x_ptr + y.to(gl.int64) * stride_h
    inside = (y >= 0) & (y < height) & (at < PIXELS + 6)
    low = gl.load(row + x * stride_w, mask=inside & (x >= 0) & (x < width), other=0).to(gl.float32)
    high = gl.load(row + (x + 1) * stride_w, mask=inside & (x + 1 >= 0) & (x + 1 < width), other=0).to(gl.float32)
    if FROM_SAMPLES:
        low = gl.minimum(low * gain, 1.0)
        high = gl.minimum(high * gain, 1.0)
    return pair(low, high, KIND)


@jit
def keep_row(ring, words, y):
    """Leave an input row in the ring of eight; words beyond it go where nobody reads."""
    at = gl.arange(0, 128, LINE)
    ring.scatter(words, gl.where(at < PITCH, (y & 7) * PITCH + at, _BIAS_PLACE + 1 + at), 0)


@jit
def keep_ones(ring, KIND: gl.constexpr):
    """Leave in the ring what the bias of the first layer is multiplied by."""
    ones = gl.full([128], 0x3F803F80 if KIND == "bf16" else 0x3C003C00, gl.int32, LINE)
    ring.scatter(ones, gl.full([128], _BIAS_PLACE, gl.int32, LINE), 0)


@jit
def read_taps(ring, r):
    """The operand of `first_products`, for row r: pair p of a pixel is two taps of row p // 3; the last one is ones."""
    at = gl.arange(0, 1024, _PAIRS)
    pixel, pair_of_taps = at // 16, at % 16
    is_tap = pair_of_taps < 15
    place = gl.where(is_tap, pixel + 2 * (pair_of_taps % 3), _BIAS_PLACE)
    return ring.gather(place + gl.where(is_tap, ((r - 2 + pair_of_taps // 3) & 7) * PITCH, 0), 0)


@jit
def pixel_of_taps():
    """The pixel that each element of `read_taps` belongs to."""
    return gl.arange(0, 1024, _PAIRS) // 16


@jit
def store_row(
    out_ptr, sums, y, left, width, stride_h, stride_w, peak, is_stored,
    SCALE: gl.constexpr, SIDE: gl.constexpr, COLUMNS: gl.constexpr, KEPT: gl.constexpr, TO_SAMPLES: gl.constexpr,
):  # fmt: skip
    """Store a row of (64, COLUMNS), shuffled: column i · SIDE + j is sample (i, j) of SCALE × SCALE."""
    offs_n = gl.arange(0, COLUMNS, gl.SliceLayout(0, sums.type.layout))
    offs_m = gl.arange(0, PIXELS, gl.SliceLayout(1, sums.type.layout))
    i, j = offs_n // SIDE, offs_n % SIDE
    mask = ((offs_m < KEPT) & (left + offs_m < width))[:, None] & ((i < SCALE) & (j < SCALE))[None, :]
    offs_o = ((left + offs_m) * SCALE * stride_w)[:, None] + (i * stride_h + j * stride_w)[None, :]
    if TO_SAMPLES:
        sums = gl.minimum(gl.maximum(sums * peak, 0.0), peak)
        sums = ((sums + 12582912.0) - 12582912.0).to(gl.int32)  # to the nearest, ties to even: see `epilogue._round`
    row = out_ptr + (y * SCALE).to(gl.int64) * stride_h
    gl.store(row + offs_o, sums.to(out_ptr.dtype.element_ty), mask=mask & is_stored)


def pack_first(weight: Tensor, bias: Tensor) -> Tensor:
    """Weights of a first layer, of 5 × 5 taps and 64 channels, as `first_products` reads them, in words.

    Args:
        weight: (25 …, 64), of 16 bits.
        bias: (64,) float32: it is kept in two parts, for it may need more bits than the weights have.
    """
    terms = weight.new_zeros((32, 64))  # K: rows of five taps and a zero, then the bias
    terms[:30].view(5, 6, 64)[:, :5] = weight[:25].view(5, 5, 64)
    terms[30], terms[31] = split(bias, weight.dtype)
    return terms.reshape(4, 8, 64).permute(0, 2, 1).contiguous().flatten().view(torch.int32)


def pack_columns(weight: Tensor, columns: int) -> Tensor:
    """Weights of a 1 × 1 layer (channels, columns), of 16 bits, as `register_products` reads them, in words."""
    return weight.reshape(-1, 8, columns).permute(0, 2, 1).contiguous().flatten().view(torch.int32)


def split(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Float32 as the sum of two numbers of 16 bits."""
    high = x.to(dtype)
    return high, (x - high.float()).to(dtype)


def pack_rows(weight: Tensor, channels: int, columns: int) -> Tensor:
    """Weights of a 3 × 3 layer as `row_products` reads them, in words.

    Args:
        weight: (9 · channels, …), taps before channels, of 16 bits; so many columns of it are used.
        channels: That go in.
        columns: A multiple of 8.
    """
    x = weight[:, :columns].reshape(3, 3, channels // 8, 8, columns)  # down, side, …
    return x.permute(1, 2, 0, 4, 3).contiguous().flatten().view(torch.int32)
