"""Rectangles around the changed parts of a frame, so that little else of it is computed again.

They are windows of the frame (see `tiling`): an edge of a rectangle is on the frame's border, or the network's overlap
away from the part whose result is used. There are few sizes, because a network is compiled for each: their sides are
an eighth, a quarter, half, three quarters or all of the frame's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .tiling import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from .arrays import Array

    type Size = tuple[int, int]  # height, width
    type Mask = NDArray[np.bool_]
    type Boxes = NDArray[np.intp]  # (…, 4): the first row of squares, the one after the last; then the columns

_SQUARE = 8  # samples a side of the compared squares: a 64-bit word of the comparison
_CALL = 2500  # samples that ESPCN computes in the time that calling it takes
_EIGHTHS = 1, 2, 4, 6  # of the frame's sides
_ENOUGH = 20_000  # samples whose results show whether a network depends on the size of its input
_MOST = 128  # rectangles in a frame: finding them takes a few milliseconds


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of a frame that is computed: in each dimension, its start, and the part of its result that is used."""

    size: tuple[int, int]
    rows: Window
    columns: Window

    @property
    def inside(self) -> tuple[slice, slice]:
        """The part of the frame that is computed."""
        (height, width), top, left = self.size, self.rows.start, self.columns.start
        return slice(top, top + height), slice(left, left + width)

    def taken(self, scale: int) -> tuple[slice, slice]:
        """The part of its result that is used."""
        rows, columns = self.rows, self.columns
        return slice(rows.first * scale, rows.last * scale), slice(columns.first * scale, columns.last * scale)

    def placed(self, scale: int) -> tuple[slice, slice]:
        """The position of that part in the frame's result."""
        top, left = self.rows.start * scale, self.columns.start * scale
        rows, columns = self.taken(scale)
        return slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)


def changed_squares(x: Array, before: Array, side: int = _SQUARE) -> Mask:
    """Which squares of a frame changed in any bit: (rows, columns) of squares of ``side`` samples.

    Args:
        x: (C, H, W) on the CPU.
        before: ″ of the same shape and type.
        side: A multiple of 8.
    """
    height, width = x.shape[1:]
    bits = {1: np.uint8, 2: np.uint16, 4: np.uint32}[x.itemsize]
    differ = np.zeros((height, -(-width // _SQUARE) * _SQUARE), np.bool_)
    for mine, other in zip(np.asarray(x).view(bits), np.asarray(before).view(bits), strict=True):
        differ[:, :width] |= mine != other
    words = np.bitwise_or.reduceat(differ.view(np.uint64), np.arange(0, height, side), axis=0)
    found: Mask = np.bitwise_or.reduceat(words, np.arange(0, words.shape[1], side // _SQUARE), axis=1) != 0
    return found


class Prices(NamedTuple):
    """The costs of boxes, indexed by the smallest of the sides of rectangles that hold them, in rows and columns.

    Attributes:
        costs: (rows, columns), the least cost of covering such a box.
        sizes: (rows, columns, 2), the height and width of the rectangles that cover it at that cost.
    """

    costs: NDArray[np.intp]
    sizes: NDArray[np.intp]


class Cover:
    """Finds rectangles around the changed parts of a frame.

    Args:
        shape: (height, width) of the frame, both multiples of ``multiple_of``.
        overlap: Samples that a rectangle needs on each side of the part that is used.
        multiple_of: Rectangles begin and end at multiples of this.

    Attributes:
        side: The side of the compared squares, in samples.
        whole: The cost of the whole frame, in samples, as all costs here.
        sizes: All sizes that rectangles may have and whose results are used in part at least.
    """

    def __init__(self, shape: Size, overlap: int, multiple_of: int = 1) -> None:
        self._shape = shape
        self._overlap = -(-overlap // multiple_of) * multiple_of
        self.side = lcm(_SQUARE, multiple_of)
        self._sides = tuple(self._eighths(length) for length in shape)
        self._call = max(_CALL, shape[0] * shape[1] // _MOST)
        self.whole = shape[0] * shape[1] + self._call
        heights, widths = (
            [side for side in sides.tolist() if self._reach(side, length)]
            for sides, length in zip(self._sides, shape, strict=True)
        )
        self.sizes: Sequence[Size] = [(height, width) for height in heights for width in widths]

    def _eighths(self, length: int) -> NDArray[np.intp]:
        some = (-(-length * n // (8 * self.side)) * self.side for n in _EIGHTHS)
        return np.unique([*(side for side in some if side < length), length])

    def cost(self, rectangles: Iterable[Rectangle]) -> int:
        """The cost of rectangles."""
        return sum(self._cost(one.size) for one in rectangles)

    def _cost(self, size: Size) -> int:
        return size[0] * size[1] + self._call

    def find(self, changed: Mask, prices: Prices | None = None) -> list[Rectangle]:
        """Cover the changed squares, and every sample of the result that depends on them.

        One rectangle around all of them is cut in two where that saves most, and its parts likewise, as long as a cut
        saves anything.

        Args:
            changed: (rows, columns) of squares.
            prices: The prices for the sizes that rectangles may have; by default for all sizes.
        """
        if not changed.any():
            return []
        costs, best = prices or self.prices()
        pending = [_box(changed)]
        found: list[Rectangle] = []
        while pending:
            box = pending.pop()
            parts = self._cut(changed, box, costs) if len(found) + len(pending) < _MOST else ()
            pending += parts
            if not parts:
                found += self._rectangles(box, best)
        return found

    def some(self, size: Size) -> list[Rectangle]:
        """Rectangles of a size, from all over the frame, whose results are `_ENOUGH` to compare."""
        rows, columns = (-(-length // self.side) for length in self._shape)
        found = self._rectangles(np.array([0, rows, 0, columns]), self.prices([size]).sizes)
        return found[:: max(1, self.whole // _ENOUGH)]

    def prices(self, sizes: Sequence[Size] = ()) -> Prices:
        """The costs of boxes in rectangles of these sizes, several if one is too small; by default of all sizes."""
        rows, columns = self._sides
        seen = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
        if not sizes:
            return Prices(seen.prod(-1) + self._call, seen)
        needed = np.maximum(seen - 2 * self._overlap, 1)
        reaches = [[self._reach(*sides) for sides in zip(size, self._shape, strict=True)] for size in sizes]
        counts = [(-(-needed // np.array(reach))).prod(-1) for reach in reaches]
        costs = [self._cost(size) * count for size, count in zip(sizes, counts, strict=True)]
        return Prices(np.min(costs, 0), np.array(sizes)[np.argmin(costs, 0)])

    def _reach(self, side: int, length: int) -> int:
        """How many samples of a side's result are used: all if it is the frame's, whose borders need no overlap."""
        return length if side == length else max(side - 2 * self._overlap, 0)

    def _rectangles(self, box: Boxes, best: NDArray[np.intp]) -> list[Rectangle]:
        """The rectangles that cover a box."""
        height, width = best[self._classes(box)].tolist()
        rows, columns = (
            self._windows(first, last, length, side)
            for (first, last), length, side in zip(
                box.reshape(2, 2).tolist(), self._shape, (height, width), strict=True
            )
        )
        return [Rectangle((height, width), row, column) for row in rows for column in columns]

    def _windows(self, first: int, last: int, length: int, side: int) -> list[Window]:
        """The windows in one dimension whose results hold all that depends on the squares from first to last."""
        overlap, windows = self._overlap, []
        taken, end = max(first * self.side - overlap, 0), min(last * self.side + overlap, length)
        while taken < end:
            start = min(max(taken - overlap, 0), length - side)
            until = length if start + side == length else start + side - overlap
            windows.append(Window(start, taken - start, until - start))
            taken = until
        return windows

    def _classes(self, boxes: Boxes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of the smallest sides, in rows and columns, that hold boxes with twice the overlap around them."""
        around = 2 * self._overlap
        starts = np.maximum(boxes[..., 0::2] * self.side - around, 0)
        lengths = np.minimum(boxes[..., 1::2] * self.side + around, self._shape) - starts
        rows, columns = (np.searchsorted(sides, lengths[..., axis]) for axis, sides in enumerate(self._sides))
        return rows, columns

    def _cut(self, changed: Mask, box: Boxes, costs: NDArray[np.intp]) -> tuple[Boxes, ...]:
        """The two boxes that replace one at the least cost; none if no two cost less."""
        top, bottom, left, right = box
        inside = changed[top:bottom, left:right]
        corner = np.array([top, top, left, left])
        best = costs[self._classes(box)]
        found: tuple[Boxes, ...] = ()
        for one, other in (_halves(inside), tuple(half[:, [2, 3, 0, 1]] for half in _halves(inside.T))):
            both = costs[self._classes(one + corner)] + costs[self._classes(other + corner)]
            at = both.argmin() if len(both) else 0
            if len(both) and both[at] < best:
                best, found = both[at], (one[at] + corner, other[at] + corner)
        return found


def _box(changed: Mask) -> Boxes:
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    return np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])


def _halves(changed: Mask) -> tuple[Boxes, Boxes]:
    """The boxes around what changed above and below every line between rows, (rows − 1, 4) each."""
    below = _growing(changed[::-1])[::-1].copy()
    below[:, :2] = len(changed) - below[:, 1::-1]
    return _growing(changed), below


def _growing(changed: Mask) -> Boxes:
    """The boxes around what changed in the first row, the first two rows, and so on, up to all but the last."""
    count, width = changed.shape
    bottom = np.maximum.accumulate(np.where(changed.any(1), np.arange(1, count + 1), 0))[:-1]
    columns = np.logical_or.accumulate(changed, 0)[:-1]
    left, right = columns.argmax(1), width - columns[:, ::-1].argmax(1)
    return np.stack([np.zeros_like(bottom), bottom, left, right], 1)
