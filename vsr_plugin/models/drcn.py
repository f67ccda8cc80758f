"""DRCN: one convolution applied sixteen times, an image made after each, and a learned weighted mean of the images.

Kim et al., "Deeply-Recursive Convolutional Network for Image Super-Resolution", CVPR 2016, sections 3.1 and 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initial import near_zero_residual, pass_through
from .layers import ACTIVATIONS, BicubicUpsample
from .layout import Layout, in_unit_range, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .layout import Tensors


class DRCN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: Scale of the enlargement in front; no weight depends on it.
        features: Channels of every layer.
        recursions: How often the convolution in the middle is applied.
        skip: How the enlarged image is used: "add" it to the result, as in the paper, or "concatenate" it to the input
            of the last convolution.
        last: Activation after every image, in networks that are not the paper's: "none", or a name in `ACTIVATIONS`.
    """

    def __init__(
        self, scale: int, features: int = 256, recursions: int = 16, skip: str = "add", last: str = "none"
    ) -> None:
        super().__init__()
        self.last = ACTIVATIONS.get(last)
        self.recursions = recursions
        self.skip = skip
        self.upsample = BicubicUpsample(scale)
        self.embedding = nn.Sequential(
            nn.Conv2d(1, features, 3, padding=1), nn.ReLU(), nn.Conv2d(features, features, 3, padding=1), nn.ReLU()
        )
        self.inference = nn.Conv2d(features, features, 3, padding=1)
        seen = features + 1 if skip == "concatenate" else features
        self.reconstruction = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1), nn.ReLU(), nn.Conv2d(seen, 1, 3, padding=1)
        )
        self.ensemble = nn.Parameter(torch.full((recursions,), 1 / recursions))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        x = self.upsample(x)  # (N, 1, H·s, W·s)
        h = self.embedding(x)  # (N, features, H·s, W·s)
        result = torch.zeros_like(x)
        for weight in self.ensemble:
            h = F.relu(self.inference(h))
            result = result + weight * self.reconstruct(h, x)
        return result

    def images(self, x: Tensor) -> list[Tensor]:
        """The images of all recursions for ``x``: each is supervised in training (section 3.2)."""
        x = self.upsample(x)
        h = self.embedding(x)
        made = []
        for _ in range(self.recursions):
            h = F.relu(self.inference(h))
            made.append(self.reconstruct(h, x))
        return made

    def reconstruct(self, h: Tensor, x: Tensor) -> Tensor:
        """Make an image, (N, 1, H·s, W·s), of the features ``h`` and the enlarged image ``x``."""
        first, activation, last = self.reconstruction
        h = activation(first(h))
        result: Tensor = last(torch.cat([h, x], 1)) if self.skip == "concatenate" else x + last(h)
        return result if self.last is None else self.last(result)

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """The recursion starts as the identity, so that it keeps its input."""
        near_zero_residual(self, patches, generator)
        self.inference.weight.zero_()
        pass_through(self.inference, self.inference.in_channels)

    def grow_from(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The images of new recursions start with weight 0 in the mean."""
        ensemble = torch.zeros_like(self.ensemble)
        ensemble[: len(state["ensemble"])] = state["ensemble"]
        return {**state, "ensemble": ensemble}


def _of_jiny2001(_: Tensors, state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = in_unit_range(state, 255.0)
    if "ensemble" in state:
        state["ensemble"] = state["ensemble"] / state["ensemble"].sum()
    return state


LAYOUTS = (
    Layout(
        r"WD1_conv.*",
        table(
            (r"W-1_conv[|/]conv_W.*", "embedding.0.weight"),
            (r"W-1_conv[|/]conv_B.*", "embedding.0.bias"),
            (r"W0_conv[|/]conv_W.*", "embedding.2.weight"),
            (r"W0_conv[|/]conv_B.*", "embedding.2.bias"),
            (r"W_conv", "inference.weight"),
            (r"B", "inference.bias"),
            (r"WD1_conv.*", "reconstruction.0.weight"),
            (r"BD1", "reconstruction.0.bias"),
            (r"WD2_conv.*", "reconstruction.2.weight"),
            (r"BD2", "reconstruction.2.bias"),
            (r"LayerWeights", "ensemble"),
            hwio=True,
        ),
        {"last": "relu"},
        fold=_of_jiny2001,
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    features = state["inference.weight"].shape[0]
    joined = state["reconstruction.2.weight"].shape[1] == features + 1
    return {
        "features": features,
        "recursions": state["ensemble"].shape[0],
        "skip": "concatenate" if joined else "add",
    }
