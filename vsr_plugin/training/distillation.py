"""Trains a network in 8 bits to give the results of the network in float32 that it was made of.

Weights move in small steps, and are rounded in every pass; the gradient passes the rounding unchanged.

Sources: Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation",
arXiv 1308.3432, for the gradient; Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch.func import functional_call

from ..models.deconvolution import with_subpixel_deconvolutions
from ..models.quantized import PEAK, QuantizedConvolution

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from ..models.quantized import QuantizedNetwork

_BATCH = 16
_LEVELS, _SIDE = 16, 24  # flat patches beside them, and their side
_FLAT = 100.0  # weight of flat patches: their errors are seen as a grid, and are small beside those of photographs
_RATE, _BIASES = 0.2, 2e-5  # of weights, in their steps; and of biases
_HELD_OUT = 0.1  # of the patches, by which the result is judged
_REPORT = 10.0  # seconds


def distill(
    network: QuantizedNetwork,
    module: nn.Module,
    patches: Tensor,
    margin: int,
    minutes: float,
    say: Callable[[str], None] = lambda _: None,
) -> bool:
    """Train for a time; if results are no nearer to the module's then, leave the weights as they were.

    They are compared on the last patches, which are not trained on, and on flat ones.

    Args:
        network: The network to train.
        module: The network in float32.
        patches: (N, 1, S, S) samples of its inputs, S at least 24; the more, the better.
        margin: Samples at the border of results that depend on padding, and are not compared; fewer than 12·scale.
        minutes: How long.
        say: Called with a line on what is being done.

    Returns:
        Whether the weights were changed.
    """
    truth = with_subpixel_deconvolutions(module).eval()
    generator = torch.Generator().manual_seed(0)
    patches, held_out = patches.tensor_split([-max(1, int(_HELD_OUT * len(patches)))])
    state = network.state_dict()
    parts = [name for name, part in network.named_modules() if isinstance(part, QuantizedConvolution)]
    weights = {f"{name}.weight": state[f"{name}.weight"].float().requires_grad_() for name in parts}
    biases = {f"{name}.bias": state[f"{name}.bias"].clone().requires_grad_() for name in parts}
    groups = [(weights, _RATE), (biases, _BIASES)]
    optimizer = torch.optim.Adam([{"params": [*group.values()], "lr": rate} for group, rate in groups])

    def rounded() -> dict[str, Tensor]:
        return {name: value + (value.round().clamp(-PEAK, PEAK) - value).detach() for name, value in weights.items()}

    def loss(x: Tensor) -> Tensor:
        inside = slice(margin, -margin)
        with torch.no_grad():
            wanted = truth(x)[..., inside, inside]
        return F.mse_loss(functional_call(network, rounded() | biases, (x,))[..., inside, inside], wanted)

    def flat(levels: Tensor) -> Tensor:
        return _FLAT * loss(levels.reshape(-1, 1, 1, 1).expand(-1, 1, _SIDE, _SIDE))

    @torch.no_grad()
    def error() -> float:
        batches = torch.split(held_out, _BATCH)
        return sum(float(loss(batch)) for batch in batches) / len(batches) + float(flat(torch.arange(16, 236) / 255))

    before = error()
    began = said = time.monotonic()
    while (share := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = rate * (1 - share)
        drawn = patches[torch.randint(len(patches), (_BATCH,), generator=generator)]
        optimizer.zero_grad()
        (loss(drawn) + flat(torch.rand(_LEVELS, generator=generator))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if time.monotonic() - said > _REPORT:
            said = time.monotonic()
            say(f"training in 8 bits: {share:.0%}")
    nearer = error() < before
    if nearer:
        network.load_state_dict(state | {name: value.to(torch.int8) for name, value in rounded().items()} | biases)
    return nearer
