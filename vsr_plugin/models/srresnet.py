"""SRResNet: residual blocks at low resolution and sub-pixel convolutions; SRGAN's generator is the same network.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017, section
2.1 and figure 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initial import skip_blocks
from .layers import DIV2K_MEAN
from .layout import Layout, count, numbered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .layout import Tensors


class SRResNet(nn.Module):
    """(N, 3, H, W) RGB in [0, 1] → (N, 3, H·scale, W·scale).

    Args:
        scale: 2 or 4: one sub-pixel convolution for each doubling.
        blocks: Residual blocks.
        features: Channels of every layer.
        slopes: Slopes of every PReLU: "one", or one for "each" of the features; the paper does not say which.
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
        """The first channels pass the image around the blocks, and end in [-1, 1]."""
        head = self.head[0]
        assert isinstance(head, nn.Conv2d)
        skip_blocks(self, head, [self.upsample], self.tail, generator)
        for path in (part for part in self.modules() if isinstance(part, nn.Sequential) and len(part)):
            if isinstance(path[-1], nn.BatchNorm2d):  # where a residual ends
                nn.init.constant_(path[-1].weight, 0.01)
        self.tail.weight.mul_(2.0)
        assert self.tail.bias is not None
        self.tail.bias.fill_(-1.0)

    def read_sibling(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Convert EDSR's weights to this network, which is EDSR with more layers and then gives the same frame.

        PReLUs inside residuals become ReLUs, the others the identity. Filters become the middle of larger ones; the
        mean color, and the range [-1, 1] of the output, become part of the first and of the last layer. Call
        `normalize` once they are loaded. Returns None if these are not EDSR's weights.
        """
        if "blocks.0.conv1.weight" not in state:
            return None
        own = self.state_dict()
        found = {}
        for key, value in own.items():
            if key.endswith(".weight") and value.ndim == 1 and key.replace("weight", "running_mean") not in own:
                found[key] = torch.full_like(value, 0.0 if key.startswith("blocks") else 1.0)
        mean = torch.tensor(DIV2K_MEAN)
        for key, value in state.items():
            match key.split("."):
                case ["head", "weight"]:
                    found["head.0.weight"] = _widened(value, own["head.0.weight"])
                case ["head", "bias"]:
                    found["head.0.bias"] = value - state["head.weight"].sum((2, 3)) @ mean
                case ["blocks", block, "conv1" | "conv2" as layer, kind]:
                    place = 3 * (layer == "conv2") + (kind == "bias")
                    found[f"blocks.{block}.layers.{place}.{kind}"] = value
                case ["body", kind]:
                    found[f"body.{int(kind == 'bias')}.{kind}"] = value
                case ["upsample", stage, kind]:
                    found[f"upsample.{int(stage) // 2 * 3}.{kind}"] = value
                case ["tail", "weight"]:
                    found["tail.weight"] = _widened(2 * value, own["tail.weight"])
                case ["tail", "bias"]:
                    found["tail.bias"] = 2 * (value + mean) - 1
                case _:
                    found[key] = value
        return found

    @torch.no_grad()
    def normalize(self, patches: Tensor) -> None:
        """Give every batch normalization the statistics of its input, so that it only adds its bias."""

        def measure(layer: nn.Module, arguments: tuple[Tensor]) -> None:
            variance, mean = torch.var_mean(arguments[0], (0, 2, 3), correction=0)
            assert isinstance(layer, nn.BatchNorm2d)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
            layer.weight.copy_((variance + layer.eps).sqrt())
            layer.bias.add_(mean)

        layers = [layer for layer in self.modules() if isinstance(layer, nn.BatchNorm2d)]
        hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
        was_training = self.training
        self.eval()
        self(patches)
        self.train(was_training)
        for hook in hooks:
            hook.remove()


def _widened(filters: Tensor, like: Tensor) -> Tensor:
    margin = (like.shape[-1] - filters.shape[-1]) // 2
    return F.pad(filters, (margin,) * 4)


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
    """×2 has an even number of convolutions, ×4 an odd number."""
    stages = 1 + convolutions % 2
    blocks = (convolutions - 3 - stages) // 2
    inside = [f"blocks.{block}.layers.{layer}" for block in range(blocks) for layer in (0, 3)]
    return ["head.0", *inside, "body.0", *(f"upsample.{3 * stage}" for stage in range(stages)), "tail"]


def _norms(norms: int) -> list[str]:
    return [*(f"blocks.{index // 2}.layers.{1 + 3 * (index % 2)}" for index in range(norms - 1)), "body.1"]


def _slopes(slopes: int) -> list[str]:
    """One in the head, one per block, and one per stage; the networks known here have two stages."""
    return ["head.1", *(f"blocks.{block}.layers.2" for block in range(slopes - 3)), "upsample.2", "upsample.5"]


LAYOUTS = (
    Layout(
        r"arg:batchnorm0_gamma",
        numbered(convolution=_layers, batchnorm=_norms, leakyrelu=_slopes),
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    return {
        "blocks": count(state, r"blocks\.(\d+)\.layers\.0\.weight"),
        "features": state["head.0.weight"].shape[0],
        "slopes": "one" if state["head.1.weight"].numel() == 1 else "each",
    }
