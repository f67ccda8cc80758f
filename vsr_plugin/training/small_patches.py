"""Patches of photographs as networks get them, for what is fitted without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from ..evaluation import shrunk_pair
from ..pictures import list_images, read_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

_PICTURES, _PER_PICTURE, _PATCH = 60, 4, 36
_LEAST = 32  # patches


def training_patches(folders: Sequence[Path], scale: int, seed: int = 0) -> Tensor:
    """Patches of small pictures out of folders, as many of each folder: (N, 1, 36, 36).

    Raises:
        InputError: a folder without pictures, or only with some that are too small.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for folder in folders:
        for path in list_images(folder)[: _PICTURES // len(folders)]:
            small = shrunk_pair(read_picture(path), scale, 1).small
            room = [side - _PATCH + 1 for side in small.shape[1:]]
            if min(room) < 1:
                continue
            for _ in range(_PER_PICTURE):
                y, x = (int(torch.randint(most, (), generator=generator)) for most in room)
                found.append(small[:, y : y + _PATCH, x : x + _PATCH])
    if len(found) < _LEAST:
        raise InputError(
            f"Expected pictures of {_PATCH * scale} and more pixels a side, got {len(found)} patches of them"
        )
    return torch.stack(found)
