"""Patches of shrunk photographs, to fit weights to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from ..evaluation import shrunk_pair
from ..images import list_images, read_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

_PER_IMAGE, _PATCH = 4, 36
_LEAST = 32  # patches


def training_patches(folders: Sequence[Path], scale: int, images: int = 60, seed: int = 0) -> Tensor:
    """Four patches of each of so many small images, equally many from each folder: (N, 1, 36, 36).

    Raises:
        InputError: a folder has no images, or only images that are too small.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for folder in folders:
        for path in list_images(folder)[: images // len(folders)]:
            small = shrunk_pair(read_image(path), scale, 1).small
            room = [side - _PATCH + 1 for side in small.shape[1:]]
            if min(room) < 1:
                continue
            for _ in range(_PER_IMAGE):
                y, x = (int(torch.randint(most, (), generator=generator)) for most in room)
                found.append(small[:, y : y + _PATCH, x : x + _PATCH])
    if len(found) < _LEAST:
        raise InputError(
            f"Expected images of {_PATCH * scale} and more pixels a side, got {len(found)} patches of them"
        )
    return torch.stack(found)
