"""SRCNN: three convolutions over the bicubic enlargement, the first network for super-resolution.

Dong et al., "Learning a Deep Convolutional Network for Image Super-Resolution", ECCV 2014 (9-1-5), and "Image
Super-Resolution Using Deep Convolutional Networks", TPAMI 2016, section 4.3.2 (9-5-5, its best).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ACTIVATIONS, BicubicUpsample, mirror


class SRCNN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    The paper trains without padding and tests on the whole picture; here the edges are padded, so that the border is as
    large as the picture.

    Args:
        scale: Of the enlargement in front; no shape depends on it.
        middle: Kernel size of the mapping: 1 or 5.
        last: What the result goes through, in networks that are not the paper's: "none", or a name in `ACTIVATIONS`.
        edges: What is beyond the edge: it is repeated ("repeat"), or the picture mirrored ("mirror").
    """

    def __init__(self, scale: int, middle: int = 5, last: str = "none", edges: str = "repeat") -> None:
        super().__init__()
        self.last = ACTIVATIONS.get(last)
        self.edges = edges
        self.upsample = BicubicUpsample(scale)
        self.conv1 = nn.Conv2d(1, 64, 9)  # patch extraction
        self.conv2 = nn.Conv2d(64, 32, middle)  # non-linear mapping
        self.conv3 = nn.Conv2d(32, 1, 5)  # reconstruction
        self.border = 4 + middle // 2 + 2

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        x = self.upsample(x)  # (N, 1, H·s, W·s)
        x = mirror(x, self.border) if self.edges == "mirror" else F.pad(x, (self.border,) * 4, mode="replicate")
        return self.refine(x)

    def refine(self, x: Tensor) -> Tensor:
        """The three convolutions without padding: each side loses ``border`` samples."""
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.conv3(x)
        return x if self.last is None else self.last(x)
