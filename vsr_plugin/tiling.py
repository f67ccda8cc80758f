"""Cuts a frame into windows that a network computes one by one, and joins their results.

First the frame is extended on all sides by its mirror image (`extend`), and at the end the result is cropped (`crop`).
The networks pad every layer with zeros, as in their papers. That makes a dark or bright line, up to 20 code values
off, along the border of a frame whose inside is right within half a code value. With the extension, the line falls on
samples that are cropped, so flat areas stay flat up to the border.

A window is a tile with the overlap that the network needs around it. All windows have one shape, so that one compiled
network serves them all; the last ones are shifted inward. An edge of a window is on the border of the extended frame,
or ``overlap`` away from the part whose result is used. So the network pads only where it would pad the whole frame,
and the result is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from .arrays import Array

# Input samples by which a frame is extended: the fewest with which every shipped network makes a border as flat as the
# inside, within 0.05 code values. Samples farther away weigh little, and each costs time.
_MARGIN = 8


@dataclass(frozen=True, slots=True)
class Window:
    """A window in one dimension: it begins at input sample ``start``, and [first, last) of its result is used."""

    start: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Grid:
    """The windows of an extended frame; every output sample is taken from exactly one of them.

    Attributes:
        frame: (height, width) of the frame.
        extended: (height, width) of the extended frame.
        margin: Rows above the frame and columns left of it in the extended one.
        size: (height, width) of every window.
        rows: Windows from top to bottom.
        columns: Windows from left to right.
    """

    frame: tuple[int, int]
    extended: tuple[int, int]
    margin: int
    size: tuple[int, int]
    rows: tuple[Window, ...]
    columns: tuple[Window, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[tuple[Window, Window]]:
        return product(self.rows, self.columns)


def plan(
    height: int, width: int, tile: int | None, overlap: int, multiple_of: int = 1, *, margin: int | None = None
) -> Grid:
    """The windows of a frame of ``height`` × ``width``.

    Args:
        height: Input rows.
        width: Input columns.
        tile: At most so many input samples a side are used of a window; None for the whole frame in one window.
        overlap: Samples that a window needs on each side of the part that is used.
        multiple_of: The extended frame's sides are multiples of this, and windows begin and end at them.
        margin: Samples by which the frame is extended on each side; by default `margin_of`.
    """
    margin = margin_of(overlap, multiple_of) if margin is None else margin
    extended = _round_up(height + 2 * margin, multiple_of), _round_up(width + 2 * margin, multiple_of)
    (tall, rows), (wide, columns) = (_windows(length, tile, overlap, multiple_of) for length in extended)
    return Grid((height, width), extended, margin, (tall, wide), rows, columns)


def margin_of(overlap: int, multiple_of: int = 1) -> int:
    """Samples by which a frame is extended on each side for a network: those beyond the overlap have no effect."""
    return _round_up(min(_MARGIN, overlap), multiple_of)


def _windows(length: int, tile: int | None, overlap: int, multiple_of: int) -> tuple[int, tuple[Window, ...]]:
    overlap = _round_up(overlap, multiple_of)
    inside = length - 2 * overlap  # the first and last windows use their outer overlap, too: nothing is beyond it
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


def extend(x: Array, grid: Grid) -> Array:
    """Extend (N, C, H, W) by its mirror image, edge sample included (… b a | a b …), to the grid's extended frame.

    Of the usual ways, only this one costs no PSNR near the border: repeating the edge sample loses up to 0.8 dB in
    the outermost 8 pixels, and mirroring without the edge sample is worse than with it. MATLAB's imresize and zimg
    mirror in the same way. A frame that is smaller than the margin is mirrored repeatedly.

    Args:
        x: Samples of any type.
        grid: The grid for frames of this size.
    """
    if grid.extended == grid.frame:
        return x
    (height, width), m = grid.frame, grid.margin
    if isinstance(x, np.ndarray):
        around = [(m, longer - length - m) for length, longer in zip(grid.frame, grid.extended, strict=True)]
        return np.pad(x, ((0, 0), (0, 0), *around), "symmetric")
    rows, columns = (
        _mirrored(length, m, longer - length - m, x.device)
        for length, longer in zip(grid.frame, grid.extended, strict=True)
    )
    out = x.new_empty((*x.shape[:2], *grid.extended))
    middle = out[..., m : m + height, :]
    middle[..., m : m + width] = x
    for part in (slice(0, m), slice(m + width, None)):
        middle[..., part] = x[..., columns[part]]
    for part in (slice(0, m), slice(m + height, None)):
        out[..., part, :] = middle[..., rows[part], :]
    return out


@lru_cache(maxsize=64)
def _mirrored(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """For each position of the extension, the index among ``length`` samples."""
    import torch  # here, as arrays do without it

    with torch.inference_mode(mode=False):  # the cache must hold tensors that autograd may use as well
        index = torch.arange(-before, length + after) % (2 * length)
        return torch.where(index < length, index, 2 * length - 1 - index).to(device)


def crop(large: Array, grid: Grid, scale: int) -> Array:
    """The frame's part of the network's result for the extended frame: (N, C, H·scale, W·scale), a view."""
    (height, width), m = grid.frame, grid.margin
    return large[..., m * scale : (m + height) * scale, m * scale : (m + width) * scale]


def cut(x: Array, grid: Grid) -> Iterator[Array]:
    """The windows of extended frames (N, C, H, W) as views (C, h, w): frame by frame, row by row."""
    tall, wide = grid.size
    for frame in x:
        for row, column in grid:
            yield frame[:, row.start : row.start + tall, column.start : column.start + wide]


def place(result: Array, index: int, out: Array, grid: Grid, scale: int) -> None:
    """Copy the used part of one window's result to its place.

    Args:
        result: (C, h·scale, w·scale), the network's result for a window.
        index: The window's index, in the order of `cut`.
        out: (N, C, H·scale, W·scale) of the extended frames; written to.
        grid: As in `cut`.
        scale: The network's.
    """
    frame, rest = divmod(index, len(grid))
    row, column = grid.rows[rest // len(grid.columns)], grid.columns[rest % len(grid.columns)]
    top, left = row.start * scale, column.start * scale
    y0, y1, x0, x1 = row.first * scale, row.last * scale, column.first * scale, column.last * scale
    out[frame, :, top + y0 : top + y1, left + x0 : left + x1] = result[:, y0:y1, x0:x1]
