"""Figures of matplotlib; no other module imports it."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .errors import BackendError, OutputError
from .installation import install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.backends.backend_agg import FigureCanvasAgg


_FORMATS = (".jpeg", ".jpg", ".pdf", ".png", ".svg", ".webp")  # of those that matplotlib writes


def check_chart(path: Path) -> None:
    """Check that a chart can be written to a path, before anything is measured for it.

    Raises:
        BackendError: matplotlib is not installed.
        OutputError: there is no such folder, or the suffix is unknown.
    """
    if find_spec("matplotlib") is None:
        raise _missing()
    if path.suffix.lower() not in _FORMATS:
        raise OutputError(f"Expected a chart named {', '.join(_FORMATS)}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise OutputError(f"No such folder: {path.parent}")


def _missing() -> BackendError:
    return BackendError(f"Charts and labels need matplotlib: {install('bench')}")


def blank(width: float, height: float) -> FigureCanvasAgg:
    """The canvas of a new, empty figure; its size is in inches.

    Raises:
        BackendError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _missing() from error
    return FigureCanvasAgg(Figure(figsize=(width, height)))


@contextmanager
def chart(path: Path, width: float, height: float) -> Iterator[Any]:
    """A matplotlib figure that is written to a file when the block ends, in the format of the file's suffix.

    Raises:
        BackendError: matplotlib is not installed.
        OutputError: the file cannot be written, or its suffix is unknown.
    """
    figure = blank(width, height).figure
    figure.set_layout_engine("constrained")
    yield figure
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise OutputError(f"Cannot write the chart to {path}: {error}") from error
