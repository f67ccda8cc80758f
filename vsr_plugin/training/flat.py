"""Patches without detail: what every network must give back as it is, and photographs have too little of.

A network that has learnt from texture alone prints its phases on bright walls and skies, as a grid of the scale's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_BLACK, _WHITE = 16 / 255, 235 / 255  # of luma as networks see it
_STEEPEST = 1 / 255  # from one small sample to the next


def flatten_some(
    small: Tensor, targets: Sequence[Tensor], share: float, generator: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Replace the first patches of a batch: every other one by a constant, the rest by a gentle slope.

    Args:
        small: (N, C, side, side) in [0, 1], left as it is.
        targets: (N, C, side·k, side·k) each.
        share: Of the batch; a number of patches between two whole ones is drawn, so that the mean is right.
        generator: On the CPU.
    """
    count, channels, side, _ = small.shape
    chance = float(torch.rand(1, generator=generator))
    flat = min(count, int(share * count + chance))
    if not flat:
        return small, list(targets)
    spread = torch.rand(flat, channels, 1, 1, generator=generator)
    levels = _BLACK + (_WHITE - _BLACK) * spread if channels == 1 else spread
    slopes = (torch.rand(2, flat, 1, 1, 1, generator=generator) * 2 - 1) * _STEEPEST * side
    slopes[:, ::2] = 0
    return _with(small, levels, slopes), [_with(target, levels, slopes) for target in targets]


def _with(patches: Tensor, levels: Tensor, slopes: Tensor) -> Tensor:
    """The batch with flat patches in front; a slope is what the whole patch rises by."""
    line = (torch.arange(patches.shape[-1]) + 0.5) / patches.shape[-1] - 0.5
    made = levels + slopes[0] * line[:, None] + slopes[1] * line
    return torch.cat([made.to(patches), patches[len(made) :]])
