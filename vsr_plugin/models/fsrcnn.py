"""FSRCNN: an hourglass of small convolutions at low resolution, and one deconvolution that enlarges.

Dong et al., "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016, section 3.2: FSRCNN(56, 12, 4)
and its fast form FSRCNN-s(32, 5, 1). Everything but the deconvolution is shared between scales (section 3.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..kernels import cubic
from .initial import gaussian, msra, pass_through, respond
from .layout import Layout, count, count_names, table

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from .layout import Tensors

# The padding that centers the 9 × 9 deconvolution on the low-resolution sample, by scale.
_DECONVOLUTION_PADDING = {2: 4, 3: 3, 4: 3}
_PADDING_MODES: Mapping[str, Literal["zeros", "replicate"]] = {"zeros": "zeros", "repeat": "replicate"}


class FSRCNN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: 2, 3 or 4.
        d: Channels of the features.
        s: Channels after shrinking.
        m: Mapping layers.
        padding: Padding of the deconvolution, in networks that were trained with another than the centering one.
        edges: Padding of every convolution: "zeros", or the edge sample repeated ("repeat").
    """

    def __init__(
        self, scale: int, d: int = 56, s: int = 12, m: int = 4, padding: int | None = None, edges: str = "zeros"
    ) -> None:
        super().__init__()
        mode = _PADDING_MODES[edges]
        self.features = nn.Sequential(nn.Conv2d(1, d, 5, padding=2, padding_mode=mode), nn.PReLU(d))
        self.shrink = nn.Sequential(nn.Conv2d(d, s, 1), nn.PReLU(s))
        self.mapping = nn.Sequential()
        for _ in range(m):
            self.mapping.extend([nn.Conv2d(s, s, 3, padding=1, padding_mode=mode), nn.PReLU(s)])
        self.expand = nn.Sequential(nn.Conv2d(s, d, 1), nn.PReLU(d))
        padding = _DECONVOLUTION_PADDING[scale] if padding is None else padding
        self.deconvolution = nn.ConvTranspose2d(d, 1, 9, scale, padding, output_padding=scale + 2 * padding - 9)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        x = self.features(x)  # (N, d, H, W)
        x = self.shrink(x)  # (N, s, H, W)
        x = self.mapping(x)
        x = self.expand(x)  # (N, d, H, W)
        x = self.deconvolution(x)  # (N, 1, H·s, W·s)
        return x

    def start_from_bicubic(self, patches: Tensor, generator: torch.Generator) -> None:
        """Channel 0 passes the image to the deconvolution, whose filter of channel 0 is the sampled cubic."""
        h = patches
        for block in (self.features, self.shrink, self.mapping, self.expand):
            for layer in block:
                if isinstance(layer, nn.Conv2d):
                    respond(layer, 1, h, 0.5, generator)
                    pass_through(layer, 1)
                h = layer(h)
        last = self.deconvolution
        gaussian(last, generator)
        scale = last.stride[0]
        taps = torch.arange(last.kernel_size[0], dtype=torch.float64) - int(last.padding[0])
        line = cubic((taps + 0.5) / scale - 0.5)
        for phase in range(scale):
            line[phase::scale] /= line[phase::scale].sum()
        last.weight[0, 0] = torch.outer(line, line).to(patches)

    def start_from_msra(self, patches: Tensor, generator: torch.Generator) -> None:
        """As in the paper (section 3.3): He et al. for PReLUs of slope 0.25; the deconvolution Gaussian of 0.001."""
        msra(self, generator, slope=0.25, last=self.deconvolution)


def _of_yjn870(found: re.Match[str], tensors: Tensors) -> str:
    """Shrinking, mapping and expanding are one sequence, in which every second layer is a PReLU."""
    index, part = int(found[1]), found[2]
    length = count_names(tensors, r"mid_part\.\d+\.weight")
    if index < 2:
        return f"shrink.{index}.{part}"
    return f"mapping.{index - 2}.{part}" if index < length - 2 else f"expand.{index - length + 2}.{part}"


LAYOUTS = (
    Layout(
        r"first_part\.0\.weight",
        table(
            (r"first_part\.(.+)", r"features.\1"),
            (r"mid_part\.(\d+)\.(.+)", _of_yjn870),
            (r"last_part\.(.+)", r"deconvolution.\1"),
        ),
        {"padding": 4},
    ),
)


def read_options(state: Tensors) -> dict[str, Any]:
    """Arguments of the constructor, from the names and shapes of weights."""
    s, d = state["shrink.0.weight"].shape[:2]
    return {"d": d, "s": s, "m": count(state, r"mapping\.(\d+)\.bias")}
