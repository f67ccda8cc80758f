"""Pixel shuffle: alone, and as the last step of a network, which stores native samples in their plane.

A program makes r rows of one channel: its stores are contiguous, and its loads are r² runs of samples, each read from
memory once. Both sides may have any strides: planes, channels last, a pitch larger than the width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from .epilogue import _store
from .launch import Tuned, check_offsets, once

if TYPE_CHECKING:
    from torch import Tensor

    from .reference import SampleFormat


@triton.jit(do_not_specialize=["height", "width"])
def _shuffle_kernel(
    x_ptr, bias_ptr, base_ptr, out_ptr,
    height, width, peak,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_bn, stride_bc, stride_bh, stride_bw,
    stride_on, stride_oc, stride_oh, stride_ow,
    CHANNELS: tl.constexpr, R: tl.constexpr, BIAS: tl.constexpr, BASE: tl.constexpr, SAMPLES: tl.constexpr,
    BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Shapes: x (N, CHANNELS · R², height, width), base and out (N, CHANNELS, height · R, width · R)."""
    blocks = tl.cdiv(width * R, BLOCK_W)
    pid = tl.program_id(0)
    offs_w = pid % blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    row = pid // blocks % height
    plane = pid // blocks // height
    channel = plane % CHANNELS
    n = (plane // CHANNELS).to(tl.int64)
    column, phase = offs_w // R, offs_w % R
    mask = offs_w < width * R
    first = channel * R * R
    x_ptr += n * stride_xn + row.to(tl.int64) * stride_xh + first.to(tl.int64) * stride_xc
    top = row.to(tl.int64) * R
    base_ptr += n * stride_bn + channel.to(tl.int64) * stride_bc + top * stride_bh
    out_ptr += n * stride_on + channel.to(tl.int64) * stride_oc + top * stride_oh
    for i in tl.static_range(R):
        x = tl.load(x_ptr + column * stride_xw + (i * R + phase) * stride_xc, mask=mask, other=0.0)
        if SAMPLES or BIAS or BASE:
            x = x.to(tl.float32)
        if BIAS:
            x += tl.load(bias_ptr + first + i * R + phase, mask=mask, other=0.0).to(tl.float32)
        if BASE:
            x += tl.load(base_ptr + i * stride_bh + offs_w * stride_bw, mask=mask, other=0.0).to(tl.float32)
        _store(out_ptr + i * stride_oh + offs_w * stride_ow, x, mask, SAMPLES, peak, peak)


CONFIGS: list[dict[str, Any]] = [
    {"BLOCK_W": block, "num_warps": warps, "num_stages": 1} for block, warps in ((1024, 4), (512, 4), (2048, 8))
]
_tuned = Tuned(_shuffle_kernel, key=("CHANNELS", "R", "BIAS", "BASE", "SAMPLES"), steps=once)


def pixel_shuffle(x: Tensor, r: int, *, out: Tensor | None = None) -> Tensor:
    """Like `reference.pixel_shuffle`; ``out``, if given, is written to and may have any strides."""
    n, c, h, w = x.shape
    if out is None:
        out = torch.empty((n, c // r**2, h * r, w * r), dtype=x.dtype, device=x.device)
    return _shuffle(x, r, out, None, None, None)


def shuffle_to_samples(
    x: Tensor,
    r: int,
    target: SampleFormat,
    *,
    bias: Tensor | None = None,
    base: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Like `reference.shuffle_to_samples`; ``out``, if given, is written to and may have any strides."""
    n, c, h, w = x.shape
    if out is None:
        out = torch.empty((n, c // r**2, h * r, w * r), dtype=target.dtype, device=x.device)
    return _shuffle(x, r, out, target.peak, bias, base)


def _shuffle(x: Tensor, r: int, out: Tensor, peak: int | None, bias: Tensor | None, base: Tensor | None) -> Tensor:
    n, c, h, w = x.shape
    check_offsets(x[:, : r * r])
    other = out if base is None else base

    def grid(meta: dict[str, Any]) -> tuple[int]:
        return (n * (c // r**2) * h * triton.cdiv(w * r, meta["BLOCK_W"]),)

    _tuned(
        grid,
        CONFIGS,
        x, x if bias is None else bias, other, out,
        h, w, float(peak or 1),
        *x.stride(), *other.stride(), *out.stride(),
        CHANNELS=c // r**2, R=r, BIAS=bias is not None, BASE=base is not None, SAMPLES=peak is not None,
    )  # fmt: skip
    return out
