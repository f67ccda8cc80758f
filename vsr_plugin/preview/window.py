"""The preview in a window of this machine, with OpenCV."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..errors import BackendError, OutputError
from . import VIEWS
from .canvas import BAR, GROUND, LEAST_WIDTH, STRIP, add_keys, add_labels, add_loupe, compose, strip
from .display import answers, lets_in, screen_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import DisplayedFrame, Image
    from .player import Player

_log = logging.getLogger(__name__)

_TICK = 0.01  # seconds between looks at keyboard and mouse
_REFRESH = 0.1  # seconds between figures while no new picture comes
_SKIP = 5.0  # seconds
_OPENING = 50  # milliseconds that a new window has to come up, before it is resized
_SETTLED = 0.7  # seconds after which it should be there
_FPS = 2.0  # seconds that the figures look back
_MOST = 0.92  # of the screen that a window may take; the rest is for its frame, and for bars of the desktop
# Arrows as X11, Windows and macOS number them.
_LEFT, _UP = (0xFF51, 0x250000, 63234), (0xFF52, 0x260000, 63232)
_RIGHT, _DOWN = (0xFF53, 0x270000, 63235), (0xFF54, 0x280000, 63233)
_ESCAPE = 27


def show(player: Player, *, folder: Path) -> None:
    """Show what is played until the user quits or closes the window.

    Args:
        player: What is played.
        folder: Where `s` saves.

    Raises:
        BackendError: there is no display.
        VsrError: the clip cannot be played any further.
    """
    check_display()
    Window(player, folder).run()


def check_display() -> None:
    """Find out whether a window can be opened, for OpenCV ends the whole program where it cannot.

    Raises:
        BackendError: it cannot.
    """
    if not sys.platform.startswith("linux"):
        return
    if not answers(os.environ.get("DISPLAY", "")) or not lets_in():
        raise BackendError("Expected a display for the window, got none: add --serve, and open the page it prints")
    # Both wheels bring an X library of the same name, the first one serves both, and with PyAV's OpenCV waits for ever.
    imported = list(sys.modules)
    if "av" in imported and imported.index("av") < imported.index("cv2"):
        raise BackendError("Expected cv2 imported before av, got av first: import vsr_plugin.preview.window earlier")


class Window:
    """One window; what it shows of the player's pictures is its own.

    Attributes:
        drawn: Pictures that were drawn.
        missed: Pictures that the player showed, but for which there was no time to draw them.

    Args:
        player: What is played.
        folder: Where `s` saves.
    """

    def __init__(self, player: Player, folder: Path) -> None:
        self.drawn = self.missed = 0
        self._player = player
        self._folder = folder
        self._name = f"vsr preview: {player.status().name}"
        self._aspect = player.status().pixel_aspect
        self._view = VIEWS[0]
        self._split = 0.5
        self._mouse: tuple[int, int] | None = None
        self._screen = screen_size()
        self._zoom = (1.0, 1.0)  # what is shown : pixels of the picture, across and down
        self._place = (0, 0, 1, 1)  # of the picture in what is shown: left, top, width, height
        self._loupe = self._keys = self._full = self._closed = False
        self._figures = True
        self._shown: DisplayedFrame | None = None
        self._drawn_at: deque[float] = deque()  # when pictures that had not been drawn before were
        self._draw_seconds = 0.0  # of the latest
        self._size = (0, 0)  # (width, height) of what is shown, with the strip
        self._held = ""  # what the mouse has hold of: the "line", the "bar"
        self._said = ""  # what came of the last key, until the next one
        self._actions: dict[int, Callable[[], object]] = {
            ord(" "): player.pause,
            ord(","): lambda: player.step(-1),
            ord("."): lambda: player.step(1),
            **dict.fromkeys(_LEFT, lambda: player.skip(-_SKIP)),
            **dict.fromkeys(_RIGHT, lambda: player.skip(_SKIP)),
            **dict.fromkeys(_DOWN, lambda: player.step(-1)),
            **dict.fromkeys(_UP, lambda: player.step(1)),
            ord("+"): lambda: self._rescale(1),
            ord("="): lambda: self._rescale(1),
            ord("-"): lambda: self._rescale(-1),
            ord("v"): self._next_view,
            ord("l"): lambda: self._toggle("_loupe"),
            ord("i"): lambda: self._toggle("_figures"),
            ord("?"): lambda: self._toggle("_keys"),
            ord("f"): self._toggle_full,
            ord("s"): self._save,
            ord("q"): lambda: self._toggle("_closed"),
            _ESCAPE: lambda: self._toggle("_closed"),
        }

    def run(self, seconds: float | None = None) -> None:
        """Show, until closed, or for so long."""
        end = None if seconds is None else time.monotonic() + seconds
        self._size = (0, 0)
        cv2.namedWindow(self._name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        try:
            cv2.setMouseCallback(self._name, self._on_mouse)
            cv2.waitKey(_OPENING)
            drawn, mended, opened = 0.0, False, time.monotonic()
            while not self._closed and (end is None or time.monotonic() < end):
                before = self._shown.number if self._shown else 0
                picture = self._player.wait(before, _TICK)
                if picture is not None:
                    self._shown = picture
                if picture is not None or time.monotonic() - drawn > _REFRESH:
                    began = time.monotonic()
                    self._draw()
                    drawn = time.monotonic()
                    if picture is not None:
                        self._count(picture.number - before if before else 1, drawn, drawn - began)
                    if not mended and not self._full and self._shown is not None and drawn - opened > _SETTLED:
                        mended = True
                        self._mend()
                self._press(cv2.waitKeyEx(1))
                if not self._visible():
                    return
        finally:
            with suppress(cv2.error):  # a window that its user has closed
                cv2.destroyAllWindows()
                cv2.waitKey(1)

    def _count(self, passed: int, now: float, seconds: float) -> None:
        """One of the pictures that have passed was drawn."""
        self.drawn += 1
        self.missed += passed - 1
        self._draw_seconds = seconds
        self._drawn_at.append(now)
        while self._drawn_at[0] < now - _FPS:
            self._drawn_at.popleft()

    def _visible(self) -> bool:
        try:
            return bool(cv2.getWindowProperty(self._name, cv2.WND_PROP_VISIBLE) >= 1)
        except cv2.error:  # where there is no window left at all
            return False

    def _draw(self) -> None:
        if self._shown is None:
            return
        picture = self._fitted(compose(self._shown, self._view, self._split))
        add_labels(picture, self._shown, self._view, self._split)
        if self._loupe:
            add_loupe(picture, self._shown, *self._pixel())
        if self._keys:
            add_keys(picture, self._player.status().models)
        whole = self._with_strip(self._framed(picture))
        size = (whole.shape[1], whole.shape[0])
        if size != self._size:
            self._size = size
            if not self._full:
                cv2.resizeWindow(self._name, *size)
        cv2.imshow(self._name, whole)

    def _mend(self) -> None:
        """Make Qt draw the window: now and then, of one that is opened on a busy screen, it hears nothing."""
        width, height = self._size
        cv2.resizeWindow(self._name, width, height + 1)
        cv2.waitKey(1)
        cv2.resizeWindow(self._name, width, height)

    def _fitted(self, picture: Image) -> Image:
        """As wide as its pixels are meant, and no larger than the screen."""
        height, width = picture.shape[:2]
        wide, high = width * self._aspect, float(height)
        if full := self._full_size():
            part = min(full[0] / wide, (full[1] - self._rows()) / high)
        else:
            part = min(1.0, _MOST * self._screen[0] / wide, (_MOST * self._screen[1] - STRIP) / high)
        size = (max(1, round(part * wide)), max(1, round(part * high)))
        self._zoom = (size[0] / width, size[1] / height)
        how = cv2.INTER_AREA if part < 1 else cv2.INTER_LINEAR
        return picture if size == (width, height) else cv2.resize(picture, size, interpolation=how)

    def _framed(self, picture: Image) -> Image:
        """As wide as the words below need, and as large as the screen if it is full; the rest is dark."""
        height, width = picture.shape[:2]
        most = self._full_size() or (max(width, LEAST_WIDTH), height + self._rows())
        across, down = max(0, most[0] - width), max(0, most[1] - self._rows() - height)
        self._place = (across // 2, down // 2, width, height)
        sides = (down // 2, down - down // 2, across // 2, across - across // 2)
        return cv2.copyMakeBorder(picture, *sides, cv2.BORDER_CONSTANT, value=GROUND) if across or down else picture

    def _full_size(self) -> tuple[int, int] | None:
        """(width, height) of the full screen; None if there is none, or no knowing."""
        if not self._full:
            return None
        with suppress(cv2.error):  # what is shown lies in the middle of it
            left, top, width, height = cv2.getWindowImageRect(self._name)
            size = (width + 2 * left, height + 2 * top)
            if min(left, top) >= 0 and size[0] <= self._screen[0] and STRIP < size[1] <= self._screen[1]:
                return size
        return None

    def _with_strip(self, picture: Image) -> Image:
        """What is said of the player, as far as this window has kept up with it."""
        status, now = self._player.status(), time.monotonic()
        status = replace(
            status,
            shown_fps=sum(when > now - _FPS for when in self._drawn_at) / _FPS,
            dropped=status.dropped + self.missed,
            display_ms=status.display_ms + 1e3 * self._draw_seconds,
            notice=self._said or status.notice,
        )
        below = strip(status, self._player.times, picture.shape[1], now)
        return np.concatenate([picture, below[: self._rows()]])

    def _rows(self) -> int:
        """Of the time bar and the figures below it, as far as they are wanted."""
        return STRIP if self._figures else BAR

    def _pixel(self) -> tuple[int, int]:
        """Where the mouse is, in one of the two pictures; the middle, as long as there is no knowing."""
        assert self._shown is not None
        height, width = self._shown.network.shape[:2]
        if self._mouse is None:
            return width // 2, height // 2
        x, y = ((self._mouse[axis] - self._place[axis]) / self._zoom[axis] for axis in (0, 1))
        return round(max(0.0, x)) % width, min(round(max(0.0, y)), height - 1)

    def _on_mouse(self, event: int, x: int, y: int, flags: int, _: Any) -> None:
        if self._shown is None:
            return
        self._mouse = (max(0, x), max(0, y))
        height, width = self._size[1] - self._rows(), self._size[0]
        if event == cv2.EVENT_LBUTTONDOWN:
            self._held = "bar" if height <= y <= height + BAR else "line" if y < height else ""
        elif not flags & cv2.EVENT_FLAG_LBUTTON:
            self._held = ""
        if self._held == "line" and self._view == "split":
            self._split = min(max(0.0, (x - self._place[0]) / self._place[2]), 1.0)
            self._draw()
        elif self._held == "bar":
            self._player.seek(min(max(0.0, x / width), 1.0) * self._player.status().duration)

    def _press(self, key: int) -> None:
        if key < 0:
            return
        self._said = ""
        status = self._player.status()
        if ord("1") <= key <= ord("9"):
            if key - ord("1") < len(status.models):
                self._player.choose(model=status.models[key - ord("1")])
            else:
                self._said = f"no model {chr(key)}: ? has the keys"
        elif key in self._actions:
            self._actions[key]()
        self._draw()

    def _rescale(self, by: int) -> None:
        status = self._player.status()
        scales = sorted(status.scales)
        place = scales.index(status.scale) + by
        if 0 <= place < len(scales):
            self._player.choose(scale=scales[place])

    def _next_view(self) -> None:
        self._view = VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)]

    def _toggle(self, what: str) -> None:
        setattr(self, what, not getattr(self, what))

    def _toggle_full(self) -> None:
        self._full = not self._full
        state = cv2.WINDOW_FULLSCREEN if self._full else cv2.WINDOW_NORMAL
        cv2.setWindowProperty(self._name, cv2.WND_PROP_FULLSCREEN, state)

    def _save(self) -> None:
        if self._shown is None:
            return
        try:
            paths = save(self._shown, self._player.status().name, self._folder)
        except OutputError as error:
            self._said = str(error)
        else:
            self._said = f"saved {', '.join(path.name for path in paths)}"
        _log.info("%s", self._said)


def save(shown: DisplayedFrame, clip: str, folder: Path) -> list[Path]:
    """Write both versions as PNG, under names that are not taken.

    Args:
        shown: The pictures.
        clip: Its name.
        folder: Where.

    Raises:
        OutputError: they cannot be written.
    """
    files = shown.files(clip)
    paths = [folder / name for name in files]
    number = 1
    try:
        while any(path.exists() for path in paths):
            number += 1
            paths = [folder / f"{Path(name).stem}_{number}.png" for name in files]
        for path, picture in zip(paths, files.values(), strict=True):
            path.with_suffix(".part").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        for path in paths:
            path.with_suffix(".part").replace(path)
    except OSError as error:
        for path in paths:
            with suppress(OSError):
                path.with_suffix(".part").unlink(missing_ok=True)
        raise OutputError(f"Cannot write {' and '.join(map(str, paths))}: {error.strerror}") from error
    return paths
