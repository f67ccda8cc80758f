"""Convolution, bias, activation, residual and shuffle in one kernel: an implicit matrix product on the matrix units.

A program makes a TILE_H × TILE_W patch of BLOCK_N channels. The products of its samples (M) with the weights (N) are
summed in float32 over taps and input channels (K); a tap is the same patch, shifted, which the level-1 cache still has.
Memory is channels-last: the channels of a sample are contiguous, and rows begin at multiples of 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from .epilogue import _activate, _store, _to_rows
from .launch import Tuned, check_offsets, numbers

if TYPE_CHECKING:
    from torch import Tensor

    from .reference import Layer, SampleFormat

_FLAT_CHANNELS = 4  # up to so many channels, taps and channels are summed as one dimension


@triton.jit(do_not_specialize=["height", "width", "out_height", "out_width"])
def _convolution_kernel(
    x_ptr, weight_ptr, bias_ptr, slope_ptr, residual_ptr, out_ptr,
    height, width, out_height, out_width,
    stride_xn, stride_xc, stride_xh, stride_xw,
    stride_rn, stride_rc, stride_rh, stride_rw,
    stride_on, stride_oc, stride_oh, stride_ow,
    x_peak, scale, out_peak,
    IN: tl.constexpr, IN_PADDED: tl.constexpr, OUT: tl.constexpr, OUT_PADDED: tl.constexpr,
    SIZE: tl.constexpr, PADDING: tl.constexpr, REPLICATE: tl.constexpr, FROM_SAMPLES: tl.constexpr,
    ACTIVATION: tl.constexpr, AFTER: tl.constexpr, RESIDUAL: tl.constexpr, SHUFFLE: tl.constexpr,
    TO_SAMPLES: tl.constexpr, DTYPE: tl.constexpr, OPERAND: tl.constexpr, FAST: tl.constexpr,
    TILE_H: tl.constexpr, TILE_W: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, CACHE: tl.constexpr,
):  # fmt: skip
    """Shapes: x (N, IN, height, width), weight (K, OUT_PADDED), before the shuffle (N, OUT, out_height, out_width)."""
    M: tl.constexpr = TILE_H * TILE_W
    tiles_w = tl.cdiv(out_width, TILE_W)
    tiles_h = tl.cdiv(out_height, TILE_H)
    pid = tl.program_id(0)
    pid_n = pid % (OUT_PADDED // BLOCK_N)
    pid = pid // (OUT_PADDED // BLOCK_N)
    left = pid % tiles_w * TILE_W
    top = pid // tiles_w % tiles_h * TILE_H
    image = (pid // tiles_w // tiles_h).to(tl.int64)

    offs_m = tl.arange(0, M)
    rows, columns = offs_m // TILE_W, offs_m % TILE_W  # (M,), in the tile
    offs_n = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    # The tile's offset is one 64-bit number; offsets inside the tile are many 32-bit ones.
    x_ptr += image * stride_xn + top.to(tl.int64) * stride_xh + left.to(tl.int64) * stride_xw
    acc = tl.zeros((M, BLOCK_N), tl.float32)
    if IN <= 4:
        for k in range(0, IN_PADDED, BLOCK_K):  # IN_PADDED: all taps and channels
            offs_k = k + tl.arange(0, BLOCK_K)
            tap, channel = offs_k // IN, offs_k % IN
            y = rows[:, None] + (tap // SIZE - PADDING)[None, :]  # (M, BLOCK_K), from the tile's own corner
            x = columns[:, None] + (tap % SIZE - PADDING)[None, :]
            mask = (tap < SIZE * SIZE)[None, :]
            if REPLICATE:
                y = tl.minimum(tl.maximum(y, -top), height - 1 - top)
                x = tl.minimum(tl.maximum(x, -left), width - 1 - left)
            else:
                mask = mask & (y >= -top) & (y < height - top) & (x >= -left) & (x < width - left)
            a = tl.load(x_ptr + (y * stride_xh + x * stride_xw + channel[None, :] * stride_xc), mask=mask, other=0)
            if FROM_SAMPLES:
                a = tl.minimum(a.to(tl.float32) / x_peak, 1.0)
            b = tl.load(weight_ptr + offs_k[:, None] * OUT_PADDED + offs_n[None, :])
            acc = tl.dot(a.to(DTYPE).to(OPERAND), b.to(OPERAND), acc, input_precision="ieee")
    else:
        offs_c = tl.arange(0, BLOCK_K)
        # Counted in blocks, so that every compiler knows that addresses are multiples of BLOCK_K.
        BLOCKS: tl.constexpr = IN_PADDED // BLOCK_K
        for step in range(SIZE * SIZE * BLOCKS):
            tap = step // BLOCKS
            channels = step % BLOCKS * BLOCK_K + offs_c
            y = rows + (tap // SIZE - PADDING)  # (M,)
            x = columns + (tap % SIZE - PADDING)
            if REPLICATE:
                y = tl.minimum(tl.maximum(y, -top), height - 1 - top)
                x = tl.minimum(tl.maximum(x, -left), width - 1 - left)
                mask = offs_m[:, None] < M
            else:
                mask = ((y >= -top) & (y < height - top) & (x >= -left) & (x < width - left))[:, None]
            if IN % BLOCK_K != 0:
                mask = mask & (channels < IN)[None, :]
            offsets = (y * stride_xh + x * stride_xw)[:, None] + channels[None, :] * stride_xc
            a = tl.load(x_ptr + offsets, mask=mask, other=0, cache_modifier=CACHE)
            b = tl.load(weight_ptr + (step * BLOCK_K + offs_c)[:, None] * OUT_PADDED + offs_n[None, :])
            acc = tl.dot(a.to(DTYPE).to(OPERAND), b.to(OPERAND), acc, input_precision="ieee")

    acc += tl.load(bias_ptr + offs_n)[None, :]
    if ACTIVATION == "leaky" or ACTIVATION == "prelu":
        acc = _activate(acc, tl.load(slope_ptr + offs_n)[None, :], ACTIVATION, FAST)
    else:
        acc = _activate(acc, 0.0, ACTIVATION, FAST)
    acc *= scale

    corner = top.to(tl.int64) * SHUFFLE
    edge = left.to(tl.int64) * SHUFFLE
    out_ptr += image * stride_on + corner * stride_oh + edge * stride_ow
    residual_ptr += image * stride_rn + corner * stride_rh + edge * stride_rw
    inside = (rows < out_height - top) & (columns < out_width - left)
    if SHUFFLE > 1 and OUT == SHUFFLE * SHUFFLE:
        # One plane: (M, i · j) becomes rows of samples, so that neighbors in memory are neighbors in a warp.
        SIDE: tl.constexpr = 2 if SHUFFLE == 2 else 4
        acc = _to_rows(acc, TILE_H, TILE_W, BLOCK_N, SIDE)
        p, q = tl.arange(0, TILE_H * SIDE), tl.arange(0, TILE_W * SIDE)
        y, i, x, j = p // SIDE, p % SIDE, q // SIDE, q % SIDE
        row, column = (y * SHUFFLE + i)[:, None], (x * SHUFFLE + j)[None, :]
        mask = ((i < SHUFFLE) & (y < out_height - top))[:, None] & ((j < SHUFFLE) & (x < out_width - left))[None, :]
        offs_o = row * stride_oh + column * stride_ow
        offs_r = row * stride_rh + column * stride_rw
    elif SHUFFLE > 1:
        CHANNELS: tl.constexpr = OUT // (SHUFFLE * SHUFFLE)  # weights are ordered i, j, channel
        phase, channel = offs_n // CHANNELS, offs_n % CHANNELS
        row = rows[:, None] * SHUFFLE + (phase // SHUFFLE)[None, :]
        column = columns[:, None] * SHUFFLE + (phase % SHUFFLE)[None, :]
        mask = inside[:, None] & (offs_n < OUT)[None, :]
        offs_o = row * stride_oh + column * stride_ow + channel[None, :] * stride_oc
        offs_r = row * stride_rh + column * stride_rw + channel[None, :] * stride_rc
    else:
        mask = inside[:, None] & (offs_n < OUT)[None, :]
        offs_o = (rows * stride_oh + columns * stride_ow)[:, None] + offs_n[None, :] * stride_oc
        offs_r = (rows * stride_rh + columns * stride_rw)[:, None] + offs_n[None, :] * stride_rc
    if RESIDUAL:
        acc += tl.load(residual_ptr + offs_r, mask=mask, other=0.0).to(tl.float32)
    if AFTER == "relu":
        acc = tl.maximum(acc, 0.0)
    _store(out_ptr + offs_o, acc, mask, TO_SAMPLES, out_peak, out_peak)


# Rows and columns of a patch, the most channels at once, warps, stages, the cache that keeps the patch.
_TILES = (
    (8, 16, 64, 4, 3, ".ca"),
    (8, 16, 64, 4, 3, ""),
    (16, 16, 128, 8, 2, ""),
)
# float32 runs without matrix units, which would round its numbers.
_EXACT_TILES = ((4, 16, 32, 4, 1, ""), (8, 8, 16, 4, 1, ""))


def configs(channels: int, dtype: torch.dtype, *, to_plane: bool = False) -> list[dict[str, Any]]:
    """The possible configurations for a layer with so many output channels (padded), the default first: at most three.

    Args:
        channels: A multiple of 16.
        dtype: Type of the weights.
        to_plane: Whether a program must have all channels.
    """
    found = []
    for rows, columns, most, warps, stages, cache in _EXACT_TILES if dtype == torch.float32 else _TILES:
        block = channels if to_plane else next(n for n in (128, 64, 32, 16) if n <= most and channels % n == 0)
        config = {"TILE_H": rows, "TILE_W": columns, "BLOCK_N": block, "CACHE": cache}
        config |= {"num_warps": warps, "num_stages": stages}
        if config not in found:
            found.append(config)
    return found


def _steps(values: dict[str, Any]) -> int:
    blocks: int = values["IN_PADDED"] // values["BLOCK_K"]
    return blocks if values["IN"] <= _FLAT_CHANNELS else blocks * values["SIZE"] ** 2


_tuned = Tuned(
    _convolution_kernel,
    key=("IN", "OUT", "SIZE", "ACTIVATION", "AFTER", "RESIDUAL", "SHUFFLE", "FROM_SAMPLES", "TO_SAMPLES"),
    steps=_steps,
)


@dataclass(frozen=True)
class Form:
    """A layer without its weights; see `Layer`.

    Attributes:
        inputs: Input channels.
        outputs: Output channels, before the shuffle.
        size: Side of the kernel.
        padding: As in `Layer`, like all that follow.
        edges: ″
        activation: ″
        scale: ″
        shuffle: ″
        after: ″
    """

    inputs: int
    outputs: int
    size: int
    padding: int
    edges: str
    activation: str
    scale: float
    shuffle: int
    after: str

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """The form of a layer."""
        outputs, inputs, size, _ = layer.weight.shape
        same = (layer.padding, layer.edges, layer.activation, layer.scale, layer.shuffle, layer.after)
        return cls(inputs, outputs, size, *same)

    def result(self, n: int, height: int, width: int) -> tuple[int, int, int, int]:
        """The shape of the output."""
        more = 2 * self.padding - self.size + 1
        r = self.shuffle
        return n, self.outputs // r**2, (height + more) * r, (width + more) * r

    @property
    def flat(self) -> bool:
        """Whether taps and channels are summed as one dimension."""
        return self.inputs <= _FLAT_CHANNELS

    @property
    def to_plane(self) -> bool:
        """Whether a shuffle turns all channels into one plane."""
        return self.shuffle > 1 and self.outputs == self.shuffle**2

    @property
    def block_k(self) -> int:
        """Terms that are summed at once: up to 64, if little of that is padding."""
        if self.flat:
            return 16 if self.size**2 * self.inputs <= 16 else 32
        least = -(-self.inputs // 16) * 16
        return next(block for block in (64, 32, 16) if -(-self.inputs // block) * block <= 1.25 * least)


@dataclass(frozen=True)
class Packed:
    """A layer in the order in which the kernel reads it.

    Attributes:
        weight: (K, channels padded) in the dtype of the products; K is taps, then input channels.
        bias: (channels padded,) float32.
        slope: ″, for "leaky" and "prelu".
        form: The form of the layer.
    """

    weight: Tensor
    bias: Tensor
    slope: Tensor
    form: Form


def pack(layer: Layer, dtype: torch.dtype, device: torch.device | str) -> Packed:
    """Put weights, biases and slopes in the order in which the kernel reads them, once.

    Args:
        layer: A layer in any dtype, on any device.
        dtype: float16, bfloat16 or float32.
        device: The device that the kernel will run on.
    """
    form = Form.of(layer)
    order = _column_order(form.outputs, form.shuffle)
    kept, used = order >= 0, order.clamp(min=0)
    weight = torch.where(kept[:, None, None, None], layer.weight.cpu()[used], 0.0).permute(2, 3, 1, 0)
    if form.flat:
        weight = weight.flatten(0, 2)
        weight = F.pad(weight, (0, 0, 0, -len(weight) % form.block_k))
    else:
        weight = F.pad(weight, (0, 0, 0, -form.inputs % form.block_k)).flatten(0, 2)

    def column(values: Tensor | None) -> Tensor:
        whole = torch.zeros(form.outputs) if values is None else values.cpu().float().expand(form.outputs)
        return torch.where(kept, whole[used], 0.0).to(device)

    return Packed(weight.to(device, dtype).contiguous(), column(layer.bias), column(layer.slope), form)


def _column_order(out: int, shuffle: int) -> Tensor:
    """The output channel of each column of the packed weights; -1 for none."""
    if shuffle > 1 and out == shuffle**2:
        side = 2 if shuffle == 2 else 4
        order = torch.full((side, side), -1)
        order[:shuffle, :shuffle] = torch.arange(out).reshape(shuffle, shuffle)
        order = order.flatten()
    else:
        order = torch.arange(out).reshape(-1, shuffle * shuffle).T.flatten()  # (i, j), then channel
    multiple = 64 if len(order) > 64 else max(16, 1 << (len(order) - 1).bit_length())
    return F.pad(order, (0, -len(order) % multiple), value=-1)


def convolution(
    x: Tensor,
    packed: Packed,
    *,
    residual: Tensor | None = None,
    source: SampleFormat | None = None,
    target: SampleFormat | None = None,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Like `reference.convolution`, for a packed layer; ``out``, if given, is written to and may have any strides."""
    form, weight = packed.form, packed.weight
    n, _, height, width = x.shape
    shape = form.result(n, height, width)
    if out is None:
        out = empty(shape, target.dtype if target else dtype or weight.dtype, x.device)
    out_height, out_width = shape[2] // form.shuffle, shape[3] // form.shuffle
    columns = weight.shape[1]
    other = x if residual is None else residual
    check_offsets(*(tensor[..., :1, :1] for tensor in (x, other, out)))  # rows and columns are counted in 64 bits

    def grid(meta: dict[str, Any]) -> tuple[int]:
        patches = triton.cdiv(out_height, meta["TILE_H"]) * triton.cdiv(out_width, meta["TILE_W"])
        return (n * patches * (columns // meta["BLOCK_N"]),)

    _tuned(
        grid,
        configs(columns, weight.dtype, to_plane=form.to_plane),
        x, weight, packed.bias, packed.slope, other, out,
        height, width, out_height, out_width,
        *x.stride(), *other.stride(), *out.stride(),
        peak_of(source), float(form.scale), peak_of(target),
        IN=form.inputs, IN_PADDED=len(weight) if form.flat else len(weight) // form.size**2,
        OUT=form.outputs, OUT_PADDED=columns,
        SIZE=form.size, PADDING=form.padding, REPLICATE=form.edges == "replicate", FROM_SAMPLES=source is not None,
        ACTIVATION=form.activation, AFTER=form.after, RESIDUAL=residual is not None, SHUFFLE=form.shuffle,
        TO_SAMPLES=target is not None, BLOCK_K=form.block_k, **numbers(weight.dtype),
    )  # fmt: skip
    return out


def peak_of(samples: SampleFormat | None) -> float:
    """The sample that means 1, as an argument of a kernel."""
    return 1.0 if samples is None else float(samples.peak)


def empty(shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(N, C, H, W), uninitialized: channels last, samples at multiples of 16 bytes; one channel as plain planes."""
    n, c, h, w = shape
    if c == 1:
        return torch.empty(shape, dtype=dtype, device=device)
    multiple = 16 // dtype.itemsize if c > _FLAT_CHANNELS else 1
    pitch = -(-c // multiple) * multiple
    return torch.empty((n, h, w, pitch), dtype=dtype, device=device).permute(0, 3, 1, 2)[:, :c]
