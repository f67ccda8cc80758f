"""`Worker`: what makes parts in a process of Ray."""

from __future__ import annotations

import logging
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import ray
import torch

from ...engine import Upscaler
from ...errors import BackendError, InputError
from .manifest import read_manifest, versions
from .original import identity
from .parts import OpenPart, PartFile
from .work import Step, work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from . import Film, Segment
    from .parts import Part


@dataclass(frozen=True, slots=True)
class Given:
    """What a worker needs for the network.

    Attributes:
        network: Where Ray keeps what `Upscaler.from_module` takes, in a list, so that it is not read before its time.
        backend: Its name.
        versions: That the worker must have.
    """

    network: list[Any]
    backend: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Made:
    """What a worker sends.

    Attributes:
        part: What is known of the part.
        payload: Its packets; None where they are in the folder that all share.
        said: (level, line) of what was logged.
    """

    part: Part
    payload: bytes | None
    said: list[tuple[int, str]] = field(default_factory=list)


class Worker:
    """Holds the network, and makes one part after the other."""

    def __init__(self) -> None:
        self._upscaler: Upscaler | None = None
        self._step: Step | None = None
        self._checked: tuple[str, Path, dict[str, Any]] | None = None

    def ready(self, given: Given) -> None:
        """Load the network.

        Args:
            given: What it needs.

        Raises:
            BackendError: other versions than where the job was started.
            VsrError: the network cannot run here.
        """
        self._open(given)

    @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator] # in a thread of its own
    def step(self) -> Step | None:
        """How far the part is that is made now."""
        return self._step

    def make(self, given: Given, film: list[Any], segment: Segment, folder: Path | None) -> Made:
        """Make a part.

        Args:
            given: What it needs, if it has lost it.
            film: Where Ray keeps what it is of.
            segment: Which.
            folder: Where it goes; None to send it.
        """
        upscaler = self._open(given)
        of: Film = ray.get(film[0])
        packets = BytesIO()
        with _logged() as said:
            if folder is None:
                open_part: Callable[[int], OpenPart] = partial(OpenPart, file=packets)
            else:
                self._check(of.path, folder)
                open_part = partial(PartFile, folder)
            (part,) = work(of, [segment], upscaler, open_part, self._note)
        return Made(part, packets.getvalue() if folder is None else None, said)

    def _note(self, step: Step) -> None:
        self._step = step

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
    """What the package logs meanwhile: it is said where the job was started."""
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
