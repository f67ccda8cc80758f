"""FSRCNN: an hourglass of small convolutions at low resolution, and one deconvolution that enlarges.

Dong et al., "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016, section 3.2: FSRCNN(56, 12, 4)
and its fast form FSRCNN-s(32, 5, 1). Everything but the deconvolution is shared between scales (section 3.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

# What centers the 9 × 9 deconvolution on the low-resolution sample.
_DECONVOLUTION_PADDING = {2: 4, 3: 3, 4: 3}
_PADDING_MODES: Mapping[str, Literal["zeros", "replicate"]] = {"zeros": "zeros", "repeat": "replicate"}


class FSRCNN(nn.Module):
    """(N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Args:
        scale: 2, 3 or 4.
        d: Channels of the features.
        s: Channels after shrinking.
        m: Mapping layers.
        padding: Of the deconvolution, in networks that were trained with another than the one that centers it.
        edges: What is beyond the edge of every convolution: "zeros", or the edge sample repeated ("repeat").
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
