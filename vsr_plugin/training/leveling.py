"""Fits the last convolution of a trained network again, so that flat areas stay flat.

The error of a network in a flat frame is linear in the weights of its last convolution. So one system of equations
gives the weights that remove it and change photographs as little as possible: a ridge regression, with the products of
a photograph's features in place of the identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_LEVELS = range(16, 236)  # code values of 8 bits
_SIDE = 32  # samples of a flat frame
_GROUP = 16  # frames at once
_PHOTOGRAPHS = 0.03  # weight of a change in them, relative to an equal error in a flat area
_SMALL = 1e-9  # of the mean square of the features: determines what neither of both does


@torch.no_grad()
def level(module: nn.Module, patches: Tensor) -> None:
    """Change the last convolution so that flat frames are returned unchanged.

    Args:
        module: A network in float32 on the CPU; the convolution that it names last makes its output, or is added to it.
        patches: (N, C, S, S) inputs of the network from photographs, in [0, 1], S at least 24.

    Raises:
        UsageError: the last convolution does not make the output.
    """
    last = [part for part in module.eval().modules() if isinstance(part, nn.Conv2d)][-1]
    photographs = torch.cat([_middle(module, last, group, 4)[0] for group in torch.split(patches, _GROUP)])
    products = _PHOTOGRAPHS / len(photographs) * photographs.T @ photographs
    wanted = torch.zeros(len(products), len(last.weight), dtype=torch.float64)
    for levels in torch.split(torch.tensor(_LEVELS), _GROUP):
        flat = (levels / 255).reshape(-1, 1, 1, 1).expand(-1, patches.shape[1], _SIDE, _SIDE)
        features, added = _middle(module, last, flat, _SIDE // 2)
        share = len(levels) / len(_LEVELS) / len(features)
        products += share * features.T @ features
        wanted -= share * features.T @ added
    products.diagonal().add_(_SMALL * products.diagonal().mean())
    known = len(products) - (last.bias is None)
    change = torch.linalg.solve(products[:known, :known], wanted[:known]).T.to(last.weight)
    if last.bias is not None:
        last.bias.add_(change[:, -1])
        change = change[:, :-1]
    last.weight.add_(change.reshape(last.weight.shape))


def _middle(module: nn.Module, layer: nn.Conv2d, x: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """The inputs of a layer in the middle part of frames, and the change of a flat frame there.

    Returns:
        Features (places, in · taps + 1), the last of them 1, for the bias; and differences (places, out).
    """
    found: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0]))
    output = module(x)
    hook.remove()
    if layer.groups != 1 or layer.stride != (1, 1) or isinstance(layer.padding, str):
        raise UsageError("Expected a network that ends in a plain convolution")
    side, large = found[0].shape[-1], output.shape[-1]
    if large % side or len(layer.weight) != output.shape[1] * (large // side) ** 2:
        raise UsageError("Expected a network whose last convolution makes its output, from as many samples")
    added = F.pixel_unshuffle(output - x[..., :1, :1], large // side)
    kept = side // parts
    first = (side - kept) // 2
    reach = layer.kernel_size[0] // 2
    columns = F.unfold(
        found[0][..., first - reach : first + kept + reach, first - reach : first + kept + reach], layer.kernel_size
    )
    features = columns.transpose(1, 2).flatten(0, 1)
    inner = added[..., first : first + kept, first : first + kept].flatten(2).transpose(1, 2).flatten(0, 1)
    return torch.cat([features, torch.ones_like(features[:, :1])], 1).double(), inner.double()
