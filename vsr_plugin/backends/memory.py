"""Which exceptions of other libraries mean that there is no room, said once for every backend."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ..errors import BackendError, OutOfMemoryError, VsrError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What torch's CPU allocator, oneDNN, OpenVINO, TensorRT and the C++ library say when an allocation fails.
_NO_ROOM = (
    "bad_alloc",
    "bad alloc",
    "can't allocate",
    "cannot allocate",
    "could not allocate",
    "could not create a memory",
    "could not create a primitive",  # oneDNN, whose next primitive is made of memory too
    "could not execute a primitive",
    "enomem",
    "failed to allocate",
    "not enough memory",
    "out of memory",
    "outofmemory",
)


def means_no_room(words: str) -> bool:
    """Whether a library's words for what went wrong are those for an allocation that failed."""
    return any(word in words.lower() for word in _NO_ROOM)


def forget_frames(error: BaseException) -> None:
    """Let go of the tensors that the tracebacks of an error, and of those behind it, hold."""
    behind: BaseException | None = error
    while behind is not None:
        behind.__traceback__ = None
        behind = behind.__cause__ or behind.__context__


@contextmanager
def translated_errors(task: str) -> Iterator[None]:
    """Raise whatever goes wrong inside as `OutOfMemoryError` or `BackendError`.

    Args:
        task: What is being done, for the message: ``eager: running espcn``.
    """
    try:
        yield
    except VsrError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError(f"{task}: no room in memory", tile=..., batch=...) from error
    except RuntimeError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if means_no_room(str(error)):
            raise OutOfMemoryError(f"{task}: no room in memory", tile=..., batch=...) from error
        raise BackendError(f"{task} failed: {lines[-1].strip()}") from error
