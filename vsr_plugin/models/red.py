"""RED30: fifteen convolutions and fifteen deconvolutions, every second pair joined by a skip connection.

Mao et al., "Image Restoration Using Very Deep Convolutional Encoder-Decoder Networks with Symmetric Skip Connections",
NIPS 2016, section 3. All strides are 1 in the network for super-resolution.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initial import identity, near_zero_residual
from .layers import BicubicUpsample
from .layout import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .layout import Tensors

_AWAKE = 1e-7  # positive, so that the ReLU after it lets the layer learn


class RED(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: Scale of the enlargement in front; no weight depends on it.
        pairs: The number of convolutions, and of deconvolutions.
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

    start_from_bicubic = near_zero_residual

    def grow_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Insert new pairs in the middle, an even number of them, so that skip connections keep their partners.

        A skip connection from the layer before them, or from an identity after it, leads around the new layers; the
        deconvolution that it is added to starts at zero, the next one as the identity.
        """
        own, pairs = self.state_dict(), count(state, r"convolutions\.(\d+)\.weight")
        new = len(self.convolutions) - pairs
        grown = {
            re.sub(r"^deconvolutions\.(\d+)", lambda found: f"deconvolutions.{int(found[1]) + new}", key): value
            for key, value in state.items()
        }
        if not new:
            return grown
        if pairs % 2 == 1:
            grown |= identity(own, f"convolutions.{pairs}")
        zero = f"deconvolutions.{new - 2}"
        grown[f"{zero}.weight"] = torch.zeros_like(own[f"{zero}.weight"])
        grown[f"{zero}.bias"] = torch.full_like(own[f"{zero}.bias"], _AWAKE)
        return grown | identity(own, f"deconvolutions.{new - 1}")


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    return {
        "pairs": count(state, r"convolutions\.(\d+)\.weight"),
        "features": state["convolutions.0.weight"].shape[0],
    }
