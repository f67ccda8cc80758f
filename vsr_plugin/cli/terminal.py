"""What the commands say while they work: all of it on stderr, for stdout may be a video."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import unicodedata
from functools import cache
from types import EllipsisType
from typing import TYPE_CHECKING

from ..errors import OutputError, VsrError

if TYPE_CHECKING:
    from rich.console import Console

# What the library calls otherwise; ``start`` is that of a training.
_FLAGS = {"output": "-o", "pixel_format": "--pix-fmt", "start": "--from", "segment_length": "--segment"}

_DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@cache
def console() -> Console:
    """The one console on stderr; made when there is something to say, for rich takes a tenth of a second to load."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def speak(*, quiet: bool, verbose: bool, once: bool = False) -> None:
    """Send the package's log to stderr: what was assumed and dropped. FFmpeg's own lines are among ``verbose`` ones.

    Args:
        quiet: Errors only.
        verbose: Everything.
        once: Nothing twice, where a file is opened again and again.
    """
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    logger = logging.getLogger("vsr_plugin")
    logger.setLevel(level)
    if not logger.handlers:
        handler = _AboveTheBar()
        if once:
            handler.addFilter(_Once())
        logger.addHandler(handler)
        theirs = logging.getLogger("libav")  # where PyAV sends what FFmpeg says while another thread listens to it
        theirs.propagate = False
        theirs.addHandler(handler if verbose else logging.NullHandler())


def printable(text: str) -> str:
    """``text`` with what a terminal would obey written out: control characters, marks of direction, half characters."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS
        else character
        for character in text
    )


def say_error(error: Exception, of: str = "") -> None:
    """One line on stderr, and a traceback if everything is to be said.

    Args:
        error: What happened.
        of: The file that it happened to, of several; with its folder, which tells files of one name apart.
    """
    if isinstance(error, VsrError):
        line = error.message_for(remedy)
    else:
        line = f"Unexpected {type(error).__name__}: {error} (--verbose shows where; please report it)"
    if logging.getLogger("vsr_plugin").isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    if of not in line:
        name = os.path.basename(of)  # noqa: PTH119 - as the line has it, whose rest is kept
        line = of + line.removeprefix(name) if line.startswith(name) else f"{of}: {line}"
    print(f"Error: {printable(line)}", file=sys.stderr)  # noqa: T201 - the command line's own voice


def remedy(name: str, value: object) -> str:
    """What the command line calls an argument of the library that would help."""
    if name == "overwrite":
        return "add -y to overwrite it"
    if name == "weights":
        return f"use your own with --weights {value}, or make some with `vsr train`"
    if name == "quantize":
        return f"make some with `vsr models quantize {value}`"
    flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
    if value is None:
        return f"leave {flag} out"
    if isinstance(value, EllipsisType):
        return f"use another {flag}"
    return f"use {flag}" if value is True else f"use {flag} {value}"


def say_result(line: str) -> None:
    """One line on stdout.

    Raises:
        OutputError: stdout is closed, or takes no more.
    """
    if sys.stdout is None:
        raise OutputError("Cannot write to standard output: it is closed")
    try:
        print(line, flush=True)  # noqa: T201
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer is lost in silence
        raise OutputError(f"Cannot write to standard output: {error.strerror}") from error


class _Once(logging.Filter):
    """Passes every line once."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        new = line not in self._passed
        self._passed.add(line)
        return new


class _AboveTheBar(logging.Handler):
    """Log lines on the console, which keeps a progress bar below them."""

    def emit(self, record: logging.LogRecord) -> None:
        console().print(printable(self.format(record)), markup=False)
