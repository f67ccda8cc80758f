"""EDSR: SRResNet without batch normalisation, wider and deeper.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3.2: the baseline
has 16 blocks of 64 channels, the full network 32 of 256 whose residuals are scaled by 0.1.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import MeanShift, ResidualBlock, SubpixelUpsample


class EDSR(nn.Module):
    """(N, 3, H, W) RGB in [0, 1] → (N, 3, H·scale, W·scale).

    Args:
        scale: 2, 3 or 4.
        blocks: Residual blocks.
        features: Channels of every layer.
        residual_scale: What the residual of a block is multiplied by.
    """

    def __init__(self, scale: int, blocks: int = 16, features: int = 64, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.mean = MeanShift()
        self.head = nn.Conv2d(3, features, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(features, residual_scale=residual_scale) for _ in range(blocks)))
        self.body = nn.Conv2d(features, features, 3, padding=1)
        self.upsample = SubpixelUpsample(features, scale)
        self.tail = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        first = self.head(self.mean.subtract(x))  # (N, features, H, W)
        h = first + self.body(self.blocks(first))
        h = self.upsample(h)  # (N, features, H·s, W·s)
        return self.mean.add(self.tail(h))
