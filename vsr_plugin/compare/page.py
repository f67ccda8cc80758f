"""The page: a title, and panels with their labels, on a dark background."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..figure import blank

if TYPE_CHECKING:
    from collections.abc import Sequence

_GROUND, _TITLE, _LABEL = "#16181c", "#a8aeb6", "#ffffff"
_EDGE, _GAP = 20, 12  # pixels around all, and between panels
_TITLE_HEIGHT, _LABEL_HEIGHT = 34, 32
_SMALLEST = 320  # pixels; a smaller panel is shown in larger pixels


class Page:
    """Lays out panels of one size.

    Args:
        labels: Text above each panel.
        width: Width of a panel, in pixels, before it is magnified.
        height: ″

    Attributes:
        zoom: Pixels of the page, across and down, for a pixel of a panel.
        shape: (height, width) of the page, even.

    Raises:
        BackendError: matplotlib is not installed.
    """

    def __init__(self, labels: Sequence[str], width: int, height: int) -> None:
        self.zoom = max(1, math.ceil(_SMALLEST / max(width, height)))
        self._width, self._height = width * self.zoom, height * self.zoom
        count = len(labels)
        columns = count if count <= 3 else min(4, math.ceil(count / 2))
        rows = math.ceil(count / columns)
        across = 2 * _EDGE + columns * self._width + (columns - 1) * _GAP
        down = 2 * _EDGE + _TITLE_HEIGHT + rows * (_LABEL_HEIGHT + self._height) + (rows - 1) * _GAP
        self.shape = (down + down % 2, across + across % 2)
        ground = torch.tensor([int(_GROUND[i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)
        self._empty = ground.expand(*self.shape, 3).clone()
        self._places = []
        for index, label in enumerate(labels):
            row, column = divmod(index, columns)
            x = _EDGE + column * (self._width + _GAP)
            y = _EDGE + _TITLE_HEIGHT + row * (_LABEL_HEIGHT + self._height + _GAP)
            self._empty[y : y + _LABEL_HEIGHT, x : x + self._width] = _text(
                label, self._width, _LABEL_HEIGHT, 11, _LABEL
            )
            self._places.append((y + _LABEL_HEIGHT, x))

    def compose(self, panels: Sequence[Tensor], title: str) -> Tensor:
        """Make the page.

        Args:
            panels: (height, width, 3) uint8, one for each label.
            title: The line above them.

        Returns:
            (H, W, 3) uint8 of `shape`.
        """
        page = self._empty.clone()
        across = self.shape[1] - 2 * _EDGE
        page[_EDGE : _EDGE + _TITLE_HEIGHT, _EDGE : _EDGE + across] = _text(title, across, _TITLE_HEIGHT, 9.5, _TITLE)
        for (y, x), panel in zip(self._places, panels, strict=True):
            large = panel.repeat_interleave(self.zoom, 0).repeat_interleave(self.zoom, 1)
            page[y : y + self._height, x : x + self._width] = large
        return page


@lru_cache(maxsize=64)
def _text(words: str, width: int, height: int, points: float, color: str) -> Tensor:
    """A line of text, (height, width, 3) uint8, at the left of its box and cut off at its right."""
    canvas = blank(width / 100, height / 100)
    canvas.figure.set(dpi=100, facecolor=_GROUND)
    canvas.figure.text(0, 0.5, words, fontsize=points, color=color, va="center_baseline", parse_math=False)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return torch.from_numpy(drawn[:height, :width, :3].copy())
