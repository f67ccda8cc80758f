"""Draws the loss curve of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..figure import chart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .progress import Progress


def draw_curve(history: Sequence[Progress], title: str, path: Path) -> None:
    """Draw loss (left, logarithmic) and validation PSNR in dB (right) over steps into a PNG file.

    Raises:
        BackendError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    with chart(path, 8, 4.5) as figure:
        losses = figure.add_subplot()
        psnrs = losses.twinx()
        steps = [progress.step for progress in history]
        (loss_line,) = losses.plot(
            steps, [progress.loss for progress in history], color="tab:gray", label="training loss"
        )
        (psnr_line,) = psnrs.plot(
            steps, [progress.psnr for progress in history], color="tab:blue", label="validation PSNR"
        )
        losses.set(title=title, xlabel="step", ylabel="loss", yscale="log")
        psnrs.set_ylabel("dB")
        losses.legend(handles=[loss_line, psnr_line], loc="center right")
