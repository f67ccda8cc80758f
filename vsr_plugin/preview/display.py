"""Properties of the screen that OpenCV lacks: its size, and for X11 whether a window can be opened on it."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from contextlib import suppress

_USUAL = (1920, 1080)
_PATIENCE = 5.0  # seconds for an X server elsewhere to answer


def screen_size() -> tuple[int, int]:
    """(width, height) in pixels of the main screen, or with X11 of all together; a usual size if it is unknown."""
    with suppress(OSError, AttributeError):
        if sys.platform == "win32":
            user = ctypes.windll.user32
            return user.GetSystemMetrics(0), user.GetSystemMetrics(1)
        if sys.platform == "darwin":
            graphics = ctypes.CDLL("/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics")
            screen = graphics.CGMainDisplayID()
            return graphics.CGDisplayPixelsWide(screen), graphics.CGDisplayPixelsHigh(screen)
        x11 = _x11()
        if display := ctypes.c_void_p(x11.XOpenDisplay(None)):
            size = x11.XDisplayWidth(display, 0), x11.XDisplayHeight(display, 0)
            x11.XCloseDisplay(display)
            return size
    return _USUAL


def answers(display: str) -> bool:
    """Whether an X server answers.

    Args:
        display: ``:0``, ``host:10.0``.
    """
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    if host in ("", "unix"):
        for address in (f"/tmp/.X11-unix/X{number}", f"\0/tmp/.X11-unix/X{number}"):  # noqa: S108 - where X listens
            with socket.socket(socket.AF_UNIX) as unix, suppress(OSError):
                unix.connect(address)
                return True
        return False
    with suppress(OSError), socket.create_connection((host, 6000 + int(number)), _PATIENCE):
        return True
    return False


def lets_in() -> bool:
    """Whether the X server accepts a connection with our cookie; True if that cannot be tried."""
    try:
        stderr = os.dup(2)
    except OSError:  # there is no stderr to silence
        return True
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)  # the library would print the error that we report
    try:
        x11 = _x11()
        display = x11.XOpenDisplay(None)
        if display:
            x11.XCloseDisplay(ctypes.c_void_p(display))
    except (OSError, AttributeError):
        return True
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(silent)
    return bool(display)


def _x11() -> ctypes.CDLL:
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    return x11
