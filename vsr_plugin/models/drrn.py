"""DRRN: fifty-two layers of three convolutions, for the residual unit is the same twenty-five times.

Tai et al., "Image Super-Resolution via Deep Recursive Residual Network", CVPR 2017, section 3: one recursive block (B1)
of U residual units, each of which adds the block's first features. Without batch normalisation and biases, as in the
297 K parameters that the paper counts.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import BicubicUpsample


class DRRN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: Of the enlargement in front; no weight depends on it.
        units: How often the residual unit is applied: U in the paper's name B1U25.
        features: Channels of every layer.
        rectified: Whether the units add the first features after their ReLU, and not before as in the paper.
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
