"""Measures networks: parameters, multiply-accumulates per input pixel, and receptive-field radius."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_SIDE = 20  # of the input: large enough that padding does not change a layer's rounded enlargement
_ROWS = 4  # rows of the input of `radius`, which is the same in both directions; mirrored edges need so many


def parameters(module: nn.Module) -> int:
    """The number of trained parameters, including biases and slopes."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def macs(module: nn.Module) -> int:
    """Multiply-accumulates of the convolutions per input pixel, without borders: the figure that papers compare.

    Args:
        module: A network; its first convolution tells its number of input channels. Its weights are not read.
    """
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    counting = _Counting()
    with counting:
        module(torch.zeros(1, first.in_channels, _SIDE, _SIDE))
    return counting.macs


class Undrawn(TorchFunctionMode):
    """Networks that are built in this context have uninitialized weights, which takes no time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in (Tensor.uniform_, Tensor.normal_) else func(*args, **(kwargs or {}))


class _Counting(TorchFunctionMode):
    """Counts convolutions instead of computing them; their results are zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.macs: int = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        trained = func in (F.conv2d, F.conv_transpose2d) and isinstance(args[1], nn.Parameter)
        if not trained:  # the bicubic enlargement in front may be a convolution, too
            return func(*args, **(kwargs or {}))
        x, weight, _, (stride, _), (padding, _), *rest = args
        height, width = x.shape[2:]
        kernel = weight.shape[2]
        if func is F.conv2d:
            channels = weight.shape[0]
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
            self._count(weight, height, width)
        else:
            self._count(weight, height, width)
            channels, extra = weight.shape[1], rest[0][0]
            height, width = ((side - 1) * stride - 2 * padding + kernel + extra for side in (height, width))
        return x.new_zeros(len(x), channels, height, width)

    def _count(self, weight: Tensor, height: int, width: int) -> None:
        self.macs += weight.numel() * round(height / _SIDE) * round(width / _SIDE)


def radius(module: nn.Module, scale: int, channels: int) -> int:
    """The receptive-field radius in input pixels, measured: the ``overlap`` of a `ModelSpec`.

    It is measured by the gradient of the output samples of one input column, in a copy whose weights are all positive,
    so that nothing cancels and no ReLU is off, and sum to 1, so that nothing saturates. The input is widened until the
    gradient ends inside it.

    Args:
        module: (N, C, H, W) → (N, C, H·scale, W·scale).
        scale: The enlargement.
        channels: C.
    """
    module = copy.deepcopy(module).double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
    for parameter in module.parameters():
        flat = 0.25 if parameter.ndim < 2 else 1 / parameter[0].numel()
        nn.init.constant_(parameter.requires_grad_(False), flat)
    half = 8
    while True:
        side = 2 * half + 1
        x = torch.rand(1, channels, _ROWS, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        output = module(x.requires_grad_())[..., half * scale : (half + 1) * scale]
        (gradient,) = torch.autograd.grad(output.sum(), x)
        reached = (gradient.abs().amax((0, 1, 2)).nonzero() - half).abs().amax()
        if reached < half:
            return int(reached)
        half *= 2
