"""MDSR: EDSR for all scales at once; only the first blocks and the last layers depend on the scale.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3.3: the baseline
has 16 blocks, the full network 80, of 64 channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .initial import silence_new_blocks, skip_blocks
from .layers import MeanShift, ResidualBlock, SubpixelUpsample
from .layout import SHIFT, Layout, count, layer_of_block, of_sanghyun_son, scale_of, table

if TYPE_CHECKING:
    from .layout import Tensors

_SCALES = (2, 3, 4)


class MDSR(nn.Module):
    """(N, 3, H, W) RGB in [0, 1] → (N, 3, H·scale, W·scale).

    Args:
        scale: 2, 3 or 4: the branch to use; the module has all of them.
        blocks: Residual blocks of the body that the scales share.
        features: Channels of every layer.
    """

    def __init__(self, scale: int, blocks: int = 16, features: int = 64) -> None:
        super().__init__()
        self.scale = scale
        self.mean = MeanShift()
        self.head = nn.Conv2d(3, features, 3, padding=1)
        self.preprocess = nn.ModuleDict(
            {f"x{s}": nn.Sequential(*(ResidualBlock(features, kernel=5) for _ in range(2))) for s in _SCALES}
        )
        self.blocks = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.body = nn.Conv2d(features, features, 3, padding=1)
        self.upsample = nn.ModuleDict({f"x{s}": SubpixelUpsample(features, s) for s in _SCALES})
        self.tail = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        branch = f"x{self.scale}"
        first = self.preprocess[branch](self.head(self.mean.subtract(x)))  # (N, features, H, W)
        h = first + self.body(self.blocks(first))
        h = self.upsample[branch](h)  # (N, features, H·s, W·s)
        return self.mean.add(self.tail(h))

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """The first channels pass the image around the blocks."""
        skip_blocks(self, self.head, self.upsample.values(), self.tail, generator)
        self.body.weight.mul_(0.1)

    grow_from = silence_new_blocks


LAYOUTS = (
    Layout(  # of sanghyun-son
        r"pre_process\.0\.0\.body\.0\.weight",
        table(
            (r"head\.0\.(.+)", r"head.\1"),
            (r"pre_process\.(\d)\.(\d)\.body\.([02])\.(.+)", layer_of_block(r"preprocess.x{scale}.\2.conv{layer}.\4")),
            (r"body\.(\d+)\.body\.([02])\.(.+)", layer_of_block(r"blocks.\1.conv{layer}.\3")),
            (r"body\.\d+\.(weight|bias)", r"body.\1"),
            (r"upsample\.(\d)\.(.+)", scale_of(r"upsample.x{scale}.\2")),
            (r"tail\.0\.(.+)", r"tail.\1"),
            SHIFT,
        ),
        fold=of_sanghyun_son,
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    return {"blocks": count(state, r"blocks\.(\d+)\.conv1\.weight"), "features": state["head.weight"].shape[0]}
