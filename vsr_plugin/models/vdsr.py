"""VDSR: twenty layers that predict the residual of bicubic enlargement, one network for all scales.

Kim et al., "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016, section 3: 3 × 3
filters, 64 channels, zeros around every layer, the residual of the enlarged image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .initial import identity, near_zero_residual
from .layers import BicubicUpsample
from .layout import Layout, count, count_names, table

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from .layout import Tensors


class VDSR(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: Scale of the enlargement in front; no weight depends on it.
        layers: The number of convolutions.
        features: Channels between them.
        bias: Whether the convolutions have a bias.
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

    start_from_bicubic = near_zero_residual

    def grow_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """New layers, before the last, start as the identity."""
        own = self.state_dict()
        last, own_last = (2 * count_names(each, r"layers\.\d+\.weight") - 2 for each in (state, own))
        grown = {key.replace(f"layers.{last}.", f"layers.{own_last}."): value for key, value in state.items()}
        for index in range(last, own_last, 2):
            grown |= identity(own, f"layers.{index}")
        return grown


def _layer(found: re.Match[str], tensors: Tensors) -> str:
    """The last layer comes after all those between; every second number is that of a ReLU."""
    before = int(found[1]) if found[1] else count_names(tensors, r"residual_layer\.\d+\.conv\.weight")
    return f"layers.{2 * before + 2}.{found[2]}"


LAYOUTS = (
    Layout(  # numbered from 1, as MATLAB's are
        r"conv1\.weight",
        table((r"conv(\d+)\.(weight|bias)", lambda found, _: f"layers.{2 * int(found[1]) - 2}.{found[2]}")),
        natural=True,
    ),
    Layout(
        r"residual_layer\.0\.conv\.weight",
        table(
            (r"input\.(.+)", r"layers.0.\1"),
            (r"residual_layer\.(\d+)\.conv\.(.+)", _layer),
            (r"output()\.(.+)", _layer),
        ),
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    return {
        "layers": count(state, r"layers\.(\d+)\.weight"),
        "features": state["layers.0.weight"].shape[0],
        "bias": "layers.0.bias" in state,
    }
