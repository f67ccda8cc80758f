"""LapSRN: a pyramid that doubles the image at every level, and adds a residual to each.

Lai et al., "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", CVPR 2017, section 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .initial import near_zero_residual
from .layers import CroppedDeconvolution
from .layout import Layout, count, count_names, table

if TYPE_CHECKING:
    import re

    from .layout import Tensors


class LapSRN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: 2, 4 or 8: one level for each doubling.
        depth: Convolutions of a level; by default the paper's: 10, and 5 for a scale of 8.
        kernel: Kernel size of the features' deconvolution: 3 in the authors' network, 4 in the paper's text.
        features: Channels of every layer.
        bias: Whether the layers of features have a bias.
    """

    def __init__(
        self, scale: int, depth: int | None = None, kernel: int = 3, features: int = 64, bias: bool = True
    ) -> None:
        super().__init__()
        depth = depth or (5 if scale == 8 else 10)
        self.input = nn.Sequential(nn.Conv2d(1, features, 3, padding=1, bias=bias), nn.LeakyReLU(0.2))
        self.levels = nn.ModuleList(_Level(depth, kernel, features, bias) for _ in range(scale.bit_length() - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        return self.pyramid(x)[-1]

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """``x`` enlarged by 2, 4, … in one pass: training supervises all of them (section 3.2)."""
        features, images = self.input(x), [x]
        for level in self.levels:
            features, image = level(features, images[-1])
            images.append(image)
        return images[1:]

    start_from_bicubic = near_zero_residual


class _Level(nn.Module):
    """Features and image at one size → both at twice the size."""

    def __init__(self, depth: int, kernel: int, features: int, bias: bool) -> None:
        super().__init__()
        self.body = nn.Sequential()
        for _ in range(depth):
            self.body.extend([nn.Conv2d(features, features, 3, padding=1, bias=bias), nn.LeakyReLU(0.2)])
        self.enlarge = (
            CroppedDeconvolution(features, 3, 2, bias)
            if kernel == 3
            else nn.ConvTranspose2d(features, features, 4, 2, 1, bias=bias)
        )
        self.activation = nn.LeakyReLU(0.2)
        self.residual = nn.Conv2d(features, 1, 3, padding=1, bias=bias)
        self.picture = nn.ConvTranspose2d(1, 1, 4, 2, padding=1, bias=False)

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.activation(self.enlarge(self.body(features)))  # (N, 64, 2·H, 2·W)
        return features, self.picture(image) + self.residual(features)  # (N, 1, 2·H, 2·W)


def _body(found: re.Match[str], tensors: Tensors) -> str:
    """The deconvolution is the last of a level's sequence."""
    level, index = int(found[1]), int(found[2])
    last = 2 * count_names(tensors, rf"convt_F{level}\.0\.cov_block\.\d+\.weight") - 2
    return f"levels.{level - 1}." + ("enlarge" if index == last else f"body.{index}") + f".{found[3]}"


def _level(found: re.Match[str], _: Tensors) -> str:
    return f"levels.{int(found[2]) - 1}.{'picture' if found[1] == 'I' else 'residual'}.{found[3]}"


LAYOUTS = (
    Layout(
        r"convt_F1\.0\.cov_block\.0\.weight",
        table(
            (r"conv_input\.(.+)", r"input.0.\1"),
            (r"convt_F(\d)\.0\.cov_block\.(\d+)\.(.+)", _body),
            (r"convt_([IR])(\d)\.(.+)", _level),
        ),
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    return {
        "depth": count(state, r"levels\.0\.body\.(\d+)\.weight"),
        "kernel": state["levels.0.enlarge.weight"].shape[-1],
        "features": state["input.0.weight"].shape[0],
        "bias": "input.0.bias" in state,
    }
