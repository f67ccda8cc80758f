"""The README's tables of models, in Markdown: the manifest's measured figures beside those of the papers."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from . import MODELS, manifest
from .published import BENCHMARKS, published_psnr

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from . import ModelSpec

_TITLES = {"set5": "Set5", "set14": "Set14"}


def models_markdown() -> str:
    """Tables of the models with weights, one per benchmark, and of those without, and notes on the figures."""
    shipped = {
        name: [scale for scale in spec.scales if f"{name}_x{scale}" in manifest()] for name, spec in MODELS.items()
    }
    lines: list[str] = []
    for benchmark in BENCHMARKS:
        lines += [*_table(benchmark, {name: found for name, found in shipped.items() if found}), ""]
    for image in dict.fromkeys(image for name in shipped for image in _seen(name)):
        names = ", ".join(f"`{name}`" for name in shipped if image in _seen(name))
        lines.append(f"{image} was among the training images of {names}.")
    below = [_below(name, found) for name, found in shipped.items()]
    if any(below):
        further = "`vsr train MODEL -x SCALE --from shipped --data FOLDER` trains them further."
        lines += ["", f"Below their papers on Set5: {', '.join(filter(None, below))}. {further}"]
    missing = {name: [s for s in spec.scales if s not in shipped[name]] for name, spec in MODELS.items()}
    if any(missing.values()):
        lines += ["", "| no weights yet | paper | its PSNR | the command that trains it |", "|---|---|---|---|"]
        lines += [_missing(MODELS[name], lacks) for name, lacks in missing.items() if lacks]
    return "\n".join(lines)


def video_markdown() -> str:
    """A table of the gains and losses of weights for compressed video over those for clean input, by quality."""
    rows = [row for row in manifest().values() if row.get("tuned_for") == "video" and "compressed" in row]
    rows.sort(key=lambda row: (list(MODELS).index(row["model"]), row["scale"]))
    qualities = list(next(iter(rows[0]["compressed"].values()))) if rows else []
    titles = ["not compressed" if quality == "none" else quality.replace("crf", "CRF ") for quality in qualities]
    lines = [f"| dB of PSNR | {' | '.join(titles)} |", "|---|" + "---|" * len(titles)]
    for row in rows:
        cells = [_gains([clip[quality] for clip in row["compressed"].values()]) for quality in qualities]
        lines.append(f"| `{row['model']}` ×{row['scale']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gains(clips: Sequence[Mapping[str, float]]) -> str:
    """The means over clips of the gain over weights for clean input, and over bicubic."""
    above = (fmean(clip["video"] - clip[other] for clip in clips) for other in ("clean", "bicubic"))
    return "{} ({})".format(*map(signed, above))


def _table(benchmark: str, shipped: Mapping[str, list[int]]) -> list[str]:
    scales = sorted({scale for found in shipped.values() for scale in found})
    bicubic = (f"{published_psnr('bicubic', scale, benchmark):.2f}" for scale in scales)
    lines = [
        f"| {_TITLES[benchmark]} | paper | {' | '.join(f'×{scale}' for scale in scales)} |",
        "|---|---|" + "---|" * len(scales),
        f"| bicubic | – | {' | '.join(bicubic)} |",
    ]
    for name in shipped:
        cells = (_cell(name, scale, benchmark) if scale in MODELS[name].scales else "" for scale in scales)
        lines.append(f"| `{name}` | {MODELS[name].paper} | {' | '.join(cells)} |")
    return lines


def _seen(name: str) -> list[str]:
    """Benchmark images that any weights of a model were trained on, or the weights that these started from."""
    rows = (manifest().get(f"{name}_x{scale}", {}) for scale in MODELS[name].scales)
    return list(dict.fromkeys(each for row in rows for run in row.get("training", ()) for each in run.get("seen", ())))


def _measured(name: str, scale: int, benchmark: str = BENCHMARKS[0]) -> float | None:
    row = manifest().get(f"{name}_x{scale}", {})
    return round(float(row[benchmark]["psnr"]), 2) if benchmark in row else None


def _cell(name: str, scale: int, benchmark: str) -> str:
    measured, paper = _measured(name, scale, benchmark), published_psnr(name, scale, benchmark)
    if measured is None:
        return "–" if f"{name}_x{scale}" in manifest() else "no weights yet"
    return f"{measured:.2f}" + (f" ({paper:.2f}, {signed(measured - paper)})" if paper else "")


def _below(name: str, scales: list[int]) -> str:
    """The scales at which a model's figure is below its paper's, in the table's two decimals."""
    lower = []
    for scale in scales:
        measured, paper = _measured(name, scale), published_psnr(name, scale, BENCHMARKS[0])
        if measured is not None and paper is not None and round(measured - paper, 2) < 0:
            lower.append(f"×{scale}")
    return f"`{name}` {' '.join(lower)}" if lower else ""


def _missing(spec: ModelSpec, scales: list[int]) -> str:
    figures = []
    for scale in scales:
        paper = published_psnr(spec.name, scale, BENCHMARKS[0])
        figures.append(f"×{scale}" + (f" {paper:.2f}" if paper else ""))
    one_for_all = "" if spec.shared else "".join(f" -x {scale}" for scale in scales)
    command = f"vsr train {spec.name}{one_for_all} --data FOLDER"
    return f"| `{spec.name}` | {spec.paper} | {', '.join(figures)} | `{command}` |"


def signed(difference: float) -> str:
    """+0.13, −0.05, ±0.00."""
    sign = {1: "+", 0: "±", -1: "−"}[(round(difference, 2) > 0) - (round(difference, 2) < 0)]
    return f"{sign}{abs(difference):.2f}"
