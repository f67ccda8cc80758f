"""How one viewer sees the frames: the view, the split line, the part of a large frame; and how the mouse moves them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from . import VIEWS
from .canvas import BAR, GROUND, HANDLE, LEAST_WIDTH, STRIP, add_keys, add_labels, add_loupe, add_time, compose, strip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import DisplayedFrame, Image, Status

_ZOOMS = (2, 4, 8, 16)  # of the loupe
_NARROWEST = 16  # columns that are drawn, even if a window has fewer


@dataclass(frozen=True, slots=True)
class Layout:
    """The place of an image on the screen.

    Attributes:
        place: (left, top, width, height) on the screen, of each of two images side by side or of a single one.
        crop: (left, top, width, height) of the visible part of an image, in its pixels.
        count: Number of images side by side.
    """

    place: tuple[int, int, int, int]
    crop: tuple[int, int, int, int]
    count: int

    def pixel(self, x: int, y: int) -> tuple[int, int]:
        """The pixel of an image at a point of the screen, or the nearest one."""
        left, top, width, height = self.place
        from_left, from_top, columns, rows = self.crop
        across, down = (x - left) % width if self.count == 2 else x - left, y - top
        return (
            from_left + min(max(0, across * columns // width), columns - 1),
            from_top + min(max(0, down * rows // height), rows - 1),
        )


class Viewer:
    """What one viewer sees of a frame, and how the mouse changes it.

    Attributes:
        view: One of `VIEWS`.
        split: Where the baseline ends, 0 to 1 of the visible width: at 100 %, the line stays when the image is dragged.
        actual: Whether a pixel of the image is a pixel of the screen; else the whole image is visible.
        loupe: Whether the loupe is shown.
        zoom: Magnification of the loupe.
        keys: Whether the list of keys is shown.
        figures: Whether the figures below the image are shown.

    Args:
        aspect: Width of a pixel of the image over its height.
    """

    def __init__(self, aspect: float) -> None:
        self.view, self.split = VIEWS[0], 0.5
        self.actual = self.loupe = self.keys = False
        self.zoom, self.figures = _ZOOMS[1], True
        self._aspect = aspect
        self._center = (0.5, 0.5)  # of the visible part of an image, 0 to 1
        self._mouse: tuple[int, int] | None = None
        self._held = ""  # what the mouse drags: the "line", the "bar", the "image"
        self._size = (1, 1)  # of all that is drawn
        self._image = (1, 1)  # (columns, rows) of the frame
        self._layout = Layout((0, 0, 1, 1), (0, 0, 1, 1), 1)

    @property
    def rows(self) -> int:
        """Rows of the time bar and, if they are shown, of the figures below it."""
        return STRIP if self.figures else BAR

    @property
    def points_at_bar(self) -> bool:
        """Whether the mouse is on the time bar."""
        return self._mouse is not None and 0 <= self._mouse[1] - (self._size[1] - self.rows) <= BAR

    def natural_size(self, shown: DisplayedFrame, most: tuple[int, int]) -> tuple[int, int]:
        """(width, height) at which everything is shown at its own size, or as large as fits."""
        height, width = shown.network.shape[:2]
        wide = width * self._aspect * self._count
        part = min(1.0, most[0] / wide, (most[1] - STRIP) / height)
        return max(LEAST_WIDTH, round(part * wide)), max(1, round(part * height)) + self.rows

    def draw(
        self,
        shown: DisplayedFrame,
        status: Status,
        times: Sequence[tuple[float, float]],
        now: float,
        size: tuple[int, int],
    ) -> Image:
        """Draw everything, (H, W, 3).

        Args:
            shown: The frame.
            status: The figures.
            times: As for `strip`.
            now: ″
            size: (W, H).
        """
        self._size = size
        area = np.full((max(1, size[1] - self.rows), max(_NARROWEST, size[0]), 3), GROUND, np.uint8)
        self._layout = layout = self._laid_out(shown, area)
        left, top, width, height = layout.place
        from_left, from_top, columns, rows = layout.crop
        part = (slice(from_top, from_top + rows), slice(from_left, from_left + columns))
        seen = replace(shown, plain=shown.plain[part], network=shown.network[part])
        image = compose(seen, self.view, self.split)
        whole = (width * layout.count, height)
        if whole != (image.shape[1], image.shape[0]):
            how = cv2.INTER_AREA if height < rows else cv2.INTER_LINEAR
            image = cv2.resize(image, whole, interpolation=how)
        add_labels(image, shown, self.view, width if layout.count == 2 else round(self.split * width))
        area[top : top + height, left : left + whole[0]] = image
        if self.loupe:
            mouse = self._mouse or (left + width // 2, top + height // 2)
            add_loupe(area, shown, layout.pixel(*mouse), mouse, self.zoom)
        if self.keys:
            add_keys(area, status.models)
        if self._mouse and self.points_at_bar and status.duration:
            add_time(area, self._mouse[0], min(self._mouse[0] / size[0], 1.0) * status.duration)
        below = strip(status, times, area.shape[1], now, height / rows)[: self.rows]
        return np.concatenate([area, below])[: size[1], : size[0]]

    def magnify(self, steps: int) -> None:
        """Show the loupe; if it is shown already, magnify more or less."""
        place = _ZOOMS.index(self.zoom) + (steps if self.loupe else 0)
        self.loupe, self.zoom = True, _ZOOMS[min(max(0, place), len(_ZOOMS) - 1)]

    def next_view(self) -> None:
        """Change to the next of `VIEWS`."""
        self.view = VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)]

    def press(self, x: int, y: int) -> float | None:
        """Begin to drag what is there; returns the part of the clip to seek to, 0 to 1, if any."""
        self._mouse = (x, y)
        left, _, width, _ = self._layout.place
        bottom = self._size[1] - self.rows
        if y >= bottom:
            self._held = "bar" if y <= bottom + BAR else ""
        else:
            near = self.view == "split" and abs(x - (left + self.split * width)) <= 1.5 * HANDLE
            self._held = "image" if self.actual and not near else "line" if self.view == "split" else ""
        return self.move(x, y)

    def move(self, x: int, y: int, *, held: bool = True) -> float | None:
        """Drag what the mouse holds; returns the part of the clip to seek to, 0 to 1, if any."""
        before, self._mouse = self._mouse or (x, y), (max(0, x), max(0, y))
        if not held:
            self._held = ""
        left, _, width, _ = self._layout.place
        if self._held == "line":
            self.split = min(max(0.0, (x - left) / width), 1.0)
        elif self._held == "image":
            across, down = before[0] - x, before[1] - y
            self._center = (
                self._center[0] + across / self._aspect / self._image[0],
                self._center[1] + down / self._image[1],
            )
        elif self._held == "bar":
            return min(max(0.0, x / self._size[0]), 1.0)
        return None

    @property
    def _count(self) -> int:
        return 2 if self.view == "side by side" else 1

    def _laid_out(self, shown: DisplayedFrame, area: Image) -> Layout:
        (rows, columns), (high, room) = shown.network.shape[:2], area.shape[:2]
        wide = room // self._count
        part = 1.0 if self.actual else min(wide / columns / self._aspect, high / rows)
        width = max(1, min(round(part * columns * self._aspect), wide))
        height = max(1, min(round(part * rows), high))
        seen = (max(1, min(columns, round(width / part / self._aspect))), max(1, min(rows, round(height / part))))
        self._image = (columns, rows)
        self._center = (_inside(self._center[0], seen[0] / columns), _inside(self._center[1], seen[1] / rows))
        from_left, from_top = (round(self._center[axis] * self._image[axis] - seen[axis] / 2) for axis in (0, 1))
        place = ((room - width * self._count) // 2, (high - height) // 2, width, height)
        return Layout(place, (from_left, from_top, *seen), self._count)


def _inside(center: float, part: float) -> float:
    """Move the center of a part so that the part lies within 0 to 1."""
    return min(max(part / 2, center), 1 - part / 2)
