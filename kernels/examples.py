"""Layers and networks with random weights, for trials, tests and measurements."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from .reference import Layer


@lru_cache(maxsize=256)
def in_dtype(layer: Layer, dtype: torch.dtype, device: torch.device | None = None) -> Layer:
    """Convert a layer's numbers to another type, beforehand: a timed function should not convert them."""
    bias, slope = (None if x is None else x.to(device, dtype) for x in (layer.bias, layer.slope))
    weight = layer.weight.to(device, dtype).contiguous(memory_format=torch.channels_last)
    return replace(layer, weight=weight, bias=bias, slope=slope)


def random_layer(out: int, channels: int, size: int, *, bias: bool = True, **rest: Any) -> Layer:
    """A layer that keeps the size, and approximately the contrast, of its input."""
    generator = torch.Generator().manual_seed(out + channels + size)
    weight = torch.randn(out, channels, size, size, generator=generator) * (0.7 / (size * channels**0.5))
    if rest.get("activation") in ("leaky", "prelu"):
        rest.setdefault("slope", torch.rand(out, generator=generator) * 0.5)
    rest.setdefault("padding", size // 2)
    return Layer(weight, torch.randn(out, generator=generator) * 0.1 if bias else None, **rest)


def espcn_layers(scale: int, wide: int = 64, narrow: int = 32) -> tuple[Layer, ...]:
    """Layers of ESPCN's shape."""
    last = random_layer(scale * scale, narrow, 3, shuffle=scale)
    return random_layer(wide, 1, 5, activation="tanh"), random_layer(narrow, wide, 3, activation="tanh"), last


def fsrcnn_layers(scale: int, d: int = 56, s: int = 12, m: int = 4) -> tuple[Layer, ...]:
    """Layers of FSRCNN's shape, with the deconvolution as its phases."""
    ends = (random_layer(d, 1, 5, activation="prelu"), random_layer(s, d, 1, activation="prelu"))
    maps = [random_layer(s, s, 3, activation="prelu") for _ in range(m)]
    last = random_layer(scale * scale, d, 5 if scale == 2 else 3, shuffle=scale)
    return *ends, *maps, random_layer(d, s, 1, activation="prelu"), last
