"""SRResNet: residual blocks at low resolution and sub-pixel convolutions; SRGAN's generator is the same network.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017, section
2.1 and figure 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .initial import skip_blocks
from .layout import Layout, count, numbered

if TYPE_CHECKING:
    from .layout import Tensors


class SRResNet(nn.Module):
    """(N, 3, H, W) RGB in [0, 1] → (N, 3, H·scale, W·scale).

    Args:
        scale: 2 or 4: one sub-pixel convolution for each doubling.
        blocks: Residual blocks.
        features: Channels of every layer.
        slopes: Of every PReLU: "one", or one for "each" of the features; the paper does not say which.
    """

    def __init__(self, scale: int, blocks: int = 16, features: int = 64, slopes: str = "one") -> None:
        super().__init__()
        count = features if slopes == "each" else 1
        self.head = nn.Sequential(nn.Conv2d(3, features, 9, padding=4), nn.PReLU(count))
        self.blocks = nn.Sequential(*(_Block(features, count) for _ in range(blocks)))
        self.body = nn.Sequential(nn.Conv2d(features, features, 3, padding=1, bias=False), nn.BatchNorm2d(features))
        self.upsample = nn.Sequential()
        for _ in range(scale.bit_length() - 1):
            stage = [nn.Conv2d(features, 4 * features, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(count)]
            self.upsample.extend(stage)
        self.tail = nn.Conv2d(features, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        first = self.head(x)  # (N, 64, H, W)
        h = first + self.body(self.blocks(first))
        h = self.upsample(h)  # (N, 64, H·s, W·s)
        result: Tensor = self.tail(h)  # RGB in [-1, 1], as the paper trains it
        return 0.5 * result + 0.5

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """The first channels carry the picture past the blocks, and end in [-1, 1]."""
        head = self.head[0]
        assert isinstance(head, nn.Conv2d)
        skip_blocks(self, head, [self.upsample], self.tail, generator)
        for path in (part for part in self.modules() if isinstance(part, nn.Sequential) and len(part)):
            if isinstance(path[-1], nn.BatchNorm2d):  # where a residual ends
                nn.init.constant_(path[-1].weight, 0.01)
        self.tail.weight.mul_(2.0)
        assert self.tail.bias is not None
        self.tail.bias.fill_(-1.0)


class _Block(nn.Module):
    def __init__(self, features: int, slopes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
            nn.PReLU(slopes),
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.layers(x)
        return result


def _layers(convolutions: int) -> list[str]:
    """×2 has an even number of convolutions, ×4 an odd one."""
    stages = 1 + convolutions % 2
    blocks = (convolutions - 3 - stages) // 2
    inside = [f"blocks.{block}.layers.{layer}" for block in range(blocks) for layer in (0, 3)]
    return ["head.0", *inside, "body.0", *(f"upsample.{3 * stage}" for stage in range(stages)), "tail"]


def _norms(norms: int) -> list[str]:
    return [*(f"blocks.{index // 2}.layers.{1 + 3 * (index % 2)}" for index in range(norms - 1)), "body.1"]


def _slopes(slopes: int) -> list[str]:
    """One in the head, one a block, and one a stage, of which there are two in the networks known here."""
    return ["head.1", *(f"blocks.{block}.layers.2" for block in range(slopes - 3)), "upsample.2", "upsample.5"]


LAYOUTS = (
    Layout(
        r"arg:batchnorm0_gamma",
        numbered(convolution=_layers, batchnorm=_norms, leakyrelu=_slopes),
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """What the constructor must be told, as names and shapes of weights say it."""
    return {
        "blocks": count(state, r"blocks\.(\d+)\.layers\.0\.weight"),
        "features": state["head.0.weight"].shape[0],
        "slopes": "one" if state["head.1.weight"].numel() == 1 else "each",
    }
