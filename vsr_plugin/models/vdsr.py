"""VDSR: twenty layers that predict what bicubic enlargement lacks, one network for all scales.

Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016, section 3: 3 × 3
filters, 64 channels, zeros around every layer, the residual of the enlarged picture.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import BicubicUpsample


class VDSR(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: Of the enlargement in front; no weight depends on it.
        layers: Convolutions.
        features: Channels between them.
        bias: Whether the convolutions have one.
    """

    def __init__(self, scale: int, layers: int = 20, features: int = 64, bias: bool = True) -> None:
        super().__init__()
        self.upsample = BicubicUpsample(scale)
        self.layers = nn.Sequential(nn.Conv2d(1, features, 3, padding=1, bias=bias), nn.ReLU(inplace=True))
        for _ in range(layers - 2):
            self.layers.extend([nn.Conv2d(features, features, 3, padding=1, bias=bias), nn.ReLU(inplace=True)])
        self.layers.append(nn.Conv2d(features, 1, 3, padding=1, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        x = self.upsample(x)  # (N, 1, H·s, W·s)
        x = x + self.layers(x)
        return x
