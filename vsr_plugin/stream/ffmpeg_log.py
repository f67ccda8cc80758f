"""What FFmpeg logs: its log level is the process's, and PyAV has it off."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import av.logging

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Line = tuple[int, str, str]  # level, name, text

# Said of healthy streams, too. Of those that were cut or joined: a frame refers to one that is not there; where one was
# lost, its own packet is missed. Of NUT without an index: seeking finds nothing. Of cameras' files: there is something
# beside the frame that FFmpeg cannot read.
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
_listeners: list[Errors] = []
_listening = ExitStack()  # what is to be undone after the last of them
_lines: list[Line] = []  # of all threads that capture none of their own, while anyone listens


@contextmanager
def captured(level: int = av.logging.WARNING) -> Iterator[list[Line]]:
    """The lines of this thread, as (level, name, text), up to a level; they are not shown. One thread at a time."""
    with _lock, _logged(level), av.logging.Capture() as lines:
        yield lines


class Errors:
    """Errors that FFmpeg logs while a file is read, from any thread, until closed.

    It decodes in threads of its own, and tells of each line only the name of the decoder or demuxer: of two files of
    one kind that are read at once, each is told the errors of both.

    Args:
        names: Those of the decoder and the demuxer.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._texts: list[str] = []
        with _lock:
            if not _listeners:
                _listening.enter_context(_logged(max(av.logging.ERROR, av.logging.get_level() or 0)))
                _listening.enter_context(_all_lines())
            _deliver()  # what was logged before is not its own
            _listeners.append(self)

    def take(self) -> str:
        """The first line that was logged since; empty if none was."""
        _deliver()
        taken, self._texts = self._texts, []
        return " ".join(taken[0].split()) if taken else ""

    def close(self) -> None:
        """Listen no more; harmless when called again."""
        with _lock:
            if self in _listeners:
                _listeners.remove(self)
                if not _listeners:
                    _listening.close()


def _deliver() -> None:
    """Give those who listen the lines since the last time."""
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
