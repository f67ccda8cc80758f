"""A generated clip of moving detail: rings that grow finer outwards, and a texture that drifts."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ..frames import ColorSpec, Frame, Matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import Settings

RATE = 30


def frames(settings: Settings) -> list[Frame]:
    """The clip as frames, for use without PyAV."""
    color = ColorSpec(Matrix.BT709, subsampling=(1, 1))
    base = Fraction(1, RATE)
    return [
        Frame(tuple(plane.numpy() for plane in planes), index, base, color=color)
        for index, planes in enumerate(clip_planes(settings))
    ]


def clip_planes(settings: Settings) -> Iterator[tuple[torch.Tensor, ...]]:
    """The planes of every frame, 4:2:0, 8 bits."""
    y, x = torch.meshgrid(torch.arange(settings.height), torch.arange(settings.width), indexing="ij")
    texture = torch.rand(settings.height, settings.width, generator=torch.Generator().manual_seed(1))
    texture = F.avg_pool2d(texture[None, None], 3, 1, 1)[0, 0] - 0.5
    small = (-(-settings.height // 2), -(-settings.width // 2))
    for index in range(settings.frames):
        distance = (x - settings.width / 2 - 2 * index) ** 2 + (y - settings.height / 2) ** 2
        rings = torch.cos(distance * (2.2 / settings.width) - index / 3)
        luma = 126 + 60 * rings + 90 * texture.roll((index, 2 * index), (0, 1))
        chroma = [128 + 40 * torch.cos(part / 40 + index / 9) for part in (x, y)]
        planes = [luma, *(plane.float()[: 2 * small[0] : 2, : 2 * small[1] : 2] for plane in chroma)]
        yield tuple(plane.round().clamp(16, 235).to(torch.uint8) for plane in planes)
