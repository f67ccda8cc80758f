"""Keeping stdout for the video: what a backend says goes to stderr.

Both work for all threads of the process, as there is but one stdout, and may be entered by several at once.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_inside = 0
_stdout: IO[str] | Any = None


@contextmanager
def quiet_python() -> Iterator[None]:
    """Send what Python code prints to stderr; the video of vspipe, which goes another way, passes."""
    global _inside, _stdout
    with _lock:
        if _inside == 0:
            _stdout, sys.stdout = sys.stdout, sys.stderr
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                sys.stdout, _stdout = _stdout, None


@contextmanager
def quiet_descriptor() -> Iterator[None]:
    """Send what any code writes to file descriptor 1 to stderr: for while a script is loaded, before there is video."""
    with quiet_python():
        try:
            _flush()
            saved = os.dup(1)
            os.dup2(2, 1)
        except OSError:  # a program without a console has neither
            yield
            return
        try:
            yield
        finally:
            _flush()
            os.dup2(saved, 1)
            os.close(saved)


def _flush() -> None:
    """Write out what C code, and the Python code before us, has buffered for stdout."""
    if _stdout is not None:
        _stdout.flush()
    ctypes.CDLL("ucrtbase" if os.name == "nt" else None).fflush(None)
