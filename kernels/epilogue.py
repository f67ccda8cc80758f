"""Device functions, shared by several kernels, for what follows the sums of a convolution, up to storing them."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _tanh(x, FAST: tl.constexpr):
    """The hyperbolic tangent of float32; FAST uses the GPU's own, exact to 11 bits, as many as float16 has."""
    if FAST:
        return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    e = tl.exp(-2.0 * tl.abs(x))
    t = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0.0, -t, t)


@triton.jit
def _activate(x, slope, ACTIVATION: tl.constexpr, FAST: tl.constexpr):
    """Apply an activation, by its name in `Layer`, to float32; ``slope`` broadcasts, and two of them read it."""
    if ACTIVATION == "relu":
        x = tl.maximum(x, 0.0)
    elif ACTIVATION == "leaky" or ACTIVATION == "prelu":
        x = tl.where(x < 0.0, x * slope, x)
    elif ACTIVATION == "tanh":
        x = _tanh(x, FAST)
    elif ACTIVATION == "sigmoid":
        x = 0.5 * _tanh(0.5 * x, FAST) + 0.5
    return x


@triton.jit
def _round(x):
    """Round float32 below 2²² to the nearest whole number, ties to even, as torch does."""
    magic = 12582912.0  # 1.5 · 2²³: its unit in the last place is 1
    return (x + magic) - magic


@triton.jit
def _store(ptr, x, mask, SAMPLES: tl.constexpr, gain, peak):
    """Store float32; SAMPLES multiplies by ``gain``, clamps to [0, peak] and rounds first."""
    if SAMPLES:
        x = _round(tl.minimum(tl.maximum(x * gain, 0.0), peak)).to(tl.int32)
    tl.store(ptr, x.to(ptr.dtype.element_ty), mask=mask)


@triton.jit
def _to_rows(x, TILE_H: tl.constexpr, TILE_W: tl.constexpr, COLUMNS: tl.constexpr, SIDE: tl.constexpr):
    """Shuffle (TILE_H · TILE_W, COLUMNS) to (TILE_H · SIDE, TILE_W · SIDE), the order of samples in memory.

    Column i · SIDE + j is sample (i, j) of the SIDE × SIDE that every pixel becomes; columns beyond SIDE² are zero.
    """
    x = tl.sum(tl.reshape(x, (TILE_H, TILE_W, COLUMNS // SIDE // SIDE, SIDE, SIDE)), 2)
    return tl.reshape(tl.permute(x, (0, 2, 1, 3)), (TILE_H * SIDE, TILE_W * SIDE))
