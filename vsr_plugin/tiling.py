"""Cutting a picture into windows that a network can take one by one, and putting the results together.

A window is a tile with the overlap that the network must see around it. All windows have one shape, so that one
compiled network serves them all; the last ones are shifted inward. A window touches the picture's border or keeps
``overlap`` away from what is taken of it, so the network pads where it would pad the whole picture, and the result is
the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of input samples in one dimension: it begins at ``start``, and [first, last) of its result is taken."""

    start: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Grid:
    """The windows of a picture; every output sample is taken from exactly one of them.

    Attributes:
        size: (height, width) of every window.
        rows: Windows from top to bottom.
        columns: Windows from left to right.
    """

    size: tuple[int, int]
    rows: tuple[Window, ...]
    columns: tuple[Window, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[tuple[Window, Window]]:
        return product(self.rows, self.columns)


def plan(height: int, width: int, tile: int | None, overlap: int, multiple_of: int = 1) -> Grid:
    """The windows of a picture of ``height`` × ``width``, both multiples of ``multiple_of``.

    Args:
        height: Input rows.
        width: Input columns.
        tile: At most so many samples a side are taken from a window; None is the whole picture in one window.
        overlap: Samples that a window has to see on each side of what is taken.
        multiple_of: Windows begin and end at multiples of this.
    """
    (tall, rows), (wide, columns) = (_windows(length, tile, overlap, multiple_of) for length in (height, width))
    return Grid((tall, wide), rows, columns)


def _windows(length: int, tile: int | None, overlap: int, multiple_of: int) -> tuple[int, tuple[Window, ...]]:
    overlap = _round_up(overlap, multiple_of)
    inside = length - 2 * overlap  # the first and the last window take their overlap too: beyond it there is no picture
    if tile is None or inside <= tile:
        return length, (Window(0, 0, length),)
    count = -(-inside // max(tile - tile % multiple_of, multiple_of))
    step = _round_up(-(-inside // count), multiple_of)  # equal tiles, rather than one small one at the end
    size = step + 2 * overlap
    windows, taken = [], 0
    while taken < length:
        start = min(max(taken - overlap, 0), length - size)
        last = length if start + size == length else start + size - overlap
        windows.append(Window(start, taken - start, last - start))
        taken = last
    return size, tuple(windows)


def _round_up(length: int, multiple_of: int) -> int:
    return -(-length // multiple_of) * multiple_of


def pad(x: Tensor, multiple_of: int) -> Tensor:
    """Repeat the last row and column of (N, C, H, W) until both sides are multiples of ``multiple_of``."""
    height, width = x.shape[-2:]
    below, right = -height % multiple_of, -width % multiple_of
    return F.pad(x, (0, right, 0, below), mode="replicate") if below or right else x


def cut(x: Tensor, grid: Grid) -> Iterator[Tensor]:
    """The windows of (N, C, H, W) as views (C, h, w): picture by picture, row by row."""
    tall, wide = grid.size
    for picture in x:
        for row, column in grid:
            yield picture[:, row.start : row.start + tall, column.start : column.start + wide]


def place(result: Tensor, index: int, out: Tensor, grid: Grid, scale: int) -> None:
    """Copy what is taken of one window's result to where it belongs.

    Args:
        result: (C, h·scale, w·scale), the network's answer to a window.
        index: Which window it was, in the order of `cut`.
        out: (N, C, H·scale, W·scale), written.
        grid: As in `cut`.
        scale: The network's.
    """
    picture, rest = divmod(index, len(grid))
    row, column = grid.rows[rest // len(grid.columns)], grid.columns[rest % len(grid.columns)]
    top, left = row.start * scale, column.start * scale
    y0, y1, x0, x1 = row.first * scale, row.last * scale, column.first * scale, column.last * scale
    out[picture, :, top + y0 : top + y1, left + x0 : left + x1] = result[:, y0:y1, x0:x1]
