"""``vsr bench segments``: what segments cost, and what workers gain."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from . import values


def segments(
    model: Annotated[str, typer.Argument(help="Network; `vsr models` lists them.")] = "espcn",
    scale: Annotated[int, typer.Option("-x", "--scale", help="Scale; `vsr models` lists those of each network.")] = 2,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the input frames.")] = "160x90",
    frames: Annotated[int, typer.Option("--frames", "-n", min=2, help="Length of the film.")] = 2000,
    segment: Annotated[str, typer.Option(metavar="TIME", help="As in `vsr encode`.")] = "20",
    workers: Annotated[
        list[int] | None, typer.Option(min=1, help="Also with N workers, which need Ray; repeatable.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Number of measurements, in turns.")] = 5,
    backend: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a film in one go, in segments, and with workers."""
    from ..execution import Execution
    from ..models import find_model

    width, height = values.frame_size(size)
    length = values.segment_seconds(segment)
    find_model(model, scale)
    execution = Execution(backend=backend)

    from .progress import load_torch, waiting

    load_torch()
    from ..bench import Settings
    from ..bench.job import make_clip
    from ..bench.segments import measure_segments

    settings = Settings(
        model=model, scale=scale, width=width, height=height, frames=frames, runs=runs, execution=execution
    )
    with TemporaryDirectory(prefix="vsr ") as folder, waiting(f"measuring {model} ×{scale} in segments"):
        film = make_clip(Path(folder), settings)
        if not as_json:
            typer.echo(f"{frames} frames of {width}×{height}, {model} ×{scale}, segments of {float(length):g} s")
        ways = []
        for way in measure_segments(film, Path(folder), settings, length, workers or []):
            ways.append(way)
            if not as_json:
                took, alone = median(way.seconds), median(way.alone)
                processor = ""
                if way.processor:
                    processor = f"; processor time ×{median(way.processor):.3f}"
                    a_frame = (f"{1000 * seconds / frames:.3f} ms" for seconds in (way.planning, median(way.joining)))
                    processor += ", of which planning {} and joining {} a frame".format(*a_frame)
                held = ""
                if way.memory and way.memory_alone:
                    held = f"; memory {way.memory / 1e6:.0f} MB, in one go {way.memory_alone / 1e6:.0f} MB"
                    held += f", a worker {way.memory_of_worker / 1e6:.0f} MB" * bool(way.memory_of_worker)
                typer.echo(
                    f"{way.name:12} {took:8.2f} s, {frames / took:.1f} fps; in one go {alone:.2f} s, "
                    f"{frames / alone:.1f} fps; ×{way.ratio:.3f}{processor}{held}"
                )
    if as_json:
        typer.echo(json.dumps([{**asdict(way), "ratio": way.ratio} for way in ways], indent=1))
