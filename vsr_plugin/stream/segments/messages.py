"""Messages between a job and its workers."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import DamagedInputError, UsageError, VsrError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .parts import Part
    from .work import Step

_LASTING = (UsageError, WeightsError, DamagedInputError)
_CLOSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class Given:
    """What a worker needs for the network.

    Attributes:
        network: Ray's reference to the arguments of `Upscaler.from_module`, in a list, so that Ray does not resolve it.
        backend: Name of the backend.
        versions: Versions that the worker must have.
    """

    network: list[Any]
    backend: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life of a worker, which changes each time while it works.

    Attributes:
        step: Progress of its current part, if it has begun one.
        packets: Number of packets that it has read.
        slowest: Longest time that it has needed for a frame, in seconds; 0 before the first.
    """

    step: Step | None
    packets: int
    slowest: float


@dataclass(frozen=True, slots=True)
class Made:
    """A part that a worker has made.

    Attributes:
        part: Properties of the part.
        payload: Its packets; None if they are in the shared folder.
        said: (level, line) of the lines that the worker logged.
    """

    part: Part
    payload: bytes | None
    said: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a worker has not made a part.

    Attributes:
        error: The error.
        lasting: Whether the same would fail again.
    """

    error: VsrError
    lasting: bool


def is_lasting(error: VsrError) -> bool:
    """Whether it would fail again: an argument is wrong, or another would help; or a disk is full or not writable."""
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in _CLOSED
    return isinstance(error, _LASTING) or bool(error.use) or full
