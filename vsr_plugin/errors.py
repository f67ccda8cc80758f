"""Every error raised on purpose.

    VsrError
    ├── UsageError (ValueError)          an argument is wrong: nothing was started; exit code 2
    ├── InputError (OSError)             the input cannot be opened, or holds no picture we can enlarge
    │   └── DamagedInputError            part of the input decodes and part does not
    ├── OutputError (OSError)            the output cannot be written, or exists already
    ├── WeightsError (ValueError)        weights are missing, corrupt, or of another architecture
    └── BackendError (RuntimeError)      a backend is missing, or failed to compile or to run
        └── OutOfMemoryError (MemoryError)   the device has no room: the engine halves its tiles and goes on

A message is one line: what was expected, what came, what to do. Errors of other libraries are translated at the one
module that imports them, with ``from``; the command line catches ``VsrError`` once and prints it.
"""


class VsrError(Exception):
    """The root: catching it catches every error this package raises on purpose."""


class UsageError(VsrError, ValueError):
    """An argument is out of its range, unknown, or contradicts another."""


class InputError(VsrError, OSError):
    """The input cannot be opened, or holds no picture that can be enlarged."""


class DamagedInputError(InputError):
    """Part of the input does not decode."""


class OutputError(VsrError, OSError):
    """The output cannot be written, or would overwrite a file unasked."""


class WeightsError(VsrError, ValueError):
    """Weights are missing, corrupt, or belong to another architecture."""


class BackendError(VsrError, RuntimeError):
    """A backend is not installed, or failed to compile or to run a network."""


class OutOfMemoryError(BackendError, MemoryError):
    """The device has no room for this shape: try a smaller tile or batch."""
