"""Bicubic and Lanczos interpolation in place of a network, for comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import nn

from .engine import Upscaler
from .execution import Execution
from .models import NetworkSpec
from .models.layers import BicubicUpsample

if TYPE_CHECKING:
    from torch import Tensor

_BICUBIC_REACH = 3  # input samples
_LOBES = 3  # of the Lanczos kernel, FFmpeg's default


class Lanczos(nn.Module):
    """Enlargement by the Lanczos kernel of radius 3, edge samples repeated.

    Source: Duchon, "Lanczos Filtering in One and Two Dimensions", J. Appl. Meteorology 1979.
    """

    weight: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        position = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5  # of each output sample
        distance = position[:, None] - torch.arange(-_LOBES, _LOBES + 1)
        line = torch.sinc(distance) * torch.sinc(distance / _LOBES) * (distance.abs() < _LOBES)
        line = line / line.sum(1, keepdim=True)
        weight = torch.einsum("iy,jx->ijyx", line, line).flatten(0, 1)[:, None]
        self.register_buffer("weight", weight.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) → (N, 1, H·scale, W·scale)."""
        x = F.pad(x, (_LOBES,) * 4, mode="replicate")
        return F.pixel_shuffle(F.conv2d(x, self.weight.to(x.dtype)), self.scale)


def interpolation(name: Literal["bicubic", "Lanczos"], scale: int, execution: Execution) -> Upscaler:
    """An `Upscaler` that interpolates in float32 on the device of ``execution``."""
    module, reach = {"bicubic": (BicubicUpsample, _BICUBIC_REACH), "Lanczos": (Lanczos, _LOBES)}[name]
    how = Execution(backend="eager", device=execution.device, precision="float32")
    return Upscaler.from_module(module(scale), NetworkSpec(name=name, overlap={scale: reach}), scale, how)
