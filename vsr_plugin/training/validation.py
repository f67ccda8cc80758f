"""How well a network enlarges pictures that it is not trained on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..evaluation import bicubic, evaluate
from ..models import set_scale
from ..pictures import crop_to_multiple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor, nn

    from ..pictures import Picture

_SIDE = 120  # rows and columns, at most, of the middle of a picture, which is what is measured


class Validation:
    """PSNR in dB on held-out pictures, in float32; the mean over the scales.

    Args:
        held_out: The large pictures.
        scales: At which they are measured.
        channels: 1 for luma, 3 for RGB.
        device: Where the networks are.

    Raises:
        UsageError: no picture.
    """

    def __init__(
        self, held_out: Sequence[Picture], scales: tuple[int, ...], channels: int, device: torch.device
    ) -> None:
        if not held_out:
            raise UsageError("Expected a folder of at least 10 images, so that some can be held out for validation")
        self._pictures = [_middle(picture, math.lcm(*scales)) for picture in held_out]
        self._scales = scales
        self._channels = channels
        self._device = device

    @property
    def samples(self) -> int:
        """Of all large pictures, one channel."""
        return sum(picture.luma.size for picture in self._pictures)

    def psnr(self, module: nn.Module) -> float:
        """Of a network, which is left in evaluation mode."""
        module.eval()

        def network(scale: int) -> Callable[[Tensor], Tensor]:
            set_scale(module, scale)
            return lambda x: module(x.to(self._device)).cpu()

        return self._mean(network)

    def bicubic(self) -> float:
        """Of bicubic enlargement."""
        return self._mean(bicubic)

    def _mean(self, network: Callable[[int], Callable[[Tensor], Tensor]]) -> float:
        psnrs = [evaluate(network(scale), scale, self._pictures, self._channels).psnr for scale in self._scales]
        return math.fsum(psnrs) / len(psnrs)


def _middle(picture: Picture, multiple: int) -> Picture:
    luma, rgb = (
        None if samples is None else crop_to_multiple(samples, multiple, _SIDE)
        for samples in (picture.luma, picture.rgb)
    )
    assert luma is not None
    return replace(picture, luma=luma, rgb=rgb)
