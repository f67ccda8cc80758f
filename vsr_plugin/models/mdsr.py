"""MDSR: EDSR for all scales at once; only the first blocks and the last layers know the scale.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3.3: the baseline
has 16 blocks, the full network 80, of 64 channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import MeanShift, ResidualBlock, SubpixelUpsample

_SCALES = (2, 3, 4)


class MDSR(nn.Module):
    """(N, 3, H, W) RGB in [0, 1] → (N, 3, H·scale, W·scale).

    Args:
        scale: 2, 3 or 4: which of the branches is used; all of them are there.
        blocks: Residual blocks of the body that the scales share.
        features: Channels of every layer.
    """

    def __init__(self, scale: int, blocks: int = 16, features: int = 64) -> None:
        super().__init__()
        self.scale = scale
        self.mean = MeanShift()
        self.head = nn.Conv2d(3, features, 3, padding=1)
        self.preprocess = nn.ModuleDict(
            {f"x{s}": nn.Sequential(*(ResidualBlock(features, kernel=5) for _ in range(2))) for s in _SCALES}
        )
        self.blocks = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.body = nn.Conv2d(features, features, 3, padding=1)
        self.upsample = nn.ModuleDict({f"x{s}": SubpixelUpsample(features, s) for s in _SCALES})
        self.tail = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        branch = f"x{self.scale}"
        first = self.preprocess[branch](self.head(self.mean.subtract(x)))  # (N, features, H, W)
        h = first + self.body(self.blocks(first))
        h = self.upsample[branch](h)  # (N, features, H·s, W·s)
        return self.mean.add(self.tail(h))
