"""DRRN: fifty-two layers with the weights of four, as one residual unit is applied twenty-five times.

Tai et al., "Image Super-Resolution via Deep Recursive Residual Network", CVPR 2017, section 3: one recursive block (B1)
of U residual units, each of which adds the block's first features. Without batch normalization and biases, as in the
297 K parameters that the paper counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initial import near_zero_residual
from .layers import BicubicUpsample
from .layout import Layout, table

if TYPE_CHECKING:
    from .layout import Tensors


class DRRN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: Scale of the enlargement in front; no weight depends on it.
        units: How often the residual unit is applied: U in the paper's name B1U25.
        features: Channels of every layer.
        rectified: Whether the units add the first features after their ReLU; in the paper, before it.
    """

    def __init__(self, scale: int, units: int = 25, features: int = 128, rectified: bool = False) -> None:
        super().__init__()
        self.units = units
        self.rectified = rectified
        self.upsample = BicubicUpsample(scale)
        self.input = nn.Conv2d(1, features, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.output = nn.Conv2d(features, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        x = self.upsample(x)  # (N, 1, H·s, W·s)
        first = self.input(F.relu(x))  # (N, features, H·s, W·s); activation comes before the weights
        h = first = F.relu(first) if self.rectified else first
        for _ in range(self.units):
            h = first + self.conv2(F.relu(self.conv1(F.relu(h))))
        x = x + self.output(F.relu(h))
        return x

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """A residual that is added twenty-five times must start small."""
        near_zero_residual(self, patches, generator)
        self.conv2.weight.mul_(0.1)


LAYOUTS = (
    Layout(
        r"arg:learned_0",
        table(
            (r"arg:learned_0", "input.weight"),
            (r"arg:learned_([12])", r"conv\1.weight"),
            (r"arg:learned_3", "output.weight"),
        ),
        {"rectified": True, "units": 25},
    ),
    Layout(r"input\.weight", table(), {"rectified": True, "units": 25}, origin=r"drrn\.DRRN"),
    Layout(
        r"input\.weight",
        table(),
        natural=True,
        note="Taken for the paper's form; of jt827859032's, whose units add rectified features, convert them with the "
        "option rectified",
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    return {"features": state["input.weight"].shape[0]}
