"""A chart of a report: the frames per second of each way to do the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..figure import chart
from . import Timing

if TYPE_CHECKING:
    from pathlib import Path

    from .report import Report

_OURS, _THEIRS = "#2f6fb0", "#a8a8a8"


def draw(report: Report, path: Path) -> None:
    """Write a bar chart in the format of the file name's suffix.

    Raises:
        BackendError: matplotlib is not installed.
        OutputError: the file cannot be written, or its suffix is unknown.
    """
    timings = [*report.own, *(other for other in report.others if isinstance(other, Timing))]
    with chart(path, 9, 1.2 + 0.42 * len(timings)) as figure:
        axes = figure.subplots()
        colors = [_OURS if timing in report.own else _THEIRS for timing in timings]
        errors = [[timing.fps - 1 / max(timing.seconds), 1 / min(timing.seconds) - timing.fps] for timing in timings]
        bars = axes.barh(
            [timing.name for timing in timings],
            [timing.fps for timing in timings],
            xerr=[list(side) for side in zip(*errors, strict=True)],
            color=colors,
            error_kw={"ecolor": "#404040", "lw": 1},
        )
        axes.bar_label(bars, [f"{timing.fps:.3g}" for timing in timings], padding=6)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.set_xlabel("frames per second (logarithmic); bars: median, lines: fastest and slowest run")
        settings = report.settings
        job = f"{settings.model} ×{settings.scale} at {settings.width}×{settings.height}"
        axes.set_title(f"{job}\n{report.processor}: {report.upscaler}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
