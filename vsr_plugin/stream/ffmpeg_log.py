"""Reads FFmpeg's log. Its level applies to the whole process, and PyAV turns it off."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import av.logging

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Line = tuple[int, str, str]  # level, name, text

# FFmpeg logs these for healthy streams, too. For cut or joined ones: a frame refers to one that is not there; if it was
# lost, its missing packet is noticed. For NUT without an index: seeking finds nothing. For files of cameras: there is
# data next to the frame that FFmpeg cannot read.
_HEALTHY = (
    "app: invalid len",
    "co located POCs unavailable",
    "Could not find ref with POC",
    "Error constructing the frame RPS",
    "Missing reference picture",
    "Overread VUI",
    "SEI type",
    "mmco: unref short failure",
    "number of reference frames",
    "read_timestamp failed",
    "reference picture missing",
    "unable to decode APP fields",
)

_lock = threading.RLock()
_delivering = threading.Lock()
_listeners: list[Errors] = []
_listening = ExitStack()  # undone when the last of them is closed
_lines: list[Line] = []  # from all threads that do not capture their own, while there are listeners


@contextmanager
def captured(level: int = av.logging.WARNING) -> Iterator[list[Line]]:
    """Capture this thread's lines up to a level, as (level, name, text), without showing them; one thread at a time."""
    with _lock, _logged(level), av.logging.Capture() as lines:
        yield lines


class Errors:
    """Collects the errors that FFmpeg logs in any thread while a file is read, until closed.

    FFmpeg decodes in its own threads, and names only the decoder or demuxer in each line: if two files of the same kind
    are read at once, each gets the errors of both.

    Args:
        names: Names of the decoder and the demuxer.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._texts: list[str] = []
        with _lock:
            if not _listeners:
                _listening.enter_context(_logged(max(av.logging.ERROR, av.logging.get_level() or 0)))
                _listening.enter_context(_all_lines())
            with _delivering:
                _deliver()  # earlier lines do not belong to it
                _listeners.append(self)

    def take(self) -> str:
        """The first line that was logged since the last call; empty if there was none."""
        with _delivering:
            _deliver()
            taken, self._texts = self._texts, []
        return " ".join(taken[0].split()) if taken else ""

    def close(self) -> None:
        """Stop collecting; may be called again."""
        with _lock:
            if self in _listeners:
                _listeners.remove(self)
                if not _listeners:
                    _listening.close()


def _deliver() -> None:
    """Pass the lines since the last call to the listeners; under `_delivering`, or a line could be between the two."""
    while _lines:
        level, name, text = _lines.pop(0)
        if level <= av.logging.ERROR and text.strip() and not text.startswith(_HEALTHY):
            for listener in tuple(_listeners):
                if name in listener._names:
                    listener._texts.append(text)


@contextmanager
def _logged(level: int) -> Iterator[None]:
    before, repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(level)
    av.logging.set_skip_repeated(False)
    try:
        yield
    finally:
        av.logging.set_level(before)
        av.logging.set_skip_repeated(repeated)


@contextmanager
def _all_lines() -> Iterator[None]:
    global _lines
    with av.logging.Capture(local=False) as _lines:
        yield
