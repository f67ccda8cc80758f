"""A chart of a study of compressed video: the PSNR of each way to enlarge above bicubic's, and its flicker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..figure import chart
from .compressed import SIGN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from .compressed import Row, Study


def draw(study: Study, path: Path) -> None:
    """Write the chart in the format of the file name's suffix.

    Raises:
        BackendError: matplotlib is not installed.
        OutputError: the file cannot be written, or its suffix is unknown.
    """
    with chart(path, 10.4, 4.6) as figure:
        left, right = figure.subplots(1, 2)
        bicubic = {row.crf: row for row in study.rows if row.method == "bicubic"}
        _panel(left, study, "PSNR above bicubic, dB", lambda row: row.psnr - bicubic[row.crf].psnr)
        _panel(right, study, "flicker, code values (less is steadier)", lambda row: row.flicker)
        left.legend(fontsize=8)
        figure.suptitle(f"{study.clip}, ×{study.scale}, {study.codec} {study.preset}".rstrip(), fontsize=11)


def _panel(axes: Any, study: Study, title: str, figure: Callable[[Row], float]) -> None:
    crfs = list(dict.fromkeys(row.crf for row in study.rows))
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("CRF", fontsize=10)
    axes.set_xticks(range(len(crfs)), [SIGN if crf is None else f"{crf:g}" for crf in crfs])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", lw=0.6)
    for index, label in enumerate(dict.fromkeys(row.label for row in study.rows)):
        values = [figure(row) for row in study.rows if row.label == label]
        plain = label in ("bicubic", "lanczos")
        axes.plot(
            values, "--" if plain else "o-", color="#a8a8a8" if label == "bicubic" else f"C{index - 1}", label=label
        )
