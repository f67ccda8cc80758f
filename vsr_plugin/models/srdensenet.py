"""SRDenseNet: dense blocks at low resolution, dense skip connections between them, and deconvolutions.

Tong et al., "Image Super-Resolution Using Dense Skip Connections", ICCV 2017, section 3: eight blocks of eight layers,
growth rate 16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .initial import gaussian, msra, pass_through
from .layout import Layout, count, table

if TYPE_CHECKING:
    from .layout import Tensors


class SRDenseNet(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: 2 or 4: one deconvolution for each doubling.
        skip: The features that reach the reconstruction: "all", through a bottleneck of 1 × 1; the "low" and the high
            ones; or only the "high" ones. The paper's SRDenseNet_All, _HL and _H (section 3.4).
        blocks: Dense blocks.
        layers: Convolutions of a block.
        growth: Channels that each of them adds; a block adds ``layers · growth``, as many as the first layer outputs.
        features: Channels of the bottleneck and the deconvolutions.
    """

    def __init__(
        self, scale: int, skip: str = "all", blocks: int = 8, layers: int = 8, growth: int = 16, features: int = 256
    ) -> None:
        super().__init__()
        width = layers * growth
        self.skip = skip
        self.input = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.blocks = nn.ModuleList(
            _DenseBlock(width * (index + 1) if skip == "all" else width, layers, growth) for index in range(blocks)
        )
        seen = {"all": width * (blocks + 1), "low": 2 * width, "high": width}[skip]
        self.bottleneck = nn.Sequential()
        if skip == "all":
            self.bottleneck.extend([nn.Conv2d(seen, features, 1), nn.ReLU()])
            seen = features
        self.enlarge = nn.Sequential()
        for _ in range(scale.bit_length() - 1):
            self.enlarge.extend([nn.ConvTranspose2d(seen, features, 3, 2, padding=1, output_padding=1), nn.ReLU()])
            seen = features
        self.output = nn.Conv2d(seen, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        low = h = self.input(x)  # (N, 128, H, W)
        for block in self.blocks:
            h = torch.cat([h, block(h)], 1) if self.skip == "all" else block(h)
        if self.skip == "low":
            h = torch.cat([low, h], 1)  # (N, 256, H, W)
        h = self.bottleneck(h)
        h = self.enlarge(h)  # (N, 256, H·s, W·s)
        result: Tensor = self.output(h)
        return result

    def read_sibling(self, state: Tensors) -> dict[str, Tensor] | None:
        """Convert the weights of a form with more skip connections, as a start: what this one does not see is dropped.

        A block keeps the columns of the block before it. The first deconvolution becomes the product of bottleneck and
        deconvolution, without the ReLU between them. Returns None if these are not SRDenseNet's weights.
        """
        if self.skip == "all" or "enlarge.0.weight" not in state:
            return None
        own = self.state_dict()
        width = own["input.0.weight"].shape[0]
        first = state["enlarge.0.weight"]
        if "bottleneck.0.weight" in state:
            columns = state["bottleneck.0.weight"].flatten(1)  # (256, 128·9)
            columns = torch.cat([columns[:, :width], columns[:, -width:]], 1)
            first = torch.einsum("fi,fojk->iojk", columns, first)
        later = {f"blocks.{block}.layers.0.0.weight" for block in range(1, len(self.blocks))}
        found = {key: value[:, -width:] if key in later else value for key, value in state.items() if key in own}
        return found | {"enlarge.0.weight": first[-own["enlarge.0.weight"].shape[0] :]}

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """Channel 0 passes the image to the bottleneck, and from there through bilinear enlargements to the end."""
        msra(self, generator)
        first = self.input[0]
        assert isinstance(first, nn.Conv2d)
        first.weight[0] = 0
        pass_through(first, 1)
        if self.skip == "high":  # no skip connection around the blocks
            return
        for bottleneck in (part for part in self.bottleneck if isinstance(part, nn.Conv2d)):
            bottleneck.weight[0] = 0
            pass_through(bottleneck, 1)
        for stage in (part for part in self.enlarge if isinstance(part, nn.ConvTranspose2d)):
            stage.weight[0] = 0
            stage.weight[:, 0] = 0
            line = torch.tensor([0.5, 1.0, 0.5])
            stage.weight[0, 0] = torch.outer(line, line)
        # Three taps enlarge by 2 with a shift of half an output sample, which the last layer undoes within its reach.
        gaussian(self.output, generator)
        shift = min(1.0, (2 ** (len(self.enlarge) // 2) - 1) / 2)
        line = torch.tensor([shift, 1.0 - shift, 0.0])
        self.output.weight[0, 0] = torch.outer(line, line)


class _DenseBlock(nn.Module):
    """The first layer reads the block's input, each other layer the outputs of all layers before it."""

    def __init__(self, channels: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(growth * index if index else channels, growth, 3, padding=1), nn.ReLU())
            for index in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.layers
        made: Tensor = first(x)  # (N, 16, H, W)
        for layer in others:
            made = torch.cat([made, layer(made)], 1)
        return made  # (N, 128, H, W)


LAYOUTS = (
    Layout(
        r"dense_blocks\.0\.block\.0\.conv\.weight",
        table(
            (r"conv\.conv\.(.+)", r"input.0.\1"),
            (r"conv\.(weight|bias)", r"input.0.\1"),
            (r"dense_blocks\.(\d+)\.block\.(\d+)\.conv\.(.+)", r"blocks.\1.layers.\2.0.\3"),
            (r"deconv\.(.+)", r"enlarge.\1"),
            (r"reconstruction\.(.+)", r"output.\1"),
        ),
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    joined = state["enlarge.0.weight"].shape[0] == 2 * state["input.0.weight"].shape[0]
    return {
        "skip": "all" if "bottleneck.0.weight" in state else "low" if joined else "high",
        "blocks": count(state, r"blocks\.(\d+)\.layers\.0\.0\.weight"),
        "layers": count(state, r"blocks\.0\.layers\.(\d+)\.0\.weight"),
        "growth": state["blocks.0.layers.0.0.weight"].shape[0],
    }
