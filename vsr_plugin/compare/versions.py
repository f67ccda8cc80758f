"""What is compared: interpolation and networks, and what each makes of a part of a frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ..color import Conversion
from ..engine import Upscaler
from ..execution import Execution
from ..models import CLEAN, NetworkSpec
from ..models.layers import BicubicUpsample
from .crop import cut

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from torch import Tensor

    from ..frames import Frame
    from .crop import Crop

_BICUBIC_REACH = 3  # input samples
_LOBES = 3  # of the Lanczos kernel, as FFmpeg has by default


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of those to choose from.

    Attributes:
        model: A name out of `MODELS`.
        weights: A file in place of the shipped weights.
        self_ensemble: Whether with the self-ensemble; the label then ends in a plus.
        tuned_for: Which of the shipped weights, as in `Upscaler`.
    """

    model: str
    weights: Path | None = None
    self_ensemble: bool = False
    tuned_for: str = CLEAN

    @property
    def label(self) -> str:
        """What stands above its picture."""
        own = f" ({self.weights.name})" if self.weights else "" if self.tuned_for == CLEAN else f" ({self.tuned_for})"
        return f"{self.model}{'+' if self.self_ensemble else ''}{own}"


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


def interpolation(name: str, scale: int, execution: Execution) -> Upscaler:
    """``bicubic`` or ``Lanczos`` in place of a network, on the same device."""
    module, reach = {"bicubic": (BicubicUpsample, _BICUBIC_REACH), "Lanczos": (Lanczos, _LOBES)}[name]
    how = Execution(backend="eager", device=execution.device)
    return Upscaler.from_module(module(scale), NetworkSpec(name=name, overlap={scale: reach}), scale, how)


def open_models(
    cleanup: ExitStack, candidates: Sequence[Candidate], scale: int, execution: Execution
) -> list[Upscaler]:
    """The models, each of which is closed with ``cleanup``."""
    upscalers = []
    for choice in candidates:
        how = replace(execution, self_ensemble=choice.self_ensemble)
        upscalers.append(
            cleanup.enter_context(
                Upscaler(choice.model, scale, how, weights=choice.weights, tuned_for=choice.tuned_for)
            )
        )
    return upscalers


def enlarge(frame: Frame, crop: Crop, upscaler: Upscaler) -> Tensor:
    """(H, W, 3) uint8 of the enlarged crop: the same samples as in the whole enlarged picture."""
    scale = upscaler.scale
    window, x, y = cut(frame, crop, upscaler.spec.overlap[scale])
    (large,) = upscaler.upscale([window])
    conversion = Conversion(large.color, len(large.planes), 3, 1)
    rgb, _ = conversion.split([plane[None] for plane in large.planes])
    rgb = rgb[0, :, y * scale : (y + crop.height) * scale, x * scale : (x + crop.width) * scale]
    return (rgb * 255).round().to(torch.uint8).permute(1, 2, 0)
