"""SRCNN: three convolutions over the bicubic enlargement, the first network for super-resolution.

Dong et al., "Learning a Deep Convolutional Network for Image Super-Resolution", ECCV 2014 (9-1-5), and "Image
Super-Resolution Using Deep Convolutional Networks", TPAMI 2016, section 4.3.2 (9-5-5, its best).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initial import gaussian, pass_through, respond
from .layers import ACTIVATIONS, BicubicUpsample, mirror
from .layout import FULL_RANGE, Layout, table

if TYPE_CHECKING:
    from .layout import Tensors


class SRCNN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    The paper trains without padding and tests on the whole image; here the edges are padded, so that the result has
    all of the image.

    Args:
        scale: Scale of the enlargement in front; no shape depends on it.
        middle: Kernel size of the mapping: 1 or 5.
        last: Activation of the result, in networks that are not the paper's: "none", or a name in `ACTIVATIONS`.
        edges: Padding: the edge sample repeated ("repeat"), or the image mirrored ("mirror").
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

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """Channel 0 passes the enlarged image through."""
        h = self.upsample(patches)
        for layer in (self.conv1, self.conv2):
            respond(layer, 1, h, 0.5, generator)
            pass_through(layer, 1)
            h = torch.relu(layer(h))
        gaussian(self.conv3, generator)
        pass_through(self.conv3, 1)


LAYOUTS = (
    Layout(
        r"srcnn[|/]conv1[|/]kernel",
        table((r"srcnn[|/](.+)[|/]kernel", r"\1.weight"), (r"srcnn[|/](.+)[|/]bias", r"\1.bias"), hwio=True),
        {"last": "relu", "edges": "mirror"},
        note=FULL_RANGE,
    ),
    Layout(
        r"conv1\.weight",
        table(),
        natural=True,
        note="If these convolutions padded with zeros, as yjn870's do, edges differ: ours repeat the edge",
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    return {"middle": state["conv2.weight"].shape[-1]}
