"""A network with the borders of the `Upscaler`: frames are extended by their mirror image, and the result cropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ..models.layers import mirror

if TYPE_CHECKING:
    from torch import Tensor


class Mirrored(nn.Module):
    """(N, C, H, W) → (N, C, H·scale, W·scale), up to the border as the `Upscaler` makes it.

    Args:
        network: (N, C, H, W) → (N, C, H·scale, W·scale).
        margin: Samples by which the frame is extended on each side; it must have as many.
        scale: Scale of the network.
    """

    def __init__(self, network: nn.Module, margin: int, scale: int) -> None:
        super().__init__()
        self.network = network
        self.margin = margin
        self.border = margin * scale

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        large: Tensor = self.network(mirror(x, self.margin))
        inside = slice(self.border, -self.border or None)
        return large[:, :, inside, inside]
