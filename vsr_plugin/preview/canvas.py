"""Drawing: two pictures in one view, a loupe over them, and the strip below with time bar, figures and graph.

Pure functions of arrays, for the window and the files it saves; the page draws by itself.
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

STRIP = 84  # rows below the picture
BAR = 14  # of them, the topmost, are the time bar
LEAST_WIDTH = 640  # columns that the words there need
_EDGE = 12
GROUND, _FAINT, _TEXT, _DIM, _ACCENT = (28, 24, 22), (58, 50, 46), (240, 238, 236), (170, 160, 152), (255, 170, 60)
_GRAPH_WIDTH, _GRAPH_SECONDS = 220, 10.0
_TEXT_WIDTH = 620
_PATCH, _ZOOM = (28, 20), 8  # of the loupe: (width, height) in pixels of the picture, and how large they are shown


def compose(shown: DisplayedFrame, view: str, split: float) -> Image:
    """Show both pictures in one.

    Args:
        shown: The pictures.
        view: Out of `VIEWS`.
        split: Where bicubic ends, 0 to 1 of the width.

    Returns:
        (H, W, 3), twice as wide if side by side.
    """
    bicubic, network = shown.plain, shown.network
    if view == "side by side":
        return np.concatenate([bicubic, network], 1)
    if view == "difference":
        return cv2.addWeighted(network, 8.0, bicubic, -8.0, 128.0)
    picture = network.copy()
    if view == "split":
        column = round(split * picture.shape[1])
        picture[:, :column] = bicubic[:, :column]
    return picture


def add_labels(picture: Image, shown: DisplayedFrame, view: str, split: float) -> None:
    """Draw the line between both pictures, and what is what.

    Args:
        picture: Of `compose`, as large as it is shown; drawn into.
        shown: The frame.
        view: As for `compose`.
        split: ″
    """
    seen = shown.model or shown.baseline
    column = {"split": round(split * picture.shape[1]), "side by side": picture.shape[1] // 2}.get(view)
    if column is not None:
        picture[:, max(0, column - 1) : column + 1] = 255
        _words(picture, shown.baseline, column - 10, 24, right=True)
        _words(picture, seen, column + 10, 24)
    else:
        _words(picture, seen if view == "network" else f"{seen} − {shown.baseline}, × 8", 10, 24)


def add_loupe(picture: Image, shown: DisplayedFrame, x: int, y: int) -> None:
    """Draw the neighborhood of a pixel of both pictures, magnified, away from where it is.

    Args:
        picture: Drawn into.
        shown: Where the pixels come from.
        x: Of the pixel in one of the two pictures; the loupe stays inside of it.
        y: ″
    """
    rows, columns = shown.network.shape[:2]
    width, height = min(_PATCH[0], columns), min(_PATCH[1], rows)
    left, top = (min(max(0, x - width // 2), columns - width), min(max(0, y - height // 2), rows - height))
    panels = [each[top : top + height, left : left + width] for each in (shown.plain, shown.network)]
    large = [panel.repeat(_ZOOM, 0).repeat(_ZOOM, 1) for panel in panels]
    gap = np.full((large[0].shape[0], 2, 3), 255, np.uint8)
    loupe = np.concatenate([large[0], gap, large[1]], 1)
    loupe = cv2.copyMakeBorder(loupe, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    loupe = loupe[: picture.shape[0], : picture.shape[1]]
    place = _EDGE if y > rows // 2 else max(0, picture.shape[0] - loupe.shape[0] - _EDGE)
    begin = _EDGE if x > columns // 2 else max(0, picture.shape[1] - loupe.shape[1] - _EDGE)
    place, begin = (
        min(place, picture.shape[0] - loupe.shape[0]),
        min(begin, picture.shape[1] - loupe.shape[1]),
    )
    picture[place : place + loupe.shape[0], begin : begin + loupe.shape[1]] = loupe


def strip(status: Status, times: Sequence[tuple[float, float]], width: int, now: float) -> Image:
    """The part below the picture, (STRIP, width, 3): time bar, figures, and a graph of what pictures took.

    Args:
        status: What is said.
        times: (when, milliseconds) of every picture of the last ten seconds.
        width: In pixels.
        now: On the clock of ``times``.
    """
    picture = np.full((STRIP, width, 3), GROUND, np.uint8)
    cv2.rectangle(picture, (0, 4), (width, 9), _FAINT, cv2.FILLED)
    if status.duration:
        cv2.rectangle(picture, (0, 4), (round(width * status.target / status.duration), 9), _ACCENT, cv2.FILLED)
    right = width
    if width >= _GRAPH_WIDTH + _TEXT_WIDTH:
        right = width - _GRAPH_WIDTH - _EDGE
        limit = 1000 / status.source_fps if status.source_fps else 0.0
        _graph(picture[BAR + 6 : -8, right : width - _EDGE], times, now, limit)
    for row, (line, color) in enumerate(zip(figures(status), (_TEXT, _DIM, _DIM), strict=True)):
        part = picture[:, : right - _EDGE]
        cv2.putText(part, line, (_EDGE, BAR + 18 + 21 * row), color, _face(), 14, 400)
    return picture


def figures(status: Status) -> tuple[str, str, str]:
    """The three lines that are said below the picture."""
    large = f"{status.width * status.seen_scale}×{status.height * status.seen_scale}"
    state = "paused   " if status.paused else ""
    of = f" of {clock(status.duration)}" if status.duration else ""
    stages = f"decode {status.decode_ms:.1f}  network {status.network_ms:.1f}  display {status.display_ms:.1f} ms"
    return (
        f"{status.seen} ×{status.seen_scale}   {status.width}×{status.height} → {large}   {status.runs_on}",
        f"{status.source_fps:.4g} fps, shown {status.shown_fps:.3g}, dropped {status.dropped}   {stages}",
        status.notice or f"? keys   {state}{clock(status.position)}{of}   {status.name}",
    )


def clock(seconds: float) -> str:
    """1:02:03.45."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:05.2f}"


def add_keys(picture: Image, models: Sequence[str]) -> None:
    """Draw what the keys do over the picture; the numbers are those of the models."""
    numbers = {f"{number}": name for number, name in enumerate(models[:9], 1)}
    lines = [line for key, what in KEYS.items() for line in (numbers.items() if key == "1 … 9" else [(key, what)])]
    width, height = 520, 26 * len(lines) + 24
    area = picture[_EDGE : _EDGE + height, _EDGE : _EDGE + width]
    area[:] = area // 5
    for row, (key, what) in enumerate(lines):
        y = 28 + 26 * row
        cv2.putText(area, key, (16, y), _ACCENT, _face(), 15, 600)
        cv2.putText(area, what, (86, y), _TEXT, _face(), 15, 400)


def _graph(area: Any, times: Sequence[tuple[float, float]], now: float, limit: float) -> None:
    """Draw milliseconds over time; a line where the next frame is due."""
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


def _words(picture: Any, text: str, x: int, y: int, *, right: bool = False) -> None:
    """White words with a dark edge, on any picture."""
    if right:
        x -= round(cv2.getTextSize((picture.shape[1], picture.shape[0]), text, (0, y), _face(), 15, 600)[2])
    cv2.putText(picture, text, (x + 1, y + 1), (0, 0, 0), _face(), 15, 600)
    cv2.putText(picture, text, (x, y), (255, 255, 255), _face(), 15, 600)


@cache
def _face() -> Any:
    return cv2.FontFace("sans")
