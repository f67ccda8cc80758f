"""A small network becomes a larger one that computes the same: more layers, blocks or channels, or more recursions.

Small networks learn more in an hour, and what they have learnt is a better start for the large one than noise. New
layers are the identity, which is exact where a ReLU has been before; what new blocks and channels make is multiplied by
zero where it is added to the rest, so that training decides what becomes of it. Sources: Chen et al., "Net2Net", ICLR
2016, section 2; for blocks that begin at zero, Goyal et al. 2017, section 5.1.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..models import build_model
from ..models.cost import Undrawn, macs
from ..models.drcn import DRCN
from ..models.edsr import EDSR
from ..models.mdsr import MDSR
from ..models.red import RED
from ..models.vdsr import VDSR
from .initial import STARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..models import ModelSpec

    State = dict[str, Tensor]

_AWAKE = 1e-7  # what a ReLU must get more than, for the layer before it to learn


class Forms:
    """The forms that a network has in the stages of its training: options of its class in place of the model's own.

    Args:
        spec: Of the model.
        scale: Any of those it is trained for.
        initial: First weights, by name in `initial.STARTS`.
        patches: (N, C, H, W) small patches in [0, 1] to fit the first weights to.
        device: Where the networks are.
    """

    def __init__(self, spec: ModelSpec, scale: int, initial: str, patches: Tensor, device: torch.device) -> None:
        self._spec = spec
        self._scale = scale
        self._initial = initial
        self._patches = patches
        self._device = device

    def build(self, form: Mapping[str, int], generator: torch.Generator | None = None) -> nn.Module:
        """A network of a form with its first weights, always the same ones without a generator."""
        module = build_model(self._of(form), self._scale).to(self._device)
        module.to(memory_format=torch.channels_last)
        STARTS[self._initial](module, self._patches, generator or torch.Generator().manual_seed(0))
        return module

    def grown(self, module: nn.Module, form: Mapping[str, int]) -> nn.Module:
        """What a network becomes in another form."""
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
    """Give ``large`` weights with which it computes what ``small`` does.

    A network whose units are all the same (DRRN) gets its weights as they are, and applies them more often: it then
    computes something else.

    Args:
        small: Trained.
        large: Of the same class, with its first weights.
    """
    own = dict(large.state_dict())
    known = dict(small.state_dict())
    if type(large) in _GROWTHS:
        known = _GROWTHS[type(large)](known, own)
    large.load_state_dict({key: _padded(value, known[key]) if key in known else value for key, value in own.items()})


def _padded(fresh: Tensor, known: Tensor) -> Tensor:
    """A layer with more channels: the old outputs do not see the new inputs, the new outputs are as they begin."""
    if fresh.shape == known.shape:
        return known
    grown = fresh.clone()
    outputs = slice(len(known))
    grown[outputs] = 0
    grown[(outputs, slice(known.shape[1])) if known.ndim > 1 else outputs] = known
    return grown


def _vdsr(state: State, own: Mapping[str, Tensor]) -> State:
    """New layers before the last are the identity."""
    last, large_last = _last(state, r"layers\.(\d+)"), _last(own, r"layers\.(\d+)")
    grown = {key.replace(f"layers.{last}.", f"layers.{large_last}."): value for key, value in state.items()}
    for index in range(last, large_last, 2):
        grown |= _identity(own, f"layers.{index}")
    return grown


def _red(state: State, own: Mapping[str, Tensor]) -> State:
    """New pairs stand in the middle, an even number of them, so that the skip connections keep their partners.

    Past the new layers leads a skip connection of the layer before them, or of an identity after it; the deconvolution
    that it is added to begins at zero, the next one as the identity.
    """
    last, large_last = (_last(names, r"convolutions\.(\d+)") for names in (state, own))
    new = large_last - last
    grown = {
        re.sub(r"^deconvolutions\.(\d+)", lambda found: f"deconvolutions.{int(found[1]) + new}", key): value
        for key, value in state.items()
    }
    if not new:
        return grown
    if last % 2 == 0:
        grown |= _identity(own, f"convolutions.{last + 1}")
    zero = f"deconvolutions.{new - 2}"
    grown[f"{zero}.weight"] = torch.zeros_like(own[f"{zero}.weight"])
    grown[f"{zero}.bias"] = torch.full_like(own[f"{zero}.bias"], _AWAKE)
    return grown | _identity(own, f"deconvolutions.{new - 1}")


def _drcn(state: State, own: Mapping[str, Tensor]) -> State:
    """What new recursions make counts nothing at first."""
    ensemble = torch.zeros_like(own["ensemble"])
    ensemble[: len(state["ensemble"])] = state["ensemble"]
    return state | {"ensemble": ensemble}


def _residual_blocks(state: State, own: Mapping[str, Tensor]) -> State:
    """New blocks add nothing at first."""
    new = (key for key in own if re.match(r"blocks\.\d+\.conv2\.", key) and key not in state)
    return state | {key: torch.zeros_like(own[key]) for key in new}


def _last(names: Mapping[str, Tensor], pattern: str) -> int:
    return max(int(found[1]) for found in (re.match(pattern, name) for name in names) if found)


def _identity(own: Mapping[str, Tensor], layer: str) -> State:
    weight = torch.zeros_like(own[f"{layer}.weight"])
    nn.init.dirac_(weight)
    identity = {f"{layer}.weight": weight}
    if f"{layer}.bias" in own:
        identity[f"{layer}.bias"] = torch.zeros_like(own[f"{layer}.bias"])
    return identity


_GROWTHS: Mapping[type[nn.Module], Callable[[State, Mapping[str, Tensor]], State]] = {
    DRCN: _drcn,
    EDSR: _residual_blocks,
    MDSR: _residual_blocks,
    RED: _red,
    VDSR: _vdsr,
}
