"""Stop a command on Ctrl-C, SIGTERM or SIGHUP: unfinished files are removed, and one line says so."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from .. import interruption

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def _nothing() -> str:
    return "nothing was written"


_outcome: Callable[[], str] = _nothing
_clear: Callable[[], object] = str


def listen() -> None:
    """Let SIGINT, SIGTERM and SIGHUP stop the command, unless they are ignored, as under nohup."""
    interruption.leave = leave
    _handle(interruption.interrupt)


def end_if_stopped(code: int) -> None:
    """Let the same signals end the process at once with ``code``, since its work is done."""

    def end(*_: object) -> None:
        _flush()
        os._exit(code)

    _handle(end)


def _handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def tell_if_stopped(outcome: Callable[[], str]) -> None:
    """Set the text to print if the command is stopped from now on, instead of ``nothing was written``."""
    global _outcome
    _outcome = outcome


def clear_if_stopped(clear: Callable[[], object]) -> None:
    """Set the function that removes a spinner from the terminal if the command is stopped from now on."""
    global _clear
    _clear = clear


def leave() -> None:
    """Remove unfinished files, say that the command was stopped, and end the process.

    A second signal is ignored meanwhile. Torch and OpenVINO are not shut down: it would take longer than Ctrl-C may.
    """
    _handle(signal.SIG_IGN)
    if output := sys.modules.get("vsr_plugin.stream.output"):
        output.remove_own()
    with suppress(OSError, AttributeError):
        _clear()
        outcome = _outcome()
        print(f"Stopped{outcome and ': '}{outcome}", file=sys.stderr)  # noqa: T201 - output of the command line
    _flush()
    os._exit(130)


def end_beside(others: set[threading.Thread], code: int) -> None:
    """End the process at once if a thread still runs that is not one of ``others``, such as a preview's slow network.

    A network that still computes while Python ends crashes the process.
    """
    if any(thread.name.startswith("vsr ") for thread in set(threading.enumerate()) - others):
        _flush()
        os._exit(code)


def _flush() -> None:
    with suppress(OSError, AttributeError):  # a stream may be closed, or None
        sys.stdout.flush()
        sys.stderr.flush()
