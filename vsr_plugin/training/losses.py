"""Views, which compare a network's outputs with targets, and losses.

A *view* names the targets that it needs, and makes comparisons of a network's outputs with them; a *loss* makes one
number of each. A recipe chooses both by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Comparison:
    """An output of the network and its target, both (N, C, H, W), and the weight of their loss."""

    output: Tensor
    target: Tensor
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class View:
    """How outputs are compared with targets.

    Attributes:
        compare: (network, small, targets, part of the run that is done) → comparisons, whose losses are added.
        divisors: Scale → divisors of the targets: 1 for the large image, 2 for one half as large.
    """

    compare: Callable[[Any, Tensor, Sequence[Tensor], float], list[Comparison]]
    divisors: Callable[[int], tuple[int, ...]] = lambda _: (1,)


def _whole(network: Any, small: Tensor, targets: Sequence[Tensor], part: float) -> list[Comparison]:
    """The network's image and the large one, both (N, C, H·s, W·s)."""
    return [Comparison(network(small), targets[0])]


def _subpixels(network: Any, small: Tensor, targets: Sequence[Tensor], part: float) -> list[Comparison]:
    """ESPCN without its shuffle, and labels shuffled beforehand, both (N, s², H, W) (Shi et al., section 2.2)."""
    labels = F.pixel_unshuffle(targets[0], targets[0].shape[2] // small.shape[2])
    return [Comparison(network.subpixels(small), labels)]


def _valid(network: Any, small: Tensor, targets: Sequence[Tensor], part: float) -> list[Comparison]:
    """SRCNN's convolutions without padding over the bicubic enlargement, and the middle of the large image.

    The enlargement's outermost ``2·s`` samples, which depend on the patch's edge, are cropped, then its border.
    """
    edge = 2 * (targets[0].shape[2] // small.shape[2])
    output = network.refine(network.upsample(small)[..., edge:-edge, edge:-edge])
    cut = edge + network.border
    return [Comparison(output, targets[0][..., cut:-cut, cut:-cut])]


def _recursions(network: Any, small: Tensor, targets: Sequence[Tensor], part: float) -> list[Comparison]:
    """Every recursion of DRCN and their learned mean (Kim et al., CVPR 2016, equations 7 to 9).

    In the first four tenths of the run, the weight of the recursions falls from 1 to 0, and that of the mean rises.
    """
    made = torch.stack(network.images(small))  # (D, N, 1, H·s, W·s)
    mean = torch.einsum("d,dnchw->nchw", network.ensemble.to(made.dtype), made)
    alpha = max(0.0, 1.0 - part / 0.4)
    every = Comparison(made.flatten(0, 1), targets[0].repeat(len(made), 1, 1, 1), alpha)
    return [every, Comparison(mean, targets[0], 1.0 - alpha)]


def _pyramid(network: Any, small: Tensor, targets: Sequence[Tensor], part: float) -> list[Comparison]:
    """Every level of LapSRN, and the large image at its size (Lai et al., equation 2)."""
    return [Comparison(*pair) for pair in zip(network.pyramid(small), targets, strict=True)]


VIEWS: Mapping[str, View] = {
    "whole": View(_whole),
    "subpixels": View(_subpixels),
    "valid": View(_valid),
    "recursions": View(_recursions),
    "pyramid": View(_pyramid, lambda scale: tuple(scale >> level for level in range(1, scale.bit_length()))),
}


def euclidean(output: Tensor, target: Tensor) -> Tensor:
    """Caffe's Euclidean loss, which the papers' learning rates are for: half the squared error, summed per patch."""
    return 0.5 * F.mse_loss(output, target, reduction="sum") / output.shape[0]


def charbonnier(output: Tensor, target: Tensor) -> Tensor:
    """The smooth absolute error √(d² + ε²), ε = 0.001, as a mean (Lai et al., section 3.2)."""
    return torch.sqrt((output - target) ** 2 + 1e-6).mean()


def charbonnier_sum(output: Tensor, target: Tensor) -> Tensor:
    """The same, summed per patch, which LapSRN's learning rates are for."""
    return torch.sqrt((output - target) ** 2 + 1e-6).sum() / output.shape[0]


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "charbonnier": charbonnier,
    "charbonnier sum": charbonnier_sum,
    "euclidean": euclidean,
}
