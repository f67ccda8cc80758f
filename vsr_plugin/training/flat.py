"""Patches without detail, which a network must return unchanged, and of which photographs have too few.

A network that was trained only on texture shows its phases on bright walls and skies, as a grid of the scale's size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_STEEPEST = 1 / 255  # from one small sample to the next
_WEIGHT = 100.0  # of a squared error there, relative to that of a photograph, which is a hundred times as large


def flatten_some(
    small: Tensor, targets: Sequence[Tensor], share: float, generator: torch.Generator
) -> tuple[Tensor, list[Tensor], int]:
    """Replace the first patches of a batch: every other one by a constant, the rest by a gentle slope.

    Args:
        small: (N, C, side, side) in [0, 1]; not changed.
        targets: (N, C, side·k, side·k) each.
        share: Share of the batch; a fractional number of patches is rounded at random, so that the mean is right.
        generator: A generator on the CPU.

    Returns:
        The new small patches and targets, and how many were replaced.
    """
    count, channels, side, _ = small.shape
    chance = float(torch.rand(1, generator=generator))
    flat = min(count, int(share * count + chance))
    if not flat:
        return small, list(targets), 0
    levels = torch.rand(flat, channels, 1, 1, generator=generator)
    slopes = (torch.rand(2, flat, 1, 1, 1, generator=generator) * 2 - 1) * _STEEPEST * side
    slopes[:, ::2] = 0
    return _with(small, levels, slopes), [_with(target, levels, slopes) for target in targets], flat


def emphasize(output: Tensor, target: Tensor, flat: int, batch: int) -> Tensor:
    """Multiply the output's error in the middle of flat patches, where the patch's edges have no effect.

    Args:
        output: (k · batch, C, H, W): k outputs for the patches of the batch, one batch after the other.
        target: A tensor of the same shape.
        flat: How many patches of each batch are flat; they are the first.
        batch: The number of patches in a batch.
    """
    height, width = output.shape[2:]
    factor = output.new_ones(len(output) // batch, batch, 1, height, width)
    middle = (slice(height // 3, height - height // 3), slice(width // 3, width - width // 3))
    factor[(slice(None), slice(flat), slice(None), *middle)] = math.sqrt(_WEIGHT)
    return target + (output - target) * factor.flatten(0, 1)


def _with(patches: Tensor, levels: Tensor, slopes: Tensor) -> Tensor:
    """The batch with flat patches in front; a slope is the rise over a whole patch."""
    line = (torch.arange(patches.shape[-1]) + 0.5) / patches.shape[-1] - 0.5
    made = levels + slopes[0] * line[:, None] + slopes[1] * line
    return torch.cat([made.to(patches), patches[len(made) :]])
