"""Draw two images in one, a loupe over them, and the strip below with time bar, figures and graph.

Pure functions of arrays, for the window and the files it saves; the page has drawing code of its own.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from . import KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import DisplayedFrame, Image, Status

STRIP = 84  # rows below the image
BAR = 14  # the topmost of them, for the time bar
LEAST_WIDTH = 640  # columns that their text needs
HANDLE = 16  # radius of the handle of the split line
LOUPE = (400, 280)  # columns and rows of each half of the loupe
_EDGE = 12
_TITLE = 22  # rows above each half of the loupe
GROUND, _FAINT, _TEXT, _DIM, _ACCENT = (28, 24, 22), (58, 50, 46), (240, 238, 236), (170, 160, 152), (255, 170, 60)
_GRAPH_WIDTH, _GRAPH_SECONDS = 220, 10.0
_TEXT_WIDTH = 620
_SMALLEST = 10  # height of letters, in rows; a line that is still too long is cut


def compose(shown: DisplayedFrame, view: str, split: float) -> Image:
    """Combine both images in one.

    Args:
        shown: The images.
        view: One of `VIEWS`.
        split: Where the baseline ends, 0 to 1 of the width.

    Returns:
        (H, W, 3), twice as wide if side by side.
    """
    plain, network = shown.plain, shown.network
    if view == "side by side":
        return np.concatenate([plain, network], 1)
    if view == "difference":
        return cv2.addWeighted(network, 8.0, plain, -8.0, 128.0)
    image = network.copy()
    if view == "split":
        column = round(split * image.shape[1])
        image[:, :column] = plain[:, :column]
    return image


def add_labels(image: Image, shown: DisplayedFrame, view: str, column: int) -> None:
    """Draw the line between both images, its handle, and the names of both.

    Args:
        image: The image at the size of display; drawn into.
        shown: The frame.
        view: One of `VIEWS`.
        column: Where the second image begins, in views that have two.
    """
    height, width = image.shape[:2]
    seen = shown.model or shown.baseline
    if view not in ("split", "side by side"):
        _words(image, seen if view == "network" else f"{seen} − {shown.baseline}, × 8", 10, 24)
        return
    image[:, max(0, column - 1) : column + 1] = 255
    _words(image, shown.baseline, column - 10, 24, right=True)
    _words(image, seen, column + 10, 24)
    if view == "split" and height > 6 * HANDLE and width > 6 * HANDLE:
        middle = (column, height // 2)
        cv2.circle(image, middle, HANDLE, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        for side in (-1, 1):
            tip, back = column + side * (HANDLE - 5), column + side * 4
            arrow = np.array([(tip, middle[1]), (back, middle[1] - 6), (back, middle[1] + 6)], np.int32)
            cv2.fillPoly(image, [arrow], GROUND, cv2.LINE_AA)


def add_loupe(image: Image, shown: DisplayedFrame, at: tuple[int, int], mouse: tuple[int, int], zoom: int) -> None:
    """Draw the neighborhood of a pixel in both images, magnified, away from the mouse.

    Args:
        image: The image at the size of display; drawn into.
        shown: The frame that the pixels come from.
        at: (x, y) of the pixel in one of the two images; the loupe stays inside of it.
        mouse: (x, y) in ``image``.
        zoom: Columns and rows that a pixel takes.
    """
    rows, columns = shown.network.shape[:2]
    width = max(1, min(LOUPE[0] // zoom, (image.shape[1] // 2 - 2 * _EDGE) // zoom, columns))
    height = max(1, min(LOUPE[1] // zoom, (image.shape[0] // 2 - _TITLE - 2 * _EDGE) // zoom, rows))
    left = min(max(0, at[0] - width // 2), columns - width)
    top = min(max(0, at[1] - height // 2), rows - height)
    halves = []
    for source, name in ((shown.plain, shown.baseline), (shown.network, shown.model or shown.baseline)):
        large = source[top : top + height, left : left + width].repeat(zoom, 0).repeat(zoom, 1)
        half = cv2.copyMakeBorder(large, _TITLE, 0, 0, 0, cv2.BORDER_CONSTANT, value=GROUND)
        cv2.putText(half, f"{name}  {zoom}×", (6, 16), _TEXT, _face(), 13, 500)
        halves.append(half)
    gap = np.full((halves[0].shape[0], 2, 3), 255, np.uint8)
    loupe = cv2.copyMakeBorder(
        np.concatenate([halves[0], gap, halves[1]], 1), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    loupe = loupe[: image.shape[0], : image.shape[1]]
    high, wide = loupe.shape[:2]
    y = min(_EDGE, image.shape[0] - high) if mouse[1] > image.shape[0] // 2 else max(0, image.shape[0] - high - _EDGE)
    x = min(_EDGE, image.shape[1] - wide) if mouse[0] > image.shape[1] // 2 else max(0, image.shape[1] - wide - _EDGE)
    image[y : y + high, x : x + wide] = loupe


def add_time(image: Image, x: int, seconds: float) -> None:
    """Draw the time above the time bar, at the mouse and inside the image."""
    text = clock(seconds)
    room = image.shape[1] - _length(text, 15, 600) - 4
    _words(image, text, max(4, min(x - _length(text, 15, 600) // 2, room)), image.shape[0] - 8)


def strip(status: Status, times: Sequence[tuple[float, float]], width: int, now: float, part: float) -> Image:
    """The part below the image, (STRIP, width, 3): time bar, figures, and a graph of the time that frames took.

    Args:
        status: The figures.
        times: (when, milliseconds) of every frame of the last ten seconds.
        width: Columns of the strip.
        now: Time on the clock of ``times``.
        part: Pixels of the screen for one row of the image.
    """
    image = np.full((STRIP, width, 3), GROUND, np.uint8)
    cv2.rectangle(image, (0, 4), (width, 9), _FAINT, cv2.FILLED)
    if status.duration:
        cv2.rectangle(image, (0, 4), (round(width * status.target / status.duration), 9), _ACCENT, cv2.FILLED)
    right = width
    if width >= _GRAPH_WIDTH + _TEXT_WIDTH:
        right = width - _GRAPH_WIDTH - _EDGE
        limit = 1000 / status.source_fps if status.source_fps else 0.0
        _graph(image[BAR + 6 : -8, right : width - _EDGE], times, now, limit)
    for row, (line, color) in enumerate(zip(figures(status, part), (_TEXT, _DIM, _DIM), strict=True)):
        _line(image[:, : right - _EDGE], line, _EDGE, BAR + 18 + 21 * row, color, 14)
    return image


def figures(status: Status, part: float) -> tuple[str, str, str]:
    """The three lines below the image; ``part`` as for `strip`."""
    large = f"{status.seen_width}×{status.seen_height}, shown at {100 * part:.0f} %"
    times = f" ×{status.seen_scale}" if status.seen_scale else ""
    state = "paused   " if status.paused else ""
    of = f" of {clock(status.duration)}" if status.duration else ""
    stages = f"decode {status.decode_ms:.1f}  network {status.network_ms:.1f}  display {status.display_ms:.1f} ms"
    return (
        f"{status.seen}{times}   {status.width}×{status.height} → {large}   {status.runs_on}",
        f"{status.source_fps:.4g} fps, shown {status.shown_fps:.3g}, dropped {status.dropped}   {stages}",
        status.notice or f"? keys   {state}{clock(status.position)}{of}   {status.name}",
    )


def clock(seconds: float) -> str:
    """1:02:03.45."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}"


def add_keys(image: Image, models: Sequence[str]) -> None:
    """Draw the list of keys over the image; the number keys choose ``models``."""
    numbers = [(f"{number}", name) for number, name in enumerate(models[:9], 1)]
    rest = [line for line in KEYS.items() if line[0] != "1 … 9"]
    columns = [rest, numbers] if image.shape[1] > 760 else [rest + numbers]
    step = min(26, max(12, (image.shape[0] - 3 * _EDGE - 12) // max(map(len, columns))))
    left = _EDGE
    for lines, width in zip(columns, (570, 190), strict=False):
        area = image[_EDGE : _EDGE + step * len(lines) + 16, left : left + width]
        area[:] = area // 5
        for row, (key, what) in enumerate(lines, 1):
            cv2.putText(area, key, (14, row * step + 2), _ACCENT, _face(), min(15, step - 2), 600)
            _line(area, what, 40 if lines is numbers else 84, row * step + 2, _TEXT, min(15, step - 2))
        left += width + 4


def _graph(area: Any, times: Sequence[tuple[float, float]], now: float, limit: float) -> None:
    """Draw milliseconds over time, and a line at ``limit`` milliseconds, when the next frame is due."""
    height, width = area.shape[:2]
    area[:] = _FAINT
    top = max(1.5 * limit, 1.1 * max((value for _, value in times), default=0.0), 1.0)
    if limit:
        y = height - 1 - round(limit / top * (height - 1))
        cv2.line(area, (0, y), (width, y), _DIM, 1)
    points = [
        (round(width * (1 - (now - when) / _GRAPH_SECONDS)), height - 1 - round(value / top * (height - 1)))
        for when, value in times
        if now - when <= _GRAPH_SECONDS
    ]
    if len(points) > 1:
        cv2.polylines(area, [np.array(points, np.int32)], False, _ACCENT, 1, cv2.LINE_AA)


def _words(image: Any, text: str, x: int, y: int, *, right: bool = False) -> None:
    """Draw white text with a dark edge, readable on any image."""
    if right:
        x -= _length(text, 15, 600)
    cv2.putText(image, text, (x + 1, y + 1), (0, 0, 0), _face(), 15, 600)
    cv2.putText(image, text, (x, y), (255, 255, 255), _face(), 15, 600)


def _line(image: Any, text: str, x: int, y: int, color: tuple[int, int, int], size: int) -> None:
    """Draw text up to the right edge: smaller if there is too little room, then cut, with an ellipsis."""
    room = image.shape[1] - x
    while size > _SMALLEST and _length(text, size) > room:
        size -= 1
    if _length(text, size) > room:
        while text and _length(f"{text}…", size) > room:
            text = text[:-1]
        text += "…"
    cv2.putText(image, text, (x, y), color, _face(), size, 400)


def _length(text: str, size: int, weight: int = 400) -> int:
    """Columns that a text takes."""
    return round(cv2.getTextSize((0, 0), text, (0, 0), _face(), size, weight)[2])


@cache
def _face() -> Any:
    return cv2.FontFace("sans")
