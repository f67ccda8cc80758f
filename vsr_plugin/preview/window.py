"""The preview in a window of this machine, with OpenCV."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from ..errors import BackendError, OutputError
from . import BASELINES
from .canvas import BAR
from .display import answers, lets_in, screen_size
from .viewer import Viewer
from .zoom import find_reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import DisplayedFrame, Status
    from .player import Player

_log = logging.getLogger(__name__)

_TICK = 0.01  # seconds between polls of keyboard and mouse
_REFRESH = 0.1  # seconds between updates of figures while no new frame comes
_SKIP = 5.0  # seconds
_OPENING = 50  # milliseconds that a new window has to open before it is resized
_SETTLED = 0.7  # seconds after which it should be open
_FPS = 2.0  # seconds over which the figures are measured
_OBEYS = 0.3  # seconds until a window has the size that was asked for
_MOST = 0.9  # part of the screen that a window may take; the rest is for its frame, and for bars of the desktop
_TITLE = 20  # approximate rows of its title
# Arrows as X11, Windows and macOS number them.
_LEFT, _UP = (0xFF51, 0x250000, 63234), (0xFF52, 0x260000, 63232)
_RIGHT, _DOWN = (0xFF53, 0x270000, 63235), (0xFF54, 0x280000, 63233)
_ESCAPE = 27


def show(player: Player, *, folder: Path) -> None:
    """Show the player's frames until the user quits or closes the window.

    Args:
        player: What is played.
        folder: Where the key `s` saves.

    Raises:
        BackendError: there is no display.
        VsrError: the clip cannot be played any further.
    """
    check_display()
    Window(player, folder).run()


def check_display() -> None:
    """Check that a window can be opened, because OpenCV would end the whole program if not.

    Raises:
        BackendError: no window can be opened.
    """
    if not sys.platform.startswith("linux"):
        return
    if not answers(os.environ.get("DISPLAY", "")) or not lets_in():
        raise BackendError("Expected a display for the window, got none", serve=True)
    # Both wheels bring an X library of the same name. The first one loaded serves both; with PyAV's, OpenCV hangs.
    imported = list(sys.modules)
    if "av" in imported and imported.index("av") < imported.index("cv2"):
        raise BackendError("Expected cv2 imported before av, got av first: import vsr_plugin.preview.window earlier")


class Window:
    """One window, with its own view of the player's frames.

    Attributes:
        drawn: Frames that were drawn.
        missed: Frames that the player displayed, but that were not drawn for lack of time.

    Args:
        player: What is played.
        folder: Where the key `s` saves.
    """

    def __init__(self, player: Player, folder: Path) -> None:
        self.drawn = self.missed = 0
        self._player = player
        self._folder = folder
        self._name = f"vsr preview: {player.status().name}"
        self._viewer = viewer = Viewer(player.status().pixel_aspect)
        self._screen = screen_size()
        self._full = self._closed = False
        self._shown: DisplayedFrame | None = None
        self._drawn_at: deque[float] = deque()  # when new frames were drawn
        self._draw_seconds = 0.0  # for the latest frame
        self._asked = (0, 0)  # (width, height) that we asked for the window
        self._asked_at = 0.0
        self._size = (0, 0)  # of the drawn image
        self._said = ""  # the result of the last key, until the next one
        self._drawing = self._stale = self._turned = False
        self._events: deque[Callable[[], object]] = deque()  # keys, and the mouse while something was drawn
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
            ord("v"): viewer.next_view,
            ord("b"): self._next_baseline,
            ord("z"): lambda: _toggle(viewer, "actual"),
            ord("l"): lambda: _toggle(viewer, "loupe"),
            ord("["): lambda: viewer.magnify(-1),
            ord("]"): lambda: viewer.magnify(1),
            ord("i"): lambda: _toggle(viewer, "figures"),
            ord("?"): lambda: _toggle(viewer, "keys"),
            ord("f"): lambda: self._set_full(not self._full),
            ord("s"): self._save,
            ord("c"): self._tell_command,
            ord("q"): lambda: _toggle(self, "_closed"),
            _ESCAPE: self._leave,
        }

    def run(self, seconds: float | None = None) -> None:
        """Show frames until the window is closed, or for this many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        self._asked = (0, 0)
        cv2.namedWindow(self._name, cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL)
        try:
            cv2.setMouseCallback(self._name, self._on_mouse)
            cv2.waitKey(_OPENING)
            drawn, mended, opened = 0.0, False, time.monotonic()
            while not self._closed and (end is None or time.monotonic() < end):
                before = self._shown.number if self._shown else 0
                shown = self._player.wait(before, 0.0 if self._stale else _TICK)
                self._shown = shown or self._shown
                due = shown is not None or self._stale
                if due or time.monotonic() - drawn > _REFRESH or self._window_size() != self._size:
                    began = time.monotonic()
                    self._draw()
                    drawn = time.monotonic()
                    if shown is not None:
                        self._count(shown.number - before if before else 1, drawn, drawn - began)
                    if not mended and not self._full and self._shown is not None and drawn - opened > _SETTLED:
                        mended = True
                        self._mend()
                self._listen()
                while self._events:
                    self._events.popleft()()
                if not self._visible():
                    return
        except cv2.error:
            if self._visible():  # else the user has closed it meanwhile
                raise
        finally:
            with suppress(cv2.error):  # the user has closed the window
                cv2.destroyAllWindows()
                cv2.waitKey(1)

    def _count(self, passed: int, now: float, seconds: float) -> None:
        """Count a frame as drawn, and the others of the ``passed`` ones as missed."""
        self.drawn += 1
        self.missed += passed - 1
        self._draw_seconds = seconds
        self._drawn_at.append(now)
        while self._drawn_at[0] < now - _FPS:
            self._drawn_at.popleft()

    def _visible(self) -> bool:
        try:
            return bool(cv2.getWindowProperty(self._name, cv2.WND_PROP_VISIBLE) >= 1)
        except cv2.error:  # there is no window left
            return False

    def _draw(self) -> None:
        if self._shown is None:
            return
        natural = self._viewer.natural_size(
            self._shown, (round(_MOST * self._screen[0]), round(_MOST * self._screen[1]))
        )
        if natural != self._asked:
            self._asked, self._asked_at = natural, time.monotonic()
            if not self._full:
                cv2.resizeWindow(self._name, *natural)
        self._size = self._window_size()
        self._drawing, self._stale = True, False
        try:
            with ThreadPoolExecutor(1) as other:
                image = other.submit(
                    self._viewer.draw, self._shown, self._status(), self._player.times, time.monotonic(), self._size
                )
                while not image.done():
                    self._listen()
        finally:
            self._drawing = False
        cv2.imshow(self._name, image.result())

    def _window_size(self) -> tuple[int, int]:
        """(width, height) to draw: the size of the window, or the one asked for until the window has it."""
        if self._full or time.monotonic() - self._asked_at > _OBEYS:
            with suppress(cv2.error):
                _, _, width, height = cv2.getWindowImageRect(self._name)
                if min(width, height) > BAR:
                    return width, height
        return self._asked

    def _mend(self) -> None:
        """Make Qt draw the window by resizing it: its first event is sometimes lost on a busy screen.

        A window that reaches below the edge of the screen is moved up.
        """
        width, height = self._asked
        with suppress(cv2.error):
            left, top, _, _ = cv2.getWindowImageRect(self._name)
            if top + height > self._screen[1]:
                cv2.moveWindow(self._name, left, max(0, (self._screen[1] - height) // 2 - _TITLE))
        cv2.resizeWindow(self._name, width, height + 1)
        self._listen()
        cv2.resizeWindow(self._name, width, height)
        self._asked_at = time.monotonic()

    def _status(self) -> Status:
        """The player's status, with the figures of this window: frames drawn and missed, time, notice."""
        status, now = self._player.status(), time.monotonic()
        return replace(
            status,
            shown_fps=sum(when > now - _FPS for when in self._drawn_at) / _FPS,
            dropped=status.dropped + self.missed,
            display_ms=status.display_ms + 1e3 * self._draw_seconds,
            notice=self._said or status.notice,
        )

    def _on_mouse(self, event: int, x: int, y: int, flags: int, _: Any) -> None:
        self._turned |= event == cv2.EVENT_MOUSEWHEEL
        if self._drawing:  # the viewer is in use and must not change
            self._events.append(partial(self._on_mouse, event, x, y, flags, _))
            return
        if self._shown is None:
            return
        part = None
        if event == cv2.EVENT_MOUSEWHEEL:
            self._viewer.magnify(1 if flags > 0 else -1)  # the upper half is the turn of the wheel
        elif event == cv2.EVENT_LBUTTONDOWN:
            part = self._viewer.press(x, y)
        else:
            part = self._viewer.move(x, y, held=bool(flags & cv2.EVENT_FLAG_LBUTTON))
        if part is not None:
            self._player.seek(part * self._player.status().duration)
        if (
            flags & cv2.EVENT_FLAG_LBUTTON
            or event == cv2.EVENT_MOUSEWHEEL
            or self._viewer.loupe
            or self._viewer.points_at_bar
        ):
            self._stale = True

    def _listen(self) -> None:
        """Poll keys and mouse; OpenCV keeps only one of the keys pressed since the last poll."""
        key = cv2.waitKeyEx(1)
        if self._turned:  # the wheel is for the loupe: undo OpenCV's zoom
            self._turned = False
            if reset := find_reset():
                reset()
        if key >= 0:
            self._events.append(partial(self._press, key))

    def _press(self, key: int) -> None:
        self._said = ""
        status = self._player.status()
        if ord("1") <= key <= ord("9"):
            if key - ord("1") < len(status.models):
                self._player.choose(model=status.models[key - ord("1")])
            else:
                self._said = f"no model {chr(key)}: ? has the keys"
        elif key in self._actions:
            self._actions[key]()
        self._stale = True

    def _rescale(self, by: int) -> None:
        status = self._player.status()
        scales = sorted(status.scales)
        place = scales.index(status.scale) + by if scales else 0
        if 0 <= place < len(scales):
            self._player.choose(scale=scales[place])

    def _next_baseline(self) -> None:
        place = BASELINES.index(self._player.status().baseline) + 1
        self._player.choose(baseline=BASELINES[place % len(BASELINES)])

    def _leave(self) -> None:
        """Close the list of keys, or else leave full screen."""
        if self._viewer.keys:
            self._viewer.keys = False
        elif self._full:
            self._set_full(False)

    def _set_full(self, full: bool) -> None:
        self._full = full
        state = cv2.WINDOW_FULLSCREEN if full else cv2.WINDOW_NORMAL
        cv2.setWindowProperty(self._name, cv2.WND_PROP_FULLSCREEN, state)
        self._asked_at = time.monotonic()

    def _tell_command(self) -> None:
        command = self._player.status().command
        self._said = command or "no vsr-encode command: a camera cannot be encoded"
        _log.info("%s", self._said)

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


def _toggle(thing: object, what: str) -> None:
    setattr(thing, what, not getattr(thing, what))


def save(shown: DisplayedFrame, clip: str, folder: Path) -> list[Path]:
    """Write both versions as PNG, under names that are not taken.

    Args:
        shown: The frame.
        clip: Name of the clip.
        folder: Where to write them.

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
        for path, image in zip(paths, files.values(), strict=True):
            path.with_suffix(".part").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        for path in paths:
            path.with_suffix(".part").replace(path)
    except OSError as error:
        for path in paths:
            with suppress(OSError):
                path.with_suffix(".part").unlink(missing_ok=True)
        raise OutputError(f"Cannot write {' and '.join(map(str, paths))}: {error.strerror}") from error
    return paths
