"""The peak memory of this process and of Ray's workers, as Linux counts it."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

_EVERY = 0.5  # seconds between polls of the workers
_PROCESSES = Path("/proc")


class Peaks:
    """Peak memory since this object was made.

    Attributes:
        of_worker: Peak bytes of the largest of Ray's workers, at the last poll; 0 without workers.
    """

    def __init__(self) -> None:
        self.of_worker = 0
        self._due = 0.0
        with suppress(OSError):
            (_PROCESSES / "self/clear_refs").write_text("5")  # proc_pid_clear_refs(5): forget the peak

    def look(self) -> None:
        """Poll the workers, which end with their job; however often it is called, at most twice a second."""
        if time.monotonic() >= self._due:
            self.of_worker = max(self.of_worker, *map(_held, _workers()), 0)
            self._due = time.monotonic() + _EVERY

    @property
    def of_this(self) -> int | None:
        """Peak bytes of this process; None if the system does not report them."""
        return _held("self") or None


def _held(process: int | str) -> int:
    """The peak of a process in bytes; 0 if unknown."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", (_PROCESSES / str(process) / "status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def _workers() -> list[int]:
    """Ray's workers on this machine that run our code, whoever has started them."""
    found = []
    for folder in _PROCESSES.glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(folder.name))
    return found
