"""Parts of kernels that walk down a strip, one row at a step, and keep the rows of all layers in shared memory.

A row is stored as [channels / 8][pixels][8 channels], so that the row shifted by a pixel is the same matrix, 16 bytes
further: horizontal taps need no copy. Vertical taps are in N, the columns of the product: a row adds to the sums of
three rows at once (of five, for 5 × 5 taps), which stay in registers and move up by one when the row is done. So every
activation is stored once and read three times, not nine. See `products` for how a row is multiplied.
"""

from __future__ import annotations

from .gluon import constexpr_function, fence_async_shared, jit
from .gluon import language as gl
from .products import PIXELS

PITCH = gl.constexpr(80)
"""Words of an input row in its ring: the same position in two rows is in different banks."""

_BIAS_PLACE = gl.constexpr(8 * 80)  # in the ring: the word (1, 1), which is multiplied by the bias

# Element pixel · 16 + pair: a register holds a pair of numbers, as two products of K = 16 take them.
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
    """The layout of a row of so many channels in shared memory."""
    bases = [[0, 1], [0, 2], [0, 4]]
    bases += [[1 << bit, 0] for bit in range(6)]
    bases += [[0, 8 << bit] for bit in range((channels // 8).bit_length() - 1)]
    return gl.SharedLinearLayout(bases)


@constexpr_function
def _tanh_code(outputs, inputs):
    return "\n".join(f"tanh.approx.f32 {result}, {x};" for result, x in zip(outputs[0], inputs[0], strict=True))


@constexpr_function
def _pair_code(kind):
    return f"cvt.rn.{kind}x2.f32 $0, $2, $1;"


@jit
def place(height, width, segment, KEPT: gl.constexpr):
    """This program's first kept column, first row, last row plus 1, and frame."""
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
def weights(ptr, PARTS: gl.constexpr, COUNT: gl.constexpr, UNIT: gl.constexpr):
    """PARTS × COUNT words of weights for a product: on Hopper a copy in shared memory, elsewhere their own address.

    COUNT is a power of two.
    """
    if UNIT == "wgmma":
        copy = gl.allocate_shared_memory(gl.int32, [PARTS, COUNT], FLAT)
        at = gl.arange(0, COUNT, _WORDS)
        for part in gl.static_range(PARTS):
            copy.index(part).store(gl.load(ptr + part * COUNT + at))
        ptr = copy
    return ptr


@jit
def publish(UNIT: gl.constexpr):
    """Make stores to shared memory visible to all warps and to the matrix units."""
    if UNIT == "wgmma":
        fence_async_shared()
    gl.barrier()


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
    """Store an input row in the ring of eight; words beyond the row go to places that are never read."""
    at = gl.arange(0, 128, LINE)
    ring.scatter(words, gl.where(at < PITCH, (y & 7) * PITCH + at, _BIAS_PLACE + 1 + at), 0)


@jit
def keep_ones(ring, KIND: gl.constexpr):
    """Store the ones in the ring by which the bias of the first layer is multiplied."""
    ones = gl.full([128], 0x3F803F80 if KIND == "bf16" else 0x3C003C00, gl.int32, LINE)
    ring.scatter(ones, gl.full([128], _BIAS_PLACE, gl.int32, LINE), 0)


@jit
def read_taps(ring, r):
    """The operand of a product of taps, for row r: pair p of a pixel is two taps of row p // 3; the last is ones."""
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
