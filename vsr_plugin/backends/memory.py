"""Translates the errors of libraries for all backends; those that mean out of memory become `OutOfMemoryError`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import BackendError, OutOfMemoryError, VsrError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Words of torch's CPU allocator, oneDNN, OpenVINO, TensorRT and the C++ library for a failed allocation.
_NO_ROOM = (
    "bad_alloc",
    "bad alloc",
    "can't allocate",
    "cannot allocate",
    "could not allocate",
    "could not create a memory",
    "could not create a primitive",  # oneDNN, as making a primitive takes memory
    "could not execute a primitive",
    "enomem",
    "failed to allocate",
    "not enough memory",
    "out of memory",
    "outofmemory",
)


def means_no_room(words: str) -> bool:
    """Whether a library's error message means that an allocation failed."""
    return any(word in words.lower() for word in _NO_ROOM)


def forget_frames(error: BaseException) -> None:
    """Release the tensors that are held by the tracebacks of an error and of its causes."""
    behind: BaseException | None = error
    while behind is not None:
        behind.__traceback__ = None
        behind = behind.__cause__ or behind.__context__


def _is_torchs(error: RuntimeError) -> bool:
    if sys.modules.get("torch") is None:
        return False
    import torch

    return isinstance(error, torch.OutOfMemoryError)


@contextmanager
def tolerated() -> Iterator[None]:
    """Suppress what a user's module may raise; but not a lack of memory, which says nothing about a module."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if means_no_room(str(error)):
            raise


@contextmanager
def translated_errors(task: str) -> Iterator[None]:
    """Raise errors inside the block as `OutOfMemoryError` or `BackendError`.

    Args:
        task: The work being done, for the message: ``eager: running espcn``.
    """
    try:
        yield
    except VsrError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"{task}: no room in memory", tile=..., batch=...) from error
    except RuntimeError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if means_no_room(str(error)) or _is_torchs(error):
            raise OutOfMemoryError(f"{task}: no room in memory", tile=..., batch=...) from error
        raise BackendError(f"{task} failed: {lines[-1].strip()}") from error
