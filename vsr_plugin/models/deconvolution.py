"""Deconvolutions in a form that all backends run fast: a convolution at low resolution, and a pixel shuffle."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import nn

from ..kernels import pixel_shuffle
from .layers import CroppedDeconvolution

if TYPE_CHECKING:
    from torch import Tensor


def with_subpixel_deconvolutions(module: nn.Module) -> nn.Module:
    """Copy a module, with its enlarging deconvolutions in their sub-pixel form: the same results, many times faster.

    Only deconvolutions from H × W to exactly H·r × W·r are changed.
    """
    module = copy.deepcopy(module)
    if isinstance(module, nn.ConvTranspose2d):
        return SubpixelDeconvolution(module) if _enlarges_exactly(module) else module
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ConvTranspose2d) and _enlarges_exactly(child):
                setattr(parent, name, SubpixelDeconvolution(child))
    return module


def _enlarges_exactly(layer: nn.ConvTranspose2d) -> bool:
    """Whether it enlarges H × W to H·r × W·r, for a stride of r, by a square kernel without groups or dilation."""
    squares = (layer.kernel_size, layer.stride, layer.padding, layer.output_padding)
    if any(pair[0] != pair[1] for pair in squares) or layer.groups != 1 or layer.dilation != (1, 1):
        return False
    size, r, padding, extra = (int(pair[0]) for pair in squares)
    return isinstance(layer, CroppedDeconvolution) or size - 2 * padding + extra == r


class SubpixelDeconvolution(nn.Module):
    """A deconvolution of stride r as one convolution to r² phases and a pixel shuffle.

    Output sample r·q + phase reads input sample q + d through tap phase + padding − r·d of the deconvolution.

    Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", arXiv 1609.07009.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.r = r = int(layer.stride[0])
        size, padding = int(layer.kernel_size[0]), int(layer.padding[0])
        reach = max((r - 1 + padding) // r, (size - 1 - padding) // r)
        kernel = layer.weight.new_zeros(layer.out_channels, r, r, layer.in_channels, 2 * reach + 1, 2 * reach + 1)
        taps = [
            (phase, reach + d, phase + padding - r * d)
            for phase in range(r)
            for d in range(-reach, reach + 1)
            if 0 <= phase + padding - r * d < size
        ]
        weight = layer.weight.detach().transpose(0, 1)  # (out, in, K, K)
        for i, y, ky in taps:
            for j, x, kx in taps:
                kernel[:, i, j, :, y, x] = weight[:, :, ky, kx]
        self.convolution = nn.Conv2d(
            layer.in_channels, layer.out_channels * r * r, 2 * reach + 1, padding=reach, bias=layer.bias is not None
        )
        self.convolution.weight = nn.Parameter(kernel.flatten(0, 2), requires_grad=False)
        if layer.bias is not None:
            self.convolution.bias = nn.Parameter(layer.bias.detach().repeat_interleave(r * r), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, out, H·r, W·r)."""
        return pixel_shuffle(self.convolution(x), self.r)
