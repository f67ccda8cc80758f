"""The command line: ``vsr …``, and ``vsr-encode`` and ``vsr-preview`` as names of their own. One file per command.

Commands print their results to stdout and everything else to stderr, and import torch only when work starts. `program`
alone turns a `VsrError` into a line and an exit code: 2 for usage, 1 for failure. Ctrl-C exits with 130, also while
the modules below this one are imported.
"""

from __future__ import annotations

import os
import threading

from .lossy_stderr import lossy_stderr
from .stop import end_beside, end_if_stopped, leave, listen


def main() -> None:
    """Entry point of ``vsr``."""
    _run("vsr")


def main_encode() -> None:
    """Entry point of ``vsr-encode``."""
    _run("vsr-encode")


def main_preview() -> None:
    """Entry point of ``vsr-preview``."""
    _run("vsr-preview")


def _run(name: str) -> None:
    listen()
    threads = set(threading.enumerate())
    # OpenMP reads this when torch is loaded. By default, its threads spin while they wait for each other; where other
    # programs want the processors, a training step then takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with lossy_stderr():
        try:
            from .program import run

            if (code := run(name)) != 130:
                end_if_stopped(code)
        except KeyboardInterrupt:  # before the parser runs; the parser catches later ones
            code = 130
        if code == 130:
            leave()
    end_beside(threads, code)
    raise SystemExit(code)
