"""`Worker`: makes parts in a process of Ray."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import ray

from ...engine import Upscaler
from ...errors import BackendError, InputError, VsrError
from .manifest import read_manifest, versions
from .messages import Failed, Made, Sign, is_lasting
from .original import identity
from .parts import OpenPart, PartFile
from .ship import inbox
from .work import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from . import Film, Segment
    from .messages import Given
    from .work import Step


class Worker:
    """Keeps the network, and makes one part after the other."""

    def __init__(self) -> None:
        self._upscaler: Upscaler | None = None
        self._step: Step | None = None
        self._stepped = 0.0  # time of the last step, on the clock of `time.monotonic`
        self._slowest = 0.0
        self._packets = 0
        self._checked: tuple[str, Path, dict[str, Any]] | None = None

    def ready(self, given: Given) -> None:
        """Load the network.

        Args:
            given: What it needs.

        Raises:
            BackendError: the versions differ from those where the job was started.
            VsrError: the network cannot run here.
        """
        self._open(given)

    @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator] # in its own thread
    def sign(self) -> Sign:
        """Return a sign of life with the progress."""
        return Sign(self._step, self._packets, self._slowest)

    @ray.method(concurrency_group="wanted")  # type: ignore[untyped-decorator] # ″
    def wanted(self) -> tuple[str, range]:
        """See `Inbox.wanted`."""
        return inbox.wanted()

    @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator] # ″
    def give(self, token: str, wanted: range, data: bytes, size: int) -> None:
        """See `Inbox.give`."""
        inbox.give(token, wanted, data, size)

    def make(self, given: Given, film: list[Any], segment: Segment, folder: Path | None) -> Made | Failed:
        """Make a part.

        Args:
            given: What the worker needs for the network, if it was restarted.
            film: Ray's reference to the film, in a list.
            segment: The segment.
            folder: The folder for the part; None to send the part.
        """
        try:
            upscaler = self._open(given)
            of: Film = ray.get(film[0])
            packets = BytesIO()
            self._stepped = time.monotonic()
            with _logged() as said:
                if folder is None:
                    open_part: Callable[[int], OpenPart] = partial(OpenPart, file=packets)
                else:
                    self._check(of.path, folder)
                    open_part = partial(PartFile, folder)
                (part,) = work(of, [segment], upscaler, open_part, self._note, self._count)
        except VsrError as error:
            return Failed(error, is_lasting(error))
        return Made(part, packets.getvalue() if folder is None else None, said)

    def _note(self, step: Step) -> None:
        now = time.monotonic()
        self._slowest = max(self._slowest, now - self._stepped)
        self._step, self._stepped = step, now

    def _count(self) -> bool:
        """Count a packet; called before each one as ``cancelled``."""
        self._packets += 1
        return False

    def _open(self, given: Given) -> Upscaler:
        if self._upscaler is None:
            here = versions(given.backend)
            for name, version in given.versions.items():
                if here.get(name) != version:
                    raise BackendError(
                        f"Expected {name} {version} on every worker, as where the job was started, got "
                        f"{here.get(name, 'none')} on {socket.gethostname()}"
                    )
            module, spec, scale, execution = ray.get(given.network[0])
            if execution.threads is not None:
                import torch

                torch.set_num_threads(execution.threads)
            self._upscaler = Upscaler.from_module(module, spec, scale, execution)
        return self._upscaler

    def _check(self, path: str, folder: Path) -> None:
        """Raise InputError unless this machine sees the same input and the same folder."""
        there = read_manifest(folder)
        if not there:
            raise InputError(
                f"Expected to see {folder} on {socket.gethostname()}: workers read and write the same paths", ship=True
            )
        if self._checked == (path, folder, there["input"]):
            return
        try:
            same = identity(path) == there["input"]
        except InputError:
            same = False
        if not same:
            raise InputError(f"Expected {path} on {socket.gethostname()} to be the same file", ship=True)
        self._checked = path, folder, there["input"]


@contextmanager
def _logged() -> Iterator[list[tuple[int, str]]]:
    """Collect what the package logs meanwhile, to log it where the job was started."""
    said: list[tuple[int, str]] = []
    logger = logging.getLogger("vsr_plugin")
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: said.append((record.levelno, record.getMessage()))  # type: ignore[method-assign]
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
