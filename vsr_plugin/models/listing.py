"""The models in Markdown, as the README lists them: what the manifest says was measured, beside the papers' figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import MODELS, manifest
from .published import PUBLISHED, published_psnr

if TYPE_CHECKING:
    from . import ModelSpec

_BENCHMARK = "set5"


def models_markdown() -> str:
    """Two tables, of what has weights and of what has none, and which of the weights stay below their paper."""
    shipped = {name: [scale for scale in spec.scales if _measured(name, scale)] for name, spec in MODELS.items()}
    scales = sorted({scale for found in shipped.values() for scale in found})
    bicubic = (f"{PUBLISHED['bicubic'][scale][0]:.2f}" for scale in scales)
    lines = [
        f"| model | paper | {' | '.join(f'×{scale}' for scale in scales)} |",
        "|---|---|" + "---|" * len(scales),
        f"| bicubic | – | {' | '.join(bicubic)} |",
    ]
    for name, found in shipped.items():
        if found:
            cells = (_cell(name, scale) if scale in MODELS[name].scales else "" for scale in scales)
            lines.append(f"| `{name}` | {MODELS[name].paper} | {' | '.join(cells)} |")
    below = [_below(name, found) for name, found in shipped.items()]
    if any(below):
        further = "`vsr train MODEL -x SCALE --from shipped --data FOLDER` trains them further."
        lines += ["", f"Below their papers: {', '.join(filter(None, below))}. {further}"]
    missing = {name: [s for s in spec.scales if s not in shipped[name]] for name, spec in MODELS.items()}
    if any(missing.values()):
        lines += ["", "| no weights yet | paper | its PSNR | the command that trains it |", "|---|---|---|---|"]
        lines += [_missing(MODELS[name], lacks) for name, lacks in missing.items() if lacks]
    return "\n".join(lines)


def _measured(name: str, scale: int) -> float | None:
    row = manifest().get(f"{name}_x{scale}", {})
    return round(float(row[_BENCHMARK]["psnr"]), 2) if _BENCHMARK in row else None


def _cell(name: str, scale: int) -> str:
    measured, paper = _measured(name, scale), published_psnr(name, scale, _BENCHMARK)
    if measured is None:
        return "no weights yet"
    return f"{measured:.2f}" + (f" ({paper:.2f}, {signed(measured - paper)})" if paper else "")


def _below(name: str, scales: list[int]) -> str:
    """The scales at which a model measures less than its paper says, in the table's two decimals."""
    lower = []
    for scale in scales:
        measured, paper = _measured(name, scale), published_psnr(name, scale, _BENCHMARK)
        if measured is not None and paper is not None and round(measured - paper, 2) < 0:
            lower.append(f"×{scale}")
    return f"`{name}` {' '.join(lower)}" if lower else ""


def _missing(spec: ModelSpec, scales: list[int]) -> str:
    figures = []
    for scale in scales:
        paper = published_psnr(spec.name, scale, _BENCHMARK)
        figures.append(f"×{scale}" + (f" {paper:.2f}" if paper else ""))
    one_for_all = "" if spec.shared else "".join(f" -x {scale}" for scale in scales)
    command = f"vsr train {spec.name}{one_for_all} --data FOLDER"
    return f"| `{spec.name}` | {spec.paper} | {', '.join(figures)} | `{command}` |"


def signed(difference: float) -> str:
    """+0.13, −0.05, ±0.00."""
    sign = {1: "+", 0: "±", -1: "−"}[(round(difference, 2) > 0) - (round(difference, 2) < 0)]
    return f"{sign}{abs(difference):.2f}"
