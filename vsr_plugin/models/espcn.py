"""ESPCN: convolutions at low resolution, and one sub-pixel convolution that makes the large image.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
Network", CVPR 2016, sections 2.2 and 3.2 (f1 = 5, n1 = 64, f2 = 3, n2 = 32, f3 = 3; tanh in place of ReLU).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels import enlarge
from .initial import gaussian, pass_through, respond
from .layers import ACTIVATIONS, mirror
from .layout import FULL_RANGE, Layout, table


class ESPCN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: 2, 3 or 4.
        activation: Activation of the first two layers; a name in `ACTIVATIONS`.
        last: Activation of the result, in networks that are not the paper's: "none", or a name in `ACTIVATIONS`.
        edges: Padding: zeros around every layer ("zeros"), or the image mirrored ("mirror").
    """

    def __init__(self, scale: int, activation: str = "tanh", last: str = "none", edges: str = "zeros") -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.last = ACTIVATIONS.get(last)
        self.edges = edges
        around = int(edges == "zeros")
        self.conv1 = nn.Conv2d(1, 64, 5, padding=2 * around)
        self.conv2 = nn.Conv2d(64, 32, 3, padding=around)
        self.conv3 = nn.Conv2d(32, scale * scale, 3, padding=around)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        x = self.shuffle(self.subpixels(x))  # (N, 1, H·s, W·s)
        return x

    def subpixels(self, x: Tensor) -> Tensor:
        """The output before the pixel shuffle, (N, scale², H, W): training compares it with pre-shuffled labels."""
        if self.edges == "mirror":
            x = mirror(x, 4)
        x = self.activation(self.conv1(x))  # (N, 64, H, W)
        x = self.activation(self.conv2(x))  # (N, 32, H, W)
        x = self.conv3(x)  # (N, s², H, W)
        return x if self.last is None else self.last(x)

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """The scale² phases of the bicubic kernel fit in the 5 × 5 filters; scaled down, tanh hardly changes them.

        The other filters must use tanh's curve from the start: if they begin small, training leaves them small, and
        the network linear.
        """
        scale = self.shuffle.upscale_factor
        phases = scale * scale
        respond(self.conv1, phases, patches, 1.0, generator, 0.5)
        middle = slice(2 * scale, 3 * scale)
        kernels = enlarge(torch.eye(25).reshape(25, 1, 5, 5), scale)[:, 0, middle, middle]  # (25, s, s)
        self.conv1.weight[:phases] = 0.2 * kernels.permute(1, 2, 0).reshape(phases, 1, 5, 5).to(patches)
        assert self.conv1.bias is not None
        self.conv1.bias[:phases] = -0.1
        h = torch.tanh(self.conv1(patches))
        respond(self.conv2, phases, h, 1.0, generator, 0.5)
        pass_through(self.conv2, phases)
        gaussian(self.conv3, generator)
        pass_through(self.conv3, phases, 5.0)
        assert self.conv3.bias is not None
        self.conv3.bias.fill_(0.5)


LAYOUTS = (
    Layout(
        r"espcn[|/]conv1[|/]kernel",
        table((r"espcn[|/](.+)[|/]kernel", r"\1.weight"), (r"espcn[|/](.+)[|/]bias", r"\1.bias"), hwio=True),
        {"last": "sigmoid", "edges": "mirror"},
        note=FULL_RANGE,
    ),
    Layout(  # of fannymonori, for OpenCV
        r"f1",
        table((r"f(\d)", r"conv\1.weight"), (r"b(\d)", r"conv\1.bias"), (r"NCHW_output[|/]perm", None), hwio=True),
        {"activation": "relu", "last": "tanh"},
        note=FULL_RANGE,
    ),
    Layout(
        r"first_part\.0\.weight",
        table(
            (r"first_part\.0\.(.+)", r"conv1.\1"),
            (r"first_part\.2\.(.+)", r"conv2.\1"),
            (r"last_part\.0\.(.+)", r"conv3.\1"),
        ),
    ),
)
