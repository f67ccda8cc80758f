"""Layers that several networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import enlarge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB in [0, 1], over the training images of DIV2K

# The activations of layers, by their names in networks' options.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


def mirror(x: Tensor, margin: int) -> Tensor:
    """Extend (N, C, H, W) by ``margin`` samples on each side by its mirror image, edge sample included.

    Both sides must have ``margin`` samples. The mirror image is joined from single rows and columns, because not every
    program that reads ONNX files can reverse a tensor.
    """
    for dim in (2, 3):
        before = [x.narrow(dim, i, 1) for i in reversed(range(margin))]
        after = [_from_end(x, dim, i) for i in range(margin)]
        x = torch.cat([*before, x, *after], dim)
    return x


def _from_end(x: Tensor, dim: int, index: int) -> Tensor:
    """The last row or column, or the one ``index`` before it, whatever the length, also in a traced graph."""
    place = slice(-1 - index, -index or None)
    return x[:, :, place] if dim == 2 else x[..., place]


class BicubicUpsample(nn.Module):
    """The bicubic enlargement in front of the networks that work at high resolution (SRCNN, VDSR, …).

    (N, C, H, W) → (N, C, H·scale, W·scale); MATLAB's imresize for whole scales, edge samples repeated.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``x``."""
        return enlarge(x, self.scale)


class CroppedDeconvolution(nn.ConvTranspose2d):
    """A deconvolution of stride r without padding; its result is cropped at the bottom and right to H·r × W·r."""

    def __init__(self, features: int, kernel: int, r: int, bias: bool = True) -> None:
        super().__init__(features, features, kernel, r, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, C, H, W) → (N, C, H·r, W·r)."""
        r = self.stride[0]
        return super().forward(x, output_size)[..., : x.shape[2] * r, : x.shape[3] * r]


class MeanShift(nn.Module):
    """Subtracts the mean color of DIV2K from an image, and adds it again."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN).reshape(3, 1, 1), persistent=False)

    def subtract(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] → around 0."""
        return x - self.mean

    def add(self, x: Tensor) -> Tensor:
        """The inverse of `subtract`."""
        return x + self.mean


class ResidualBlock(nn.Module):
    """Two convolutions with a ReLU between, added to their input: EDSR's block, (N, C, H, W) → the same."""

    def __init__(self, features: int, kernel: int = 3, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(features, features, kernel, padding=kernel // 2)
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual."""
        residual: Tensor = self.conv2(torch.relu(self.conv1(x)))
        return x + (residual if self.residual_scale == 1.0 else residual * self.residual_scale)


class SubpixelUpsample(nn.Sequential):
    """Sub-pixel convolutions, one of scale 3 or one for each doubling: (N, C, H, W) → (N, C, H·scale, W·scale)."""

    def __init__(self, features: int, scale: int) -> None:
        super().__init__()
        for step in (3,) if scale == 3 else (2,) * (scale.bit_length() - 1):
            self.append(nn.Conv2d(features, features * step * step, 3, padding=1))
            self.append(nn.PixelShuffle(step))
