"""Measures a network on images that it is not trained on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..evaluation import bicubic, measure, shrunk_pair
from ..images import crop_to_multiple
from ..kernels import exact_float32
from ..models import set_scale
from .video import degraded_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor, nn

    from ..evaluation import Pair
    from ..images import Image

_SIDE = 120  # rows and columns, at most, of the middle of an image that is measured


class Validation:
    """PSNR in dB on held-out images, in float32; the mean over the scales.

    Args:
        held_out: The large images.
        scales: The scales to measure.
        channels: 1 for luma, 3 for RGB.
        device: The device of the networks.
        degraded: Compress the small images, as `video.degraded_pair` does.

    Raises:
        UsageError: there is no image.
    """

    def __init__(
        self,
        held_out: Sequence[Image],
        scales: tuple[int, ...],
        channels: int,
        device: torch.device,
        *,
        degraded: bool = False,
    ) -> None:
        if not held_out:
            raise UsageError(
                "Expected 10 images or more, or a film with 10 frames that look different: some are held out"
            )
        unit = math.lcm(*scales)

        def pair(image: Image, scale: int, seed: int) -> Pair | None:
            if degraded:
                return degraded_pair(image, scale, channels, unit, _SIDE, seed)
            return shrunk_pair(_middle(image, unit), scale, channels)

        self._pairs = {
            scale: [made for seed, image in enumerate(held_out) if (made := pair(image, scale, seed))]
            for scale in scales
        }
        if not all(self._pairs.values()):
            raise UsageError("Expected larger images to validate with: none is large enough for a clip")
        self._device = device

    @property
    def samples(self) -> int:
        """Samples of all large images, in one channel, at one scale."""
        return sum(pair.truth.size for pair in next(iter(self._pairs.values())))

    def psnr(self, module: nn.Module) -> float:
        """PSNR of a network, which is left in evaluation mode."""
        module.eval()

        def network(scale: int) -> Callable[[Tensor], Tensor]:
            set_scale(module, scale)

            def enlarge(x: Tensor) -> Tensor:
                x = x.to(self._device)
                with exact_float32(x):
                    result: Tensor = module(x).cpu()
                return result

            return enlarge

        return self._mean(network)

    def bicubic(self) -> float:
        """PSNR of bicubic enlargement."""
        return self._mean(bicubic)

    def _mean(self, network: Callable[[int], Callable[[Tensor], Tensor]]) -> float:
        psnrs = [measure(network(scale), scale, pairs).psnr for scale, pairs in self._pairs.items()]
        return math.fsum(psnrs) / len(psnrs)


def _middle(image: Image, multiple: int) -> Image:
    luma, rgb = (
        None if samples is None else crop_to_multiple(samples, multiple, _SIDE) for samples in (image.luma, image.rgb)
    )
    assert luma is not None
    return replace(image, luma=luma, rgb=rgb)
