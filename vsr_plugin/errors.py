"""Every error raised on purpose.

    VsrError
    ├── UsageError (ValueError)          an argument is wrong: nothing was started; exit code 2
    ├── InputError (OSError)             the input cannot be opened, or holds no frame we can enlarge
    │   └── DamagedInputError            part of the input decodes and part does not
    ├── OutputError (OSError)            the output cannot be written, or exists already
    ├── WeightsError (ValueError)        weights are missing, corrupt, or of another architecture
    └── BackendError (RuntimeError)      a backend is missing, or failed to compile or to run
        └── OutOfMemoryError (MemoryError)   the device has no room: the engine halves its tiles and goes on

A message is one line: what was expected, and what was given. The remedy is not in the message but beside it, as
arguments of this library (``use``), and each front end words it: ``overwrite=True`` in Python, ``-y`` on the command
line; the VapourSynth filter has names of its own. Errors of other libraries are translated in the one module that
imports them, with ``from``; the command line catches ``VsrError`` once and prints it.
"""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class VsrError(Exception):
    """The base class of every error that this package raises on purpose.

    Args:
        message: What was expected, and what was given.
        use: Arguments of this library that would help, each by itself: ``overwrite=True``. ``...`` means another value
            than the given one, None that the argument should be left out.

    Attributes:
        message: ″
        use: ″
    """

    def __init__(self, message: str, **use: object) -> None:
        super().__init__(message)
        self.message = message
        self.use = use

    def __str__(self) -> str:
        return self.message_for(_in_python)

    def message_for(self, remedy: Callable[[str, object], str]) -> str:
        """The message and its remedies, as a front end words them.

        Args:
            remedy: Words one argument, given its name and value: ("overwrite", True) → "use overwrite=True".
        """
        remedies = ", or ".join(remedy(name, value) for name, value in self.use.items())
        return f"{self.message}: {remedies}" if remedies else self.message


def _in_python(name: str, value: object) -> str:
    if value is None:
        return f"leave {name} out"
    return f"use another {name}" if isinstance(value, EllipsisType) else f"use {name}={value!r}"


class UsageError(VsrError, ValueError):
    """An argument is out of its range, unknown, or contradicts another."""


class InputError(VsrError, OSError):
    """The input cannot be opened, or holds no frame that can be enlarged."""


class DamagedInputError(InputError):
    """Part of the input does not decode."""


class OutputError(VsrError, OSError):
    """The output cannot be written, or exists and may not be overwritten."""


class WeightsError(VsrError, ValueError):
    """Weights are missing, corrupt, or belong to another architecture."""


class BackendError(VsrError, RuntimeError):
    """A backend is not installed, or failed to compile or to run a network."""


class OutOfMemoryError(BackendError, MemoryError):
    """The device has no room for this shape: try a smaller tile or batch."""
