"""Layers of networks: convolutions with the operations that follow them, and pixel shuffles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .samples import SampleFormat, to_samples, to_unit

Activation = Literal["none", "relu", "leaky", "prelu", "tanh", "sigmoid"]


@dataclass(frozen=True)
class Layer:
    """A convolution, and the operations on its sums before they are stored.

    The order is: convolution, bias, activation, scale, pixel shuffle, residual, the activation after it.

    Attributes:
        weight: (out, in, k, k).
        bias: (out,), or None.
        padding: Samples added around the image.
        edges: Their values: zeros, or the edge sample repeated.
        activation: Name of the activation.
        slope: Slope of "leaky" and "prelu" below zero: (out,) or (1,).
        scale: Factor of the activation's output.
        shuffle: r of the pixel shuffle; 1 is none.
        after: Activation after the residual: "none" or "relu".
    """

    weight: Tensor
    bias: Tensor | None = None
    padding: int = 0
    edges: Literal["zeros", "replicate"] = "zeros"
    activation: Activation = "none"
    slope: Tensor | None = None
    scale: float = 1.0
    shuffle: int = 1
    after: Literal["none", "relu"] = "none"


def convolution(
    x: Tensor,
    layer: Layer,
    *,
    residual: Tensor | None = None,
    source: SampleFormat | None = None,
    target: SampleFormat | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Compute a layer, from floating-point or native samples to either.

    Args:
        x: (N, in, H, W), samples of ``source``.
        layer: The layer, computed in the dtype of its weights.
        residual: (N, out / r², H', W'), floating point; added after the shuffle.
        source: Format of ``x``, if it is not floating point.
        target: ″ of the result, which is converted as by `to_samples`.
        dtype: Type of a result in floating point; by default that of the weights.

    Returns:
        (N, out / r², (H + 2·padding − k + 1)·r, …).
    """
    if source is not None:
        x = to_unit(x, source.peak)
    x = x.to(layer.weight.dtype)
    if layer.edges == "replicate":
        x = F.conv2d(F.pad(x, (layer.padding,) * 4, mode="replicate"), layer.weight, layer.bias)
    else:
        x = F.conv2d(x, layer.weight, layer.bias, padding=layer.padding)
    if layer.activation == "tanh":
        x = torch.tanh(x)
    elif layer.activation == "sigmoid":
        x = torch.sigmoid(x)
    elif layer.activation == "relu":
        x = F.relu(x)
    elif layer.slope is not None:
        x = F.prelu(x, layer.slope.to(x))
    x = x if layer.scale == 1.0 else x * layer.scale
    x = pixel_shuffle(x, layer.shuffle)
    x = x if residual is None else x + residual
    x = F.relu(x) if layer.after == "relu" else x
    if target is not None:
        return to_samples(x.to(torch.promote_types(x.dtype, torch.float32)), target.depth, peak=target.peak)
    return x.to(dtype or layer.weight.dtype)


def pixel_shuffle(x: Tensor, r: int) -> Tensor:
    """Rearrange (N, C·r², H, W) into (N, C, H·r, W·r): output (y·r + i, x·r + j) is channel c·r² + i·r + j.

    Source: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network", CVPR 2016, eq. 4.
    """
    return F.pixel_shuffle(x, r)


def chain(
    x: Tensor,
    layers: tuple[Layer, ...],
    *,
    source: SampleFormat | None = None,
    target: SampleFormat | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Compute two or more layers, one after the other: a whole network. The arguments are those of `convolution`."""
    first, *middle, last = layers
    x = convolution(x, first, source=source)
    for layer in middle:
        x = convolution(x, layer)
    return convolution(x, last, target=target, dtype=dtype)


def shuffle_to_samples(
    x: Tensor, r: int, target: SampleFormat, *, bias: Tensor | None = None, base: Tensor | None = None
) -> Tensor:
    """The end of a network: bias, pixel shuffle, an addition, clamping, rounding, native samples.

    Args:
        x: (N, C·r², H, W), floating point.
        r: The shuffle's r; 1 is none.
        target: Format of the result.
        bias: (C·r²,), added first.
        base: (N, C, H·r, W·r), added after the shuffle: the image, enlarged in a simpler way.

    Returns:
        (N, C, H·r, W·r).
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    x = x if bias is None else x + bias.to(x)[:, None, None]
    x = pixel_shuffle(x, r)
    return to_samples(x if base is None else x + base, target.depth, peak=target.peak)
