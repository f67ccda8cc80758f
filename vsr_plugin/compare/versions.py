"""The versions to compare, and a part of a frame enlarged by one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..arrays import as_tensor
from ..color import Conversion
from ..engine import Upscaler
from ..models import CLEAN
from .crop import cut

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..execution import Execution
    from ..frames import Frame
    from .crop import Crop


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version to compare.

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
        """The text above its image."""
        own = f" ({self.weights.name})" if self.weights else "" if self.tuned_for == CLEAN else f" ({self.tuned_for})"
        return f"{self.model}{'+' if self.self_ensemble else ''}{own}"

    def open(self, scale: int, execution: Execution) -> Upscaler:
        """Open the model at a scale that it has; its `self_ensemble` overrides that of ``execution``."""
        how = replace(execution, self_ensemble=self.self_ensemble)
        return Upscaler(self.model, scale, how, weights=self.weights, tuned_for=self.tuned_for)


def enlarge(frame: Frame, crop: Crop, upscaler: Upscaler) -> Tensor:
    """(H, W, 3) uint8 of the enlarged crop: the same samples as in the whole enlarged image."""
    scale = upscaler.scale
    window, x, y = cut(frame, crop, upscaler.spec.overlap[scale])
    (large,) = upscaler.upscale([window])
    conversion = Conversion(large.color, len(large.planes), 3, 1)
    rgb, _ = conversion.split([as_tensor(plane)[None] for plane in large.planes])
    rgb = rgb[0, :, y * scale : (y + crop.height) * scale, x * scale : (x + crop.width) * scale]
    return (rgb * 255).round().to(torch.uint8).permute(1, 2, 0)
