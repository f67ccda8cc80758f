"""Keep working when standard error is closed or full."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stderr, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def lossy_stderr() -> Iterator[None]:
    """Within this context, text that cannot be written to standard error is dropped."""
    if sys.stderr is None:
        yield
        return
    with redirect_stderr(cast("TextIO", _Lossy(sys.stderr))):
        yield


class _Lossy:
    """A text file whose writes and flushes never fail."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with self._lossy():
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with self._lossy():
            self._file.flush()

    @contextmanager
    def _lossy(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):  # Python flushes the rest when it exits, and that would fail
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
