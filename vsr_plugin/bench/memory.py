"""How much memory this process and the workers below it have held at most, as Linux counts it."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

_EVERY = 0.5  # seconds between two looks at the workers
_PROCESSES = Path("/proc")


class Peaks:
    """The most memory since it was made.

    Attributes:
        of_worker: Bytes that the largest of Ray's workers has held when they were looked at; 0 without any.
    """

    def __init__(self) -> None:
        self.of_worker = 0
        self._due = 0.0
        with suppress(OSError):
            (_PROCESSES / "self/clear_refs").write_text("5")  # proc_pid_clear_refs(5): forget the peak

    def look(self, *_: object) -> None:
        """Look at the workers, which end with their job; called often, it does so only now and then."""
        if time.monotonic() >= self._due:
            self.of_worker = max(self.of_worker, *map(_held, _workers()), 0)
            self._due = time.monotonic() + _EVERY

    @property
    def of_this(self) -> int | None:
        """Bytes that this process has held; None where the system does not say."""
        return _held("self") or None


def _held(process: int | str) -> int:
    """The peak of a process in bytes; 0 where it is not known."""
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
