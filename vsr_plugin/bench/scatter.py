"""A chart of a survey: the PSNR of each model against its speed, a panel for each scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..figure import chart
from .survey import HEIGHT, WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from .survey import Row, Survey

_MODEL, _ORIGIN, _TEXT = "#2f6fb0", "#a8a8a8", "#303030"
_APART = 0.055  # part of a panel's height between one label and the next


def draw(survey: Survey, path: Path) -> None:
    """Write the chart in the format of the file name's suffix.

    Raises:
        BackendError: matplotlib is not installed.
        OutputError: the file cannot be written, or its suffix is unknown.
    """
    scales = survey.scales
    columns = len(scales) if len(scales) <= 3 else 2
    lines = -(-len(scales) // columns)
    with chart(path, 5.2 * columns, 0.6 + 4.4 * lines) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).flatten()
        for scale, axes in zip(scales, panels, strict=False):
            _panel(axes, scale, [row for row in survey.rows if row.scale == scale])
        for axes in panels[len(scales) :]:
            axes.set_visible(False)
        figure.suptitle(f"PSNR on {survey.benchmark} against speed, {survey.processor}", fontsize=11)
        figure.supxlabel(f"frames of {WIDTH}×{HEIGHT} per second (logarithmic)", fontsize=10)
        figure.supylabel("PSNR of luma, dB", fontsize=10)


def _panel(axes: Any, scale: int, rows: Sequence[Row]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_title(f"×{scale}", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", lw=0.6)
    for row in rows:
        origin = row.model == "bicubic"
        axes.plot(row.fps, row.psnr, "s" if origin else "o", color=_ORIGIN if origin else _MODEL, ms=7, zorder=3)
        if origin:
            axes.axhline(row.psnr, color=_ORIGIN, lw=0.8, ls="--", zorder=1)
    axes.margins(x=0.28, y=0.12)
    low, high = axes.get_ylim()
    taken: list[float] = []
    for row in sorted(rows, key=lambda row: row.psnr):  # from below, each no nearer to the last than a line of text
        above = _APART / 2 * (high - low) if row.model == "bicubic" else 0.0  # and not on the line
        place = max([row.psnr + above, *(y + _APART * (high - low) for y in taken[-1:])])
        taken.append(place)
        axes.annotate(
            row.model,
            (row.fps, row.psnr),
            (9, (place - row.psnr) / (high - low) * 270),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=_TEXT,
        )
