"""How a command is stopped: by Ctrl-C, SIGTERM or SIGHUP everything is put away, and one line says so."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from ..interruption import interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

_outcome: Callable[[], str] = str


def listen() -> None:
    """Let SIGINT, SIGTERM and SIGHUP stop the command, unless they are ignored, as under nohup."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def tell_if_stopped(outcome: Callable[[], str]) -> None:
    """Set what is said of the work if the command is stopped from now on; it is called then."""
    global _outcome
    _outcome = outcome


def say_stopped() -> None:
    """One line on stderr."""
    outcome = _outcome()
    print(f"Stopped{outcome and ': '}{outcome}", file=sys.stderr)  # noqa: T201 - the command line's own voice
