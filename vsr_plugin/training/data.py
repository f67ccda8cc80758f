"""Patches for training, drawn from all images at once."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UsageError
from ..images import crop_to_multiple, imresize, shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ..images import Image

# A large image (H, W, C) in 8 bits; divisor → the small one, (H/divisor · W/divisor, C) in [0, 1] or in 8 bits.
type Pair = tuple[NDArray[np.uint8], Mapping[int, Tensor]]
type MakePairs = Callable[[Sequence[Image], int, Sequence[float], Sequence[int], int], Iterable[Pair]]

_log = logging.getLogger(__name__)


def split(images: Sequence[Image], held_out: int) -> tuple[list[Image], list[Image]]:
    """Split a folder's images into those for training, and ``held_out``, evenly spaced, at most a tenth, to validate.

    The files are the same on every call, so that no run trains on images that validate another.
    """
    count = min(held_out, len(images) // 10)
    chosen = {(2 * index + 1) * len(images) // (2 * count) for index in range(count)}
    kept = [image for index, image in enumerate(images) if index not in chosen]
    return kept, [images[index] for index in sorted(chosen)]


def shrunk_pairs(
    images: Iterable[Image], channels: int, sizes: Sequence[float], divisors: Sequence[int], least: int
) -> Iterator[Pair]:
    """Yield every image at each of these sizes, with shrunk ones, made as in the papers.

    Args:
        images: The images of a folder.
        channels: 1 for luma, 3 for RGB.
        sizes: Factors of the image's size, at most 1.
        divisors: The divisors by which the images are shrunk.
        least: The fewest rows and columns of a large image.
    """
    for image in images:
        for size in sizes:
            samples = image.samples(channels)
            samples = crop_to_multiple(samples if size == 1 else imresize(samples, size), math.lcm(*divisors))
            if min(samples.shape[:2]) < least:
                continue
            small = {divisor: shrink(samples, divisor).flatten(1).T for divisor in divisors}
            # Small RGB images have 8 bits, and take a quarter of the memory as uint8.
            yield (
                samples,
                small if channels == 1 else {divisor: (each * 255.0).round().byte() for divisor, each in small.items()},
            )


class Patches:
    """Patches of many images at several sizes, drawn as one gather from flat memory, on the CPU or a GPU.

    The small images are made from whole large ones, never from patches, so that no patch has a border the image
    does not have. Within a folder every position is drawn equally often. Images that are smaller
    than a patch are left out, and a folder that has no others is named in the log.

    Args:
        folders: The images of each folder.
        channels: 1 for luma, 3 for RGB.
        sides: Scale → rows and columns of a small patch at this scale.
        divisors: Further divisors of target images between the small and the large ones.
        sizes: Each image is used at each of these sizes, resized beforehand; at most 1.
        device: The device for the patches.
        shares: How often each folder is drawn from, relative to the others; all equally often if empty.
        pairs: Makes pairs of large and small images of a folder's large ones.
        on_pair: Called after each pair with the number so far.

    Raises:
        UsageError: no image is large enough.
    """

    def __init__(
        self,
        folders: Iterable[Sequence[Image]],
        channels: int,
        sides: Mapping[int, int],
        divisors: Iterable[int] = (),
        sizes: Sequence[float] = (1.0,),
        device: torch.device | None = None,
        shares: Sequence[float] = (),
        pairs: MakePairs = shrunk_pairs,
        on_pair: Callable[[int], object] = lambda made: None,
    ) -> None:
        self._sides = sides
        shrunk = sorted({*sides, *divisors} - {1})
        largest = max(scale * side for scale, side in sides.items())
        kept: dict[int, list[Tensor]] = {divisor: [] for divisor in (1, *shrunk)}
        shapes: list[tuple[int, int]] = []
        weights: list[Tensor] = []
        for index, images in enumerate(folders):
            areas: list[float] = []
            for large, small in pairs(images, channels, sizes, shrunk, largest):
                kept[1].append(torch.from_numpy(large.reshape(-1, channels)))
                for divisor in shrunk:
                    kept[divisor].append(small[divisor])
                shapes.append((large.shape[0], large.shape[1]))
                areas.append(large.size)
                on_pair(len(shapes))
            if images and not areas:
                _log.warning(
                    "%s and all else in its folder is smaller than %d × %d: nothing of it is trained on",
                    images[0].name,
                    largest,
                    largest,
                )
            share = shares[index] if shares else 1.0
            weights.append(share * torch.tensor(areas, dtype=torch.float64) / sum(areas, 0.0))
        if not shapes:
            raise UsageError(f"Expected an image of at least {largest} × {largest} samples to train on, got none")
        self._shapes = torch.tensor(shapes, device=device)  # (P, 2)
        areas_before = self._shapes.prod(1)
        self._offsets = areas_before.cumsum(0) - areas_before  # of large samples
        self._memory = {divisor: torch.cat(parts).to(device) for divisor, parts in kept.items()}
        self._weights = torch.cat(weights)

    def draw(
        self,
        count: int,
        scale: int,
        generator: torch.Generator,
        divisors: Sequence[int] = (1,),
        side: int | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Draw random patches in one of eight orientations each.

        Args:
            count: N.
            scale: A scale in ``sides``.
            generator: A generator on the CPU.
            divisors: Divisors of the targets: 1 for the large patch, 2 for one half as large.
            side: Rows and columns of the small patches; at most, and by default, those of this scale.

        Returns:
            (N, C, side, side), and a target (N, C, side·scale/divisor, side·scale/divisor) for each divisor; float32 in
            [0, 1], on the device.
        """
        device, side = self._shapes.device, side or self._sides[scale]
        chosen = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        where = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        flips = torch.randint(2, (3, count, 1, 1), generator=generator).to(device)
        shapes = self._shapes[chosen.to(device)]
        corners = (where.to(device) * (shapes // scale - side + 1)).long() * scale  # (N, 2), in large samples
        widths, offsets = shapes[:, 1], self._offsets[chosen.to(device)]
        small, *targets = (
            self._gather(
                self._memory[divisor],
                offsets // divisor**2,
                widths // divisor,
                corners // divisor,
                side * scale // divisor,
                flips,
            )
            for divisor in (scale, *divisors)
        )
        return small, targets

    @staticmethod
    def _gather(samples: Tensor, offsets: Tensor, widths: Tensor, corners: Tensor, side: int, flips: Tensor) -> Tensor:
        steps = torch.arange(side, device=samples.device)
        rows = torch.where(flips[0] == 1, steps.flip(0)[:, None], steps[:, None])  # (N, side, 1)
        columns = torch.where(flips[1] == 1, steps.flip(0), steps)  # (N, 1, side)
        rows, columns = rows.expand(-1, -1, side), columns.expand(-1, side, -1)
        rows, columns = torch.where(flips[2] == 1, columns, rows), torch.where(flips[2] == 1, rows, columns)
        rows, columns = rows + corners[:, 0, None, None], columns + corners[:, 1, None, None]
        index = offsets[:, None, None] + rows * widths[:, None, None] + columns
        patches = samples[index].permute(0, 3, 1, 2)  # (N, C, side, side)
        return patches.float() / 255.0 if patches.dtype == torch.uint8 else patches
