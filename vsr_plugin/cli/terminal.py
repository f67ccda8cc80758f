"""What the commands print while they work: on stderr, because stdout may be a video."""

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

# Options whose names differ from the library's arguments; ``start`` is an argument of training.
_FLAGS = {"output": "-o", "pixel_format": "--pix-fmt", "start": "--from", "segment_length": "--segment"}

_DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@cache
def console() -> Console:
    """The console on stderr; made when it is first needed, because rich takes a tenth of a second to load."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def speak(*, quiet: bool, verbose: bool, once: bool = False) -> None:
    """Send the package's log to stderr: what was assumed and dropped; with ``verbose``, FFmpeg's own lines, too.

    Args:
        quiet: Errors only.
        verbose: Everything.
        once: Print no line twice, for commands that open a file several times.
    """
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    logger = logging.getLogger("vsr_plugin")
    logger.setLevel(level)
    if not logger.handlers:
        handler = _AboveTheBar()
        if once:
            handler.addFilter(_Once())
        logger.addHandler(handler)
        theirs = logging.getLogger("libav")  # gets FFmpeg's lines from PyAV while another thread captures them
        theirs.propagate = False
        theirs.addHandler(handler if verbose else logging.NullHandler())


def printable(text: str) -> str:
    """``text`` with what a terminal would act on escaped: control characters, direction marks, lone surrogates."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS
        else character
        for character in text
    )


def say_error(error: Exception, of: str = "") -> None:
    """Print an error as one line on stderr, after a traceback if the log is verbose.

    Args:
        error: What happened.
        of: The file it happened to, if there are several; with its folder, which tells files of one name apart.
    """
    if isinstance(error, VsrError):
        line = error.message_for(remedy)
    else:
        line = f"Unexpected {type(error).__name__}: {error} (--verbose shows where; please report it)"
    if logging.getLogger("vsr_plugin").isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    if of not in line:
        name = os.path.basename(of)  # noqa: PTH119 - as it stands in the line
        line = of + line.removeprefix(name) if line.startswith(name) else f"{of}: {line}"
    print(f"Error: {printable(line)}", file=sys.stderr)  # noqa: T201 - output of the command line


def remedy(name: str, value: object) -> str:
    """The advice of the command line for an argument of the library that would help, and its value."""
    if name == "overwrite":
        return "add -y to overwrite it"
    if name == "fresh":
        return "add --fresh to start over"
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
    """Print one line on stdout.

    Raises:
        OutputError: stdout is closed, or takes no more.
    """
    if sys.stdout is None:
        raise OutputError("Cannot write to standard output: it is closed")
    try:
        print(line, flush=True)  # noqa: T201
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # drop the rest of the buffer without an error
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
    """Prints log lines on the console, above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        console().print(printable(self.format(record)), markup=False)
