"""Keep stdout for the video: the output of backends goes to stderr.

Any number of threads may use these contexts at once, in any order.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_here = threading.local()  # `depth`: how many of the contexts this thread is in
_inside = 0  # threads that keep quiet
_loading = 0  # those for which the descriptor is redirected, too
_saved: int | None = None  # where descriptor 1 went before


class _Stdout:
    """Replaces stdout: stderr for threads that keep quiet, and the real stdout for others.

    `contextlib.redirect_stdout` in another thread may restore it when no thread keeps quiet; it is then harmless.
    """

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if getattr(_here, "depth", 0) else self._real, name)


@contextmanager
def quiet_python() -> Iterator[None]:
    """Send the output of Python code in this thread to stderr; that of other threads is left alone."""
    global _inside
    with _lock:
        _inside += 1
        if sys.stdout is not None and sys.stderr is not None and not isinstance(sys.stdout, _Stdout):
            sys.stdout = _Stdout(sys.stdout)
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1
        with _lock:
            _inside -= 1
            if _inside == 0 and isinstance(sys.stdout, _Stdout):
                sys.stdout = sys.stdout._real


@contextmanager
def quiet_descriptor() -> Iterator[None]:
    """Send all output of the process to file descriptor 1 to stderr.

    Used while a script is loaded, before there is video; the last thread to leave restores the descriptor.
    """
    global _loading, _saved
    with quiet_python():
        with _lock:
            if _loading == 0:
                _flush()
                _saved = _turned()
            _loading += 1
        try:
            yield
        finally:
            with _lock:
                _loading -= 1
                if _loading == 0 and _saved is not None:
                    _flush()
                    os.dup2(_saved, 1)
                    os.close(_saved)
                    _saved = None


def _turned() -> int | None:
    """Redirect descriptor 1 to stderr; return a duplicate of the old one, or None if either descriptor is closed."""
    try:
        saved = os.dup(1)
    except OSError:
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(saved)
        return None
    return saved


def _flush() -> None:
    """Write out what C code, and the Python code of other threads, has buffered for stdout."""
    stdout = sys.stdout._real if isinstance(sys.stdout, _Stdout) else sys.stdout
    if stdout is not None:
        with suppress(ValueError):  # closed
            stdout.flush()
    ctypes.CDLL("ucrtbase" if os.name == "nt" else None).fflush(None)
