"""What goes to and fro between a job and its workers."""

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
        network: Where Ray keeps what `Upscaler.from_module` takes, in a list, so that it is not read before its time.
        backend: Its name.
        versions: That the worker must have.
    """

    network: list[Any]
    backend: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life of a worker: while it works, it is another one each time.

    Attributes:
        step: How far the part is that it makes, if it has begun one.
        packets: How many it has read.
        slowest: The longest that it has needed for a frame, in seconds; 0 before the first.
    """

    step: Step | None
    packets: int
    slowest: float


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


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a worker has not made a part.

    Attributes:
        error: What went wrong.
        lasting: Whether it would go wrong again.
    """

    error: VsrError
    lasting: bool


def is_lasting(error: VsrError) -> bool:
    """Whether the same would fail again: an argument is wrong, or another would help; or a disk is full or closed."""
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in _CLOSED
    return isinstance(error, _LASTING) or bool(error.use) or full
