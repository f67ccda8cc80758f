"""Initial weights by name: those of the papers, and a start from bicubic (see `models.initial`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import UsageError
from ..models.initial import fan_in, gaussian, layers, msra

if TYPE_CHECKING:
    from torch import Tensor, nn


@torch.no_grad()
def initialize(name: str, module: nn.Module, patches: Tensor, generator: torch.Generator) -> None:
    """Give a network its initial weights, always the same for a seed.

    Args:
        name: A method of the network, ``start_from_NAME(patches, generator)``; if it has none, ``default`` (torch's for
            a new layer), ``gaussian`` (SRCNN's: 0.001, no bias; Dong et al., TPAMI 2016, section 3.3), or ``msra`` (He
            et al. 2015).
        module: The network.
        patches: (N, C, H, W) small patches in [0, 1] of the training images, on the module's device.
        generator: A generator on the CPU.

    Raises:
        UsageError: the network has no such start.
    """
    if own := getattr(module, f"start_from_{name}", None):
        own(patches, generator)
    elif name == "default":
        for layer in layers(module):
            for parameter in layer.parameters(recurse=False):
                parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) / fan_in(layer) ** 0.5)
    elif name == "gaussian":
        for layer in layers(module):
            gaussian(layer, generator)
    elif name == "msra":
        msra(module, generator)
    else:
        raise UsageError(f"{type(module).__name__} has no start from {name}: choose another for its recipe")
