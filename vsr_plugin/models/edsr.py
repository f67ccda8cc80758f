"""EDSR: SRResNet without batch normalization, wider and deeper.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3.2: the baseline
has 16 blocks of 64 channels, the full network 32 of 256 whose residuals are scaled by 0.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .initial import silence_new_blocks, skip_blocks
from .layers import MeanShift, ResidualBlock, SubpixelUpsample
from .layout import SHIFT, Layout, count, layer_of_block, numbered, of_sanghyun_son, table

if TYPE_CHECKING:
    from .layout import Tensors


class EDSR(nn.Module):
    """(N, 3, H, W) RGB in [0, 1] → (N, 3, H·scale, W·scale).

    Args:
        scale: 2, 3 or 4.
        blocks: Residual blocks.
        features: Channels of every layer.
        residual_scale: Factor of the residual of a block.
    """

    def __init__(self, scale: int, blocks: int = 16, features: int = 64, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.mean = MeanShift()
        self.head = nn.Conv2d(3, features, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(features, residual_scale=residual_scale) for _ in range(blocks)))
        self.body = nn.Conv2d(features, features, 3, padding=1)
        self.upsample = SubpixelUpsample(features, scale)
        self.tail = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        first = self.head(self.mean.subtract(x))  # (N, features, H, W)
        h = first + self.body(self.blocks(first))
        h = self.upsample(h)  # (N, features, H·s, W·s)
        return self.mean.add(self.tail(h))

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """The first channels pass the image around the blocks."""
        skip_blocks(self, self.head, [self.upsample], self.tail, generator)
        self.body.weight.mul_(0.1)

    grow_from = silence_new_blocks


def _layers(convolutions: int) -> list[str]:
    """×2 and ×3 have an even number of convolutions; ×4 has one more stage, and an odd number."""
    stages = 1 + convolutions % 2
    blocks = (convolutions - 3 - stages) // 2
    inside = [f"blocks.{block}.conv{layer}" for block in range(blocks) for layer in (1, 2)]
    return ["head", *inside, "body", *(f"upsample.{2 * stage}" for stage in range(stages)), "tail"]


def _of_krasserm(_: Tensors, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Double the input and halve the output; TensorFlow's pixel shuffle has the phase before the channel."""
    factors = {"head.weight": 2.0, "tail.weight": 0.5, "tail.bias": 0.5}
    folded = {name: tensor * factors.get(name, 1.0) for name, tensor in state.items()}
    for name, tensor in folded.items():
        if name.startswith("upsample."):
            features = state["tail.weight"].shape[1]
            folded[name] = tensor.reshape(-1, features, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)
    return folded


LAYOUTS = (
    Layout(r"arg:convolution0_weight", numbered(convolution=_layers), fold=_of_krasserm),
    Layout(  # of sanghyun-son
        r"body\.0\.body\.0\.weight",
        table(
            (r"head\.0\.(.+)", r"head.\1"),
            (r"body\.(\d+)\.body\.([02])\.(.+)", layer_of_block(r"blocks.\1.conv{layer}.\3")),
            (r"body\.\d+\.(weight|bias)", r"body.\1"),
            (r"tail\.0\.(.+)", r"upsample.\1"),
            (r"tail\.1\.(.+)", r"tail.\1"),
            SHIFT,
        ),
        fold=of_sanghyun_son,
    ),
    Layout(  # of BasicSR
        r"conv_after_body\.weight",
        table(
            (r"conv_first\.(.+)", r"head.\1"),
            (r"body\.(\d+\.conv[12]\..+)", r"blocks.\1"),
            (r"conv_after_body\.(.+)", r"body.\1"),
            (r"conv_last\.(.+)", r"tail.\1"),
        ),
        fold=of_sanghyun_son,
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    # No tensor holds the residual scale. Section 3.2 of the paper uses 0.1 where many features make training unstable,
    # and so do others: networks of 256 features have it, networks of 64 do not.
    options = {"blocks": count(state, r"blocks\.(\d+)\.conv1\.weight"), "features": state["head.weight"].shape[0]}
    return options | {"residual_scale": 0.1 if options["features"] > 128 else 1.0}
