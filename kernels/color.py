"""Planes to RGB, RGB to planes, and bicubic enlargement: each in one pass, including siting, range, depth and matrix.

An interpolated sample is a weighted sum of 4 × 4 others (more when a frame shrinks), which the caches hold; each frame
is read from memory only once. Positions are an integer and a small fraction, so that float32 is exact at any size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from .epilogue import _store
from .launch import Tuned, check_offsets, once
from .reference.cubic import _cubic as _keys
from .reference.cubic import _phases, _sent

if TYPE_CHECKING:
    from torch import Tensor

    from .reference import Edges


@triton.jit
def _cubic(x):
    """`reference.cubic`."""
    x = tl.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tl.where(x <= 1.0, near, tl.where(x <= 2.0, far, 0.0))


@triton.jit
def _inside(index, length, SYMMETRIC: tl.constexpr):
    """The index in [0, length) of the sample that stands for ``index``, which is at least −8 · length."""
    if SYMMETRIC:
        index = (index + 8 * length) % (2 * length)
        return tl.where(index < length, index, 2 * length - 1 - index)
    return tl.minimum(tl.maximum(index, 0), length - 1)


@triton.jit
def _place(index, RATIO: tl.constexpr, place):
    """Integer and fractional part of the input position of output samples: index / RATIO + ``place``."""
    fraction = (index % RATIO).to(tl.float32) / RATIO + place
    whole = tl.floor(fraction)
    return index // RATIO + whole.to(tl.int32), fraction - whole


@triton.jit
def _bicubic(
    ptr, offs_h, offs_w, mask, height, width, stride_h, stride_w, place_h, place_w,
    RATIO_H: tl.constexpr, RATIO_W: tl.constexpr, SYMMETRIC: tl.constexpr,
):  # fmt: skip
    """(BLOCK_H, BLOCK_W) samples of one plane enlarged RATIO_H × RATIO_W times, in float32."""
    y, fraction_h = _place(offs_h, RATIO_H, place_h)
    x, fraction_w = _place(offs_w, RATIO_W, place_w)
    REACH_H: tl.constexpr = 1 if RATIO_H > 1 else 0
    REACH_W: tl.constexpr = 1 if RATIO_W > 1 else 0
    total = tl.zeros(mask.shape, tl.float32)
    for i in tl.static_range(-REACH_H, 2 * REACH_H + 1):
        row = tl.zeros(mask.shape, tl.float32)
        at = _inside(y + i, height, SYMMETRIC) * stride_h
        for j in tl.static_range(-REACH_W, 2 * REACH_W + 1):
            offsets = at[:, None] + (_inside(x + j, width, SYMMETRIC) * stride_w)[None, :]
            value = tl.load(ptr + offsets, mask=mask, other=0).to(tl.float32)
            row += value * _cubic(fraction_w - j)[None, :] if REACH_W else value
        total += row * _cubic(fraction_h - i)[:, None] if REACH_H else row
    return total


@triton.jit
def _nothing(COUNT: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr):
    """COUNT sums, all zero."""
    sums = ()
    for _ in tl.static_range(COUNT):
        sums = sums + (tl.zeros((BLOCK_H, BLOCK_W), tl.float32),)  # type: ignore[assignment]
    return sums


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width"])
def _enlarge_kernel(
    x_ptr, out_ptr, weight_h_ptr, weight_w_ptr,
    channels, height, width, out_height, out_width, out_peak,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_on, stride_oc, stride_oh, stride_ow,
    SCALE: tl.constexpr, TAPS_H: tl.constexpr, TAPS_W: tl.constexpr, FIRST_H: tl.constexpr, FIRST_W: tl.constexpr,
    SYMMETRIC: tl.constexpr, TO_SAMPLES: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Make SCALE × SCALE samples at each of BLOCK_H × BLOCK_W positions of the input: they share the samples read.

    Shapes: x (N, channels, height, width), out (N, channels, out_height, out_width), weights (SCALE, TAPS), whose
    first tap is FIRST samples behind the position.
    """
    rows, blocks = tl.cdiv(tl.cdiv(out_height, SCALE), BLOCK_H), tl.cdiv(tl.cdiv(out_width, SCALE), BLOCK_W)
    pid = tl.program_id(0)
    offs_w = pid % blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    pid = pid // blocks
    offs_h = pid % rows * BLOCK_H + tl.arange(0, BLOCK_H)
    plane = (pid // rows).to(tl.int64)
    n, channel = plane // channels, plane % channels
    x_ptr += n * stride_xn + channel * stride_xc
    sums = _nothing(SCALE * SCALE, BLOCK_H, BLOCK_W)
    for j in tl.static_range(TAPS_W):
        at_w = (_inside(offs_w + (j + FIRST_W), width, SYMMETRIC) * stride_xw)[None, :]
        column = _nothing(SCALE, BLOCK_H, BLOCK_W)
        for i in tl.static_range(TAPS_H):
            at_h = (_inside(offs_h + (i + FIRST_H), height, SYMMETRIC) * stride_xh)[:, None]
            value = tl.load(x_ptr + at_h + at_w).to(tl.float32)
            more = ()
            for p in tl.static_range(SCALE):
                tap = tl.load(weight_h_ptr + (p * TAPS_H + i))
                more = more + (column[p] + value * tap,)  # type: ignore[assignment]
            column = more
        more = ()
        for p in tl.static_range(SCALE):
            for q in tl.static_range(SCALE):
                tap = tl.load(weight_w_ptr + (q * TAPS_W + j))
                more = more + (sums[p * SCALE + q] + column[p] * tap,)  # type: ignore[assignment]
        sums = more
    out_ptr += n * stride_on + channel * stride_oc
    for p in tl.static_range(SCALE):
        y = offs_h * SCALE + p
        row = y.to(tl.int64)[:, None] * stride_oh
        for q in tl.static_range(SCALE):
            x = offs_w * SCALE + q
            mask = (y < out_height)[:, None] & (x < out_width)[None, :]
            place = out_ptr + row + x[None, :] * stride_ow
            _store(place, sums[p * SCALE + q], mask, TO_SAMPLES, 1.0, out_peak)


@triton.jit(do_not_specialize=["height", "width", "chroma_height", "chroma_width"])
def _planes_to_rgb_kernel(
    y_ptr, u_ptr, v_ptr, out_ptr,
    height, width, chroma_height, chroma_width, place_h, place_w,
    stride_yn, stride_yh, stride_yw, stride_un, stride_uh, stride_uw, stride_vn, stride_vh, stride_vw,
    stride_on, stride_oc, stride_oh, stride_ow,
    m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23,
    FH: tl.constexpr, FW: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(width, BLOCK_W)
    pid = tl.program_id(0)
    offs_w = pid % blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    pid = pid // blocks
    offs_h = pid % tl.cdiv(height, BLOCK_H) * BLOCK_H + tl.arange(0, BLOCK_H)
    n = (pid // tl.cdiv(height, BLOCK_H)).to(tl.int64)
    mask = (offs_h < height)[:, None] & (offs_w < width)[None, :]
    offsets = offs_h[:, None] * stride_yh + offs_w[None, :] * stride_yw
    y = tl.load(y_ptr + n * stride_yn + offsets, mask=mask, other=0).to(tl.float32)
    u = _bicubic(
        u_ptr + n * stride_un, offs_h, offs_w, mask, chroma_height, chroma_width, stride_uh, stride_uw,
        place_h, place_w, FH, FW, True,
    )  # fmt: skip
    v = _bicubic(
        v_ptr + n * stride_vn, offs_h, offs_w, mask, chroma_height, chroma_width, stride_vh, stride_vw,
        place_h, place_w, FH, FW, True,
    )  # fmt: skip
    out_ptr += n * stride_on + offs_h.to(tl.int64)[:, None] * stride_oh + offs_w[None, :] * stride_ow
    tl.store(out_ptr, m00 * y + m01 * u + m02 * v + m03, mask=mask)
    tl.store(out_ptr + stride_oc, m10 * y + m11 * u + m12 * v + m13, mask=mask)
    tl.store(out_ptr + 2 * stride_oc, m20 * y + m21 * u + m22 * v + m23, mask=mask)


@triton.jit
def _load_rgb(x_ptr, offsets, mask, stride_xc):
    red = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    green = tl.load(x_ptr + stride_xc + offsets, mask=mask, other=0.0).to(tl.float32)
    blue = tl.load(x_ptr + 2 * stride_xc + offsets, mask=mask, other=0.0).to(tl.float32)
    return red, green, blue


@triton.jit(do_not_specialize=["height", "width", "chroma_height", "chroma_width", "frames"])
def _rgb_to_planes_kernel(
    x_ptr, y_ptr, u_ptr, v_ptr,
    height, width, chroma_height, chroma_width, place_h, place_w, first_h, first_w, norm, peak, frames,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_yn, stride_yh, stride_yw, stride_un, stride_uh, stride_uw, stride_vn, stride_vh, stride_vw,
    m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23,
    FH: tl.constexpr, FW: tl.constexpr, TAPS_H: tl.constexpr, TAPS_W: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """The first programs make the first plane, the others make both chroma planes."""
    pid = tl.program_id(0)
    luma_programs = frames * tl.cdiv(height, BLOCK_H) * tl.cdiv(width, BLOCK_W)
    offs_h, offs_w = tl.arange(0, BLOCK_H), tl.arange(0, BLOCK_W)
    if pid < luma_programs:
        blocks = tl.cdiv(width, BLOCK_W)
        offs_w += pid % blocks * BLOCK_W
        pid = pid // blocks
        offs_h += pid % tl.cdiv(height, BLOCK_H) * BLOCK_H
        n = (pid // tl.cdiv(height, BLOCK_H)).to(tl.int64)
        mask = (offs_h < height)[:, None] & (offs_w < width)[None, :]
        offsets = offs_h.to(tl.int64)[:, None] * stride_xh + offs_w[None, :] * stride_xw
        red, green, blue = _load_rgb(x_ptr + n * stride_xn, offsets, mask, stride_xc)
        offsets = offs_h.to(tl.int64)[:, None] * stride_yh + offs_w[None, :] * stride_yw
        value = m00 * red + m01 * green + m02 * blue + m03
        _store(y_ptr + n * stride_yn + offsets, value, mask, True, 1.0, peak)
    else:
        pid -= luma_programs
        blocks = tl.cdiv(chroma_width, BLOCK_W)
        offs_w += pid % blocks * BLOCK_W
        pid = pid // blocks
        offs_h += pid % tl.cdiv(chroma_height, BLOCK_H) * BLOCK_H
        n = (pid // tl.cdiv(chroma_height, BLOCK_H)).to(tl.int64)
        mask = (offs_h < chroma_height)[:, None] & (offs_w < chroma_width)[None, :]
        x_ptr += n * stride_xn
        red = tl.zeros((BLOCK_H, BLOCK_W), tl.float32)
        green, blue = red, red
        for i in range(TAPS_H):
            y = _inside(offs_h * FH + (first_h + i), height, True).to(tl.int64)
            weight = _cubic((place_h - (first_h + i)) / FH) * norm
            for j in range(TAPS_W):
                x = _inside(offs_w * FW + (first_w + j), width, True)
                tap = weight * _cubic((place_w - (first_w + j)) / FW)
                r, g, b = _load_rgb(x_ptr, y[:, None] * stride_xh + x[None, :] * stride_xw, mask, stride_xc)
                red += tap * r
                green += tap * g
                blue += tap * b
        value = m10 * red + m11 * green + m12 * blue + m13
        offsets = offs_h.to(tl.int64)[:, None] * stride_uh + offs_w[None, :] * stride_uw
        _store(u_ptr + n * stride_un + offsets, value, mask, True, 1.0, peak)
        value = m20 * red + m21 * green + m22 * blue + m23
        offsets = offs_h.to(tl.int64)[:, None] * stride_vh + offs_w[None, :] * stride_vw
        _store(v_ptr + n * stride_vn + offsets, value, mask, True, 1.0, peak)


CONFIGS: list[dict[str, Any]] = [
    {"BLOCK_H": rows, "BLOCK_W": columns, "num_warps": warps, "num_stages": 1}
    for rows, columns, warps in ((4, 128, 4), (1, 512, 4), (8, 64, 4))
]
_ENLARGED = 32  # samples per thread, at most
_enlarge_tuned = Tuned(_enlarge_kernel, key=("SCALE", "TAPS_H", "TAPS_W", "SYMMETRIC", "TO_SAMPLES"), steps=once)
_planes_to_rgb_tuned = Tuned(_planes_to_rgb_kernel, key=("FH", "FW"), steps=once)
_rgb_to_planes_tuned = Tuned(_rgb_to_planes_kernel, key=("FH", "FW", "TAPS_H", "TAPS_W"))


def _programs(meta: dict[str, Any], planes: int, height: int, width: int) -> int:
    return planes * int(triton.cdiv(height, meta["BLOCK_H"])) * int(triton.cdiv(width, meta["BLOCK_W"]))


def enlarge(
    x: Tensor,
    scale: int,
    *,
    shift: tuple[float, float] = (0.0, 0.0),
    edges: Edges = "replicate",
    peak: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Like `reference.enlarge`, but computes in float32 for every dtype; with ``peak``, from samples.

    Args:
        x: (N, C, H, W), floating point or samples.
        scale: Whole number.
        shift: (vertical, horizontal), as in the reference.
        edges: ″
        peak: The sample that means 1; larger ones are not clamped.
        dtype: Type of the result; by default float32 for samples, otherwise that of ``x``.
    """
    n, c, h, w = x.shape
    dtype = dtype or (x.dtype if x.is_floating_point() else torch.float32)
    out = torch.empty((n, c, h * scale, w * scale), dtype=dtype, device=x.device)
    return _enlarge(x, out, scale, shift, edges, peak, None)


def enlarge_samples(
    samples: Tensor, scale: int, depth: int, shape: tuple[int, int], shift: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """Like `reference.enlarge_samples`."""
    out = torch.empty((len(samples), 1, *shape), dtype=samples.dtype, device=samples.device)
    return _enlarge(samples[:, None], out, scale, shift, "symmetric", None, (1 << depth) - 1)[:, 0]


def _enlarge(
    x: Tensor,
    out: Tensor,
    scale: int,
    shift: tuple[float, float],
    edges: Edges,
    peak: int | None,
    largest: int | None,
) -> Tensor:
    check_offsets(x[:, 0])
    vertical, above, _ = _phases(scale, shift[0])
    horizontal, before, _ = _phases(scale, shift[1])
    rows = 1 << max(0, (_ENLARGED // scale**2).bit_length() - 1)
    choices = [{"BLOCK_H": height, "BLOCK_W": 128, "num_warps": 4, "num_stages": 1} for height in {rows, -(-rows // 2)}]
    places = -(-out.shape[2] // scale), -(-out.shape[3] // scale)
    _enlarge_tuned(
        lambda meta: (_programs(meta, out.shape[0] * out.shape[1], *places),),
        sorted(choices, key=lambda choice: -choice["BLOCK_H"]),
        x, out, _weights(vertical, 1 / (peak or 1), x.device), _weights(horizontal, 1.0, x.device),
        *x.shape[1:], *out.shape[2:], float(largest or 1),
        *x.stride(), *out.stride(),
        SCALE=scale, TAPS_H=len(vertical[0]), TAPS_W=len(horizontal[0]), FIRST_H=-above, FIRST_W=-before,
        SYMMETRIC=edges == "symmetric", TO_SAMPLES=largest is not None,
    )  # fmt: skip
    return out


def _weights(phases: tuple[tuple[float, ...], ...], gain: float, device: torch.device) -> Tensor:
    """The weights of each phase, (scale, taps), on the device; copied there once."""
    numbers = tuple(weight * gain for phase in phases for weight in phase)
    return _sent(numbers, (1, 1, len(phases), len(phases[0])), torch.float32, device)


def planes_to_rgb(
    planes: tuple[Tensor, Tensor, Tensor],
    matrix: Tensor,
    subsampling: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Like `reference.planes_to_rgb`, in float32; the matrix is on the CPU."""
    n, height, width = planes[0].shape
    out = torch.empty((n, 3, height, width), dtype=torch.float32, device=planes[0].device)
    check_offsets(*planes, out)
    places = [-place / f if f > 1 else 0.0 for f, place in zip(subsampling, offset, strict=True)]
    _planes_to_rgb_tuned(
        lambda meta: (_programs(meta, n, height, width),),
        CONFIGS,
        *planes, out,
        height, width, *planes[1].shape[1:], *places,
        *(stride for plane in planes for stride in plane.stride()), *out.stride(),
        *matrix.flatten().tolist(),
        FH=subsampling[0], FW=subsampling[1],
    )  # fmt: skip
    return out


def rgb_to_planes(
    x: Tensor,
    matrix: Tensor,
    depth: int,
    subsampling: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> tuple[Tensor, ...]:
    """Like `reference.rgb_to_planes`, in float32; the matrix is on the CPU and has one row or three."""
    n, _, height, width = x.shape
    check_offsets(x)
    dtype = torch.uint8 if depth == 8 else torch.uint16
    count = len(matrix)
    small = (-(-height // subsampling[0]), -(-width // subsampling[1]))
    shapes = [(n, height, width), *[(n, *small)] * (count - 1)]
    planes = [torch.empty(shape, dtype=dtype, device=x.device) for shape in shapes]
    y, u, v = planes if count == 3 else planes * 3
    firsts, taps, norm = [], [], 1.0
    for f, place in zip(subsampling, offset, strict=True):
        reach = 2 * f if f > 1 else 1
        indexes = range(math.floor(place - reach) + 1, math.ceil(place + reach)) if f > 1 else range(1)
        firsts.append(indexes[0])
        taps.append(len(indexes))
        norm *= sum(_keys((place - index) / f) for index in indexes) if f > 1 else 1.0
    places = [place if f > 1 else 0.0 for f, place in zip(subsampling, offset, strict=True)]
    values = [*matrix.flatten().tolist(), *[0.0] * (12 - matrix.numel())]

    def grid(meta: dict[str, Any]) -> tuple[int]:
        return (_programs(meta, n, height, width) + (_programs(meta, n, *small) if count == 3 else 0),)

    _rgb_to_planes_tuned(
        grid,
        CONFIGS,
        x, y, u, v,
        height, width, *small, *map(float, places), *firsts, 1.0 / norm, float((1 << depth) - 1), n,
        *x.stride(), *(stride for plane in (y, u, v) for stride in plane.stride()),
        *values,
        FH=subsampling[0], FW=subsampling[1], TAPS_H=taps[0], TAPS_W=taps[1],
    )  # fmt: skip
    return tuple(planes)
