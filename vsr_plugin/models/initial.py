"""Initial weights of networks.

A tiny network that starts from noise spends most of its training becoming a linear filter, and a tanh network stays one
for a very long time. With a start from bicubic, a few channels pass the bicubic enlargement through the network from
the first step; all other filters are random, of zero mean, and scaled so that their response to real patches has a
given standard deviation. A deep network starts from bicubic by itself if its residual starts near zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .layers import ResidualBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LAST = 1e-3  # standard deviation of the weights that add to the bicubic image


def layers(module: nn.Module) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
    """All convolutions and deconvolutions of a network."""
    return (layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d))


def fan_in(layer: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """The number of products that are summed in one output sample."""
    taps = layer.kernel_size[0] * layer.kernel_size[1] / (layer.stride[0] * layer.stride[1])
    return layer.in_channels * (taps if isinstance(layer, nn.ConvTranspose2d) else layer.weight[0, 0].numel())


def gaussian(layer: nn.Conv2d | nn.ConvTranspose2d, generator: torch.Generator) -> None:
    """Set weights of standard deviation 0.001 and zero biases: an output near zero."""
    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * _LAST)
    if layer.bias is not None:
        layer.bias.zero_()


def msra(module: nn.Module, generator: torch.Generator, slope: float = 0.0, last: nn.Module | None = None) -> None:
    """Initialize as He et al. 2015, with zero biases; deconvolutions of one channel enlarge bilinearly.

    Args:
        module: The network.
        generator: A generator on the CPU.
        slope: Slope of its PReLUs; 0 for ReLU.
        last: A layer to initialize by `gaussian`.
    """
    for layer in layers(module):
        gaussian(layer, generator)
        if layer.in_channels == layer.out_channels == 1:
            line = torch.tensor([0.25, 0.75, 0.75, 0.25])
            layer.weight[0, 0] = torch.outer(line, line)
        elif layer is not last:
            layer.weight.mul_((2.0 / (1.0 + slope**2) / fan_in(layer)) ** 0.5 / _LAST)


def respond(
    layer: nn.Conv2d, kept: int, x: Tensor, gain: float, generator: torch.Generator, spread: float = 0.0
) -> None:
    """Make all filters random, of zero mean, and of response ``gain`` to ``x``; the first ``kept`` all zero.

    The random filters ignore the first ``kept`` channels of a hidden layer's input. With a ``spread``, their responses
    are centered, and then moved apart by random biases of this standard deviation.
    """
    weight = torch.randn(layer.weight.shape, generator=generator).to(layer.weight)
    if layer.in_channels == 1:
        weight -= weight.mean((2, 3), keepdim=True)
    else:
        weight[:, :kept] = 0
    weight[:kept] = 0
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.zero_()
    deviation, mean = torch.std_mean(layer(x), (0, 2, 3))
    factor = gain / deviation[kept:]
    layer.weight[kept:] *= factor[:, None, None, None]
    if spread:
        random = torch.randn(len(factor), generator=generator).to(factor)
        layer.bias[kept:] = spread * random - factor * mean[kept:]


def pass_through(layer: nn.Conv2d, channels: int, weight: float = 1.0) -> None:
    """Make the first output channels copies of the first input channels, times ``weight``."""
    middle = layer.kernel_size[0] // 2
    for channel in range(channels):
        layer.weight[channel, channel, middle, middle] = weight


def near_zero_residual(module: nn.Module, patches: Tensor, generator: torch.Generator) -> None:
    """`msra`, but `gaussian` for the layers that output a luma residual."""
    msra(module, generator)
    for layer in layers(module):
        if layer.out_channels == 1 and layer.in_channels > 1:
            gaussian(layer, generator)


def skip_blocks(
    module: nn.Module, head: nn.Conv2d, upsamples: Iterable[nn.Module], tail: nn.Conv2d, generator: torch.Generator
) -> None:
    """`msra`, but the first three channels pass RGB around the residual blocks and, enlarged bilinearly, to the end.

    Args:
        module: The network.
        head: The first convolution.
        upsamples: Its sub-pixel convolutions, for each scale.
        tail: The last convolution.
        generator: A generator on the CPU.
    """
    msra(module, generator)
    for block in (part for part in module.modules() if isinstance(part, ResidualBlock)):
        block.conv2.weight.mul_(0.01)
    head.weight[:3] = 0
    pass_through(head, 3)
    for upsample in upsamples:
        for index, stage in enumerate(part for part in upsample.children() if isinstance(part, nn.Conv2d)):
            _enlarge_bilinearly(stage, stage.in_channels if index else 3)
    gaussian(tail, generator)
    pass_through(tail, 3)


def _enlarge_bilinearly(layer: nn.Conv2d, channels: int) -> None:
    """Make the first channels of a 3 × 3 sub-pixel convolution enlarge bilinearly."""
    r = round((layer.out_channels / layer.in_channels) ** 0.5)
    offset = ((torch.arange(r) + 0.5) / r - 0.5)[:, None] - torch.tensor([-1.0, 0.0, 1.0])
    taps = (1 - offset.abs()).clamp(min=0)  # (r, 3)
    kernels = torch.einsum("iy,jx->ijyx", taps, taps).reshape(r * r, 3, 3).to(layer.weight)
    for channel in range(channels):
        phases = slice(channel * r * r, (channel + 1) * r * r)
        layer.weight[phases] = 0
        layer.weight[phases, channel] = kernels


def identity(state: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    """Weights that make a layer of a state the identity, which is exact after a ReLU."""
    weight = torch.zeros_like(state[f"{layer}.weight"])
    nn.init.dirac_(weight)
    identity = {f"{layer}.weight": weight}
    if f"{layer}.bias" in state:
        identity[f"{layer}.bias"] = torch.zeros_like(state[f"{layer}.bias"])
    return identity


def silence_new_blocks(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make residual blocks that ``state`` lacks add nothing."""
    own = module.state_dict()
    new = (key for key in own if key.startswith("blocks.") and ".conv2." in key and key not in state)
    return {**state, **{key: torch.zeros_like(own[key]) for key in new}}
