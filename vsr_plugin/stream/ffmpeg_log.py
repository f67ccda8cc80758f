"""`captured`: what FFmpeg says while something is tried, one thread at a time: its log level is the process's."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import av.logging

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.RLock()


@contextmanager
def captured(level: int = av.logging.WARNING) -> Iterator[list[tuple[int, str, str]]]:
    """The lines of this thread, as (level, name, text), up to a level; they are not shown."""
    with _lock:
        before, repeated = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(level)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture() as lines:
                yield lines
        finally:
            av.logging.set_level(before)
            av.logging.set_skip_repeated(repeated)
