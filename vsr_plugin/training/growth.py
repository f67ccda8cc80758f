"""Grows a small network into a larger one that computes the same: with more layers, blocks, channels or recursions.

Small networks learn more in an hour, and their weights are a better start for the large one than noise. New layers
start as the identity, which is exact after a ReLU; the outputs of new blocks and channels are multiplied by zero where
they are added to the rest, and training changes that. Sources: Chen et al., "Net2Net", ICLR 2016, section 2; for blocks
that start at zero, Goyal et al. 2017, section 5.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..models import build_model
from ..models.cost import Undrawn, macs
from .initial import initialize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..models import ModelSpec


class Forms:
    """The forms that a network has in the stages of its training: options of its class in place of the model's own.

    Args:
        spec: The model's spec.
        scale: Any scale that it is trained for.
        initial: Name of the initial weights; see `initial.initialize`.
        patches: (N, C, H, W) small patches in [0, 1] to fit the initial weights to.
        device: The device for the networks.
    """

    def __init__(self, spec: ModelSpec, scale: int, initial: str, patches: Tensor, device: torch.device) -> None:
        self._spec = spec
        self._scale = scale
        self._initial = initial
        self._patches = patches
        self._device = device

    def build(self, form: Mapping[str, int], generator: torch.Generator | None = None) -> nn.Module:
        """A network of a form with its initial weights, which are always the same without a generator."""
        module = build_model(self._of(form), self._scale).to(self._device)
        module.to(memory_format=torch.channels_last)
        initialize(self._initial, module, self._patches, generator or torch.Generator().manual_seed(0))
        return module

    def grown(self, module: nn.Module, form: Mapping[str, int]) -> nn.Module:
        """Grow a network into another form."""
        large = self.build(form)
        grow(module, large)
        return large

    def macs(self, form: Mapping[str, int], scale: int) -> int:
        """Multiply-accumulates per small sample."""
        with Undrawn():
            module = build_model(self._of(form), scale)
        return macs(module)

    def _of(self, form: Mapping[str, int]) -> ModelSpec:
        return replace(self._spec, options={**self._spec.options, **form})


@torch.no_grad()
def grow(small: nn.Module, large: nn.Module) -> None:
    """Give ``large`` weights with which it computes the same as ``small``.

    Old channels read new ones with zero weights. A network that needs more has a method ``grow_from(state)``, which
    converts a smaller one's weights. A network whose units share their weights (DRRN) gets them unchanged, and applies
    them more often: it then computes something else.

    Args:
        small: A trained network.
        large: A network of the same class, with its initial weights.
    """
    own = dict(large.state_dict())
    known = dict(small.state_dict())
    if grow_from := getattr(large, "grow_from", None):
        known = grow_from(known)
    large.load_state_dict({key: _padded(value, known[key]) if key in known else value for key, value in own.items()})


def _padded(fresh: Tensor, known: Tensor) -> Tensor:
    """Pad a layer for more channels: old outputs ignore the new inputs, new outputs keep their initial weights."""
    if fresh.shape == known.shape:
        return known
    grown = fresh.clone()
    outputs = slice(len(known))
    grown[outputs] = 0
    grown[(outputs, slice(known.shape[1])) if known.ndim > 1 else outputs] = known
    return grown
