"""Optimizers by name, and the learning rate over a run."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from .soap import SOAP

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from .recipes import Recipe

OPTIMIZERS: Mapping[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, betas=(0.9, 0.999)),  # as in the papers
    "adam 0.99": partial(torch.optim.Adam, betas=(0.9, 0.99)),
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "soap": SOAP,
}


_WARMUP = 12  # steps, at least, of a warmup: at the full rate, the first ones destroy a network's start
_SHORT = 100  # steps: in fewer, a network does not recover from the full rate


def learning_rate(recipe: Recipe, part: float, steps: int = _WARMUP, total: float = math.inf) -> float:
    """The learning rate, as a factor of the peak.

    Args:
        recipe: The recipe with the schedule.
        part: The part of the run that is done.
        steps: Steps done with the present form of the network.
        total: Steps that the run will have.
    """
    rate = min(1.0, (steps + 1) / _WARMUP, total / _SHORT) if recipe.warmup else 1.0
    return rate * _scheduled(recipe, part)


def _scheduled(recipe: Recipe, part: float) -> float:
    if part < recipe.warmup:
        return (part + 1e-6) / recipe.warmup
    left = (part - recipe.warmup) / (1.0 - recipe.warmup)
    every, factor = recipe.stairs
    rates = {
        "constant": 1.0,
        "cosine": 0.5 + 0.5 * math.cos(math.pi * left),
        "geometric": math.pow(0.01, left),
        "stairs": factor ** int(left / every),
    }
    return rates[recipe.schedule]


def make_optimizer(module: nn.Module, recipe: Recipe, lr: float) -> torch.optim.Optimizer:
    """The recipe's optimizer for the parameters that it trains, at the peak rate ``lr``; the others are frozen."""
    groups: list[dict[str, Any]] = []
    for name, parameter in module.named_parameters():
        if name.startswith(recipe.trained):
            factors = [factor for start, factor in recipe.multipliers.items() if name.startswith(start)]
            groups.append({"params": [parameter], "peak": lr * math.prod(factors)})
        else:
            parameter.requires_grad_(False)
    merged = [
        {"params": [p for group in groups if group["peak"] == peak for p in group["params"]], "peak": peak}
        for peak in sorted({group["peak"] for group in groups})
    ]
    optimizer = OPTIMIZERS[recipe.optimizer](merged, lr)
    if recipe.decay:
        for group in optimizer.param_groups:
            group["weight_decay"] = recipe.decay
    return optimizer
