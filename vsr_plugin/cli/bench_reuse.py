"""``vsr bench reuse``: how much faster --reuse is where little changes from frame to frame."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated

import typer


def reuse(
    clip: Annotated[str, typer.Argument(help="A video.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Network; `vsr models` lists them.")] = "espcn",
    scale: Annotated[int, typer.Option("-x", "--scale", help="Scale; `vsr models` lists those of each network.")] = 2,
    frames: Annotated[int, typer.Option("--frames", "-n", min=2, help="At most this many frames.")] = 120,
    runs: Annotated[int, typer.Option(min=1, help="Number of measurements, in turns.")] = 5,
    backend: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    precision: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
) -> None:
    """Measure a clip with and without --reuse, without decoding and encoding."""
    from ..execution import Execution
    from ..models import find_model

    find_model(model, scale)
    execution = Execution(backend=backend, precision=precision)  # type: ignore[arg-type] # a string that it checks

    from .progress import waiting

    with waiting(f"measuring {model} ×{scale} on {Path(clip).name}, with and without --reuse"):
        from ..bench.reuse import measure_reuse

        gain = measure_reuse(clip, model, scale, execution, frames, runs)
    if as_json:
        typer.echo(json.dumps({**asdict(gain), "ratio": gain.ratio}, indent=1))
        return
    took, without = (1e3 * median(times) / gain.frames for times in (gain.seconds, gain.without))
    typer.echo(
        f"{gain.frames} frames of {gain.width}×{gain.height}, {model} ×{scale}, {gain.precision}: reused "
        f"{gain.share:.0%}, {took:.2f} ms a frame; without {without:.2f} ms; ×{gain.ratio:.2f} as fast"
    )
