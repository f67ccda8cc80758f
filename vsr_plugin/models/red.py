"""RED30: fifteen convolutions and fifteen deconvolutions, every second pair joined by a skip connection.

Mao et al., "Image Restoration Using Very Deep Convolutional Encoder-Decoder Networks with Symmetric Skip Connections",
NIPS 2016, section 3. All strides are 1 in the network for super-resolution.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import BicubicUpsample
from .layout import count

if TYPE_CHECKING:
    from .layout import Tensors


class RED(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: Of the enlargement in front; no weight depends on it.
        pairs: Convolutions, and as many deconvolutions.
        features: Channels between them.
    """

    def __init__(self, scale: int, pairs: int = 15, features: int = 128) -> None:
        super().__init__()
        self.upsample = BicubicUpsample(scale)
        widths = [1] + [features] * pairs
        self.convolutions = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.deconvolutions = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 3, padding=1) for before, after in pairwise(reversed(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        x = self.upsample(x)  # (N, 1, H·s, W·s)
        h, kept = x, []
        for index, convolution in enumerate(self.convolutions, 1):
            h = F.relu(convolution(h))  # (N, features, H·s, W·s)
            if index % 2 == 0 and index < len(self.convolutions):
                kept.append(h)
        *hidden, last = self.deconvolutions
        for index, deconvolution in enumerate(hidden, 1):
            h = F.relu(deconvolution(h))
            if index % 2 == 1 and kept:  # 14 → 1, 12 → 3, … 2 → 13
                h = F.relu(h + kept.pop())
        x = x + last(h)
        return x


def read_options(state: Tensors) -> dict[str, Any]:
    """What the constructor must be told, as names and shapes of weights say it."""
    return {
        "pairs": count(state, r"convolutions\.(\d+)\.weight"),
        "features": state["convolutions.0.weight"].shape[0],
    }
