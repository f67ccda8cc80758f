"""``vsr bench …``: how fast this machine runs a model, next to the machine's own limit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..driver import check_device_here
from ..execution import Execution
from ..figure import check_chart
from ..models import CLEAN, check_weights_file, find_model
from .bench_kernels import bench_console, ceiling_line, kernels
from .bench_reuse import reuse
from .bench_segments import segments
from .networks import check_model
from .values import complete_model, frame_size, tile_side

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from rich.table import Table

    from ..bench import Absent, Settings, Timing
    from ..bench.report import Report
    from .progress import Wait

bench = typer.Typer(name="bench", help="Measure speed, next to the machine's own limit.", no_args_is_help=True)

_Model = Annotated[str, typer.Argument(help="Network; `vsr models` lists them.", autocompletion=complete_model)]
_Scale = Annotated[int, typer.Option("-x", "--scale", help="Scale; `vsr models` lists those of each network.")]
_Size = Annotated[str, typer.Option(metavar="WxH", help="Size of the input frames.")]
_Runs = Annotated[int, typer.Option(min=1, help="Number of measurements; medians are compared.")]
_Weights = Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")]
_Backend = Annotated[str | None, typer.Option(help="As in `vsr encode`.")]
_Device = Annotated[str | None, typer.Option(help="As in `vsr encode`.")]
_Precision = Annotated[str | None, typer.Option(help="As in `vsr encode`.")]
_Batch = Annotated[int | None, typer.Option(min=1, help="As in `vsr encode`.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_PREVIEW_SECONDS = 2.0  # for each of --runs


@bench.callback()
def begin() -> None:
    """Measure speed, next to the machine's own limit."""
    from .terminal import speak

    speak(quiet=False, verbose=False, once=True)


@bench.command()
def job(
    model: _Model = "espcn",
    scale: _Scale = 3,
    size: _Size = "480x270",
    frames: Annotated[int, typer.Option("--frames", "-n", min=2, help="Length of the clip.")] = 60,
    runs: _Runs = 5,
    weights: _Weights = None,
    backend: _Backend = None,
    device: _Device = None,
    precision: _Precision = None,
    batch: _Batch = None,
    tile: Annotated[str, typer.Option(metavar="auto|N|off", help="As in `vsr encode`.")] = "auto",
    compare: Annotated[
        bool, typer.Option("--compare", help="Also run OpenCV, FFmpeg and plain torch on the same clip.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw a bar chart.")] = None,
    as_json: _Json = False,
) -> None:
    """Measure the network, the upscaling and the whole job."""
    execution = _execution(backend, device, precision, batch, tile)
    if plot is not None:
        check_chart(plot)
    settings = _settings(model, scale, size, runs, weights, execution, frames)
    from ..bench.report import measure

    with _measuring(f"{model} ×{scale} at {size}"):
        report = measure(settings, others=compare)
    if as_json:
        _print_json(report.as_dict())
    else:
        _print(report)
    if plot is not None:
        from ..bench.chart import draw

        draw(report, plot)


@bench.command()
def backends(
    model: _Model = "espcn",
    scale: _Scale = 3,
    size: _Size = "480x270",
    runs: _Runs = 5,
    weights: _Weights = None,
    device: _Device = None,
    precision: _Precision = None,
    batch: _Batch = None,
    as_json: _Json = False,
) -> None:
    """Measure a network with every backend and torch.compile."""
    settings = _settings(model, scale, size, runs, weights, _execution(None, device, precision, batch))
    from rich.table import Table

    from ..bench import Absent
    from ..bench.backends import measure_backends

    with _measuring(f"{model} ×{scale} by every backend"):
        rows = list(measure_backends(settings))
    if as_json:
        _print_json(map(asdict, rows))
        return
    table = Table("", "precision", box=None, pad_edge=False)
    for title in ("ms/frame", "min–max", "fps", "GFLOP/s"):
        table.add_column(title, justify="right")
    for row in rows:
        if isinstance(row, Absent):
            table.add_row(row.name, "not available: " + row.why)
            continue
        least, most = 1000 * min(row.seconds), 1000 * max(row.seconds)
        figures = (f"{1000 * row.median:.4g}", f"{least:.4g}–{most:.4g}", f"{row.fps:.4g}", f"{row.gflops or 0:,.0f}")
        table.add_row(row.name, row.note, *figures)
    bench_console().print(table)


@bench.command()
def preview(
    model: _Model = "espcn",
    scale: _Scale = 3,
    size: _Size = "480x270",
    runs: _Runs = 5,
    weights: _Weights = None,
    backend: _Backend = None,
    device: _Device = None,
    precision: _Precision = None,
    as_json: _Json = False,
) -> None:
    """Measure whether `vsr preview` keeps up with a clip."""
    settings = _settings(model, scale, size, runs, weights, _execution(backend, device, precision))
    import tempfile

    from ..bench.preview import DnnNetworks, measure  # first: OpenCV opens no window once PyAV is loaded
    from ..preview.networks import Networks

    from ..bench.job import make_clip  # isort: skip

    networks = Networks(weights=weights, own=model, execution=settings.execution)
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder), settings, rate=24)
        with _measuring(f"a preview by {model} ×{scale}"):
            rows = [
                measure(clip, choice, model, scale, runs * _PREVIEW_SECONDS) for choice in (networks, DnnNetworks())
            ]
    if as_json:
        _print_json(map(asdict, rows))
        return
    for row in rows:
        typer.echo(
            f"{row.name:30} {row.source_fps:g} fps, shown {row.shown_fps:.1f} in {row.where}, dropped {row.dropped} in "
            f"{row.seconds:.0f} s, {row.frame_ms:.1f} ms/frame, {row.seek_ms:.0f} ms/seek"
        )


@bench.command(short_help="Measure the VapourSynth filter in vspipe.")
def vapoursynth(runs: _Runs = 5, as_json: _Json = False) -> None:
    """Measure the VapourSynth filter in vspipe, next to vapoursynth-mlrt-ov if that is installed."""
    with _measuring("the VapourSynth filter"):
        from ..bench import Absent
        from ..bench.mlrt import measure_beside
        from ..bench.vapoursynth import measure

        rows = (*measure(runs), *measure_beside(runs))
    timings = [row for row in rows if not isinstance(row, Absent)]
    if as_json:
        _print_json(asdict(timing) | {"median": timing.median, "fps": timing.fps} for timing in timings)
        return
    for timing in timings:
        typer.echo(f"{timing.name:27} {1000 * timing.median:8.3f} ms/frame {timing.fps:9.1f} fps   {timing.note}")
    for row in rows:
        if isinstance(row, Absent):
            typer.echo(f"{row.name:27} {row.why}: {row.remedy}")


bench.command()(kernels)
bench.command()(segments)
bench.command(short_help="Measure a clip with and without --reuse.")(reuse)


@bench.command()
def layers(model: _Model = "espcn", scale: _Scale = 3, weights: _Weights = None, as_json: _Json = False) -> None:
    """Print which kernel runs each layer of a network; needs no GPU."""
    find_model(model, scale)
    if weights is not None:
        check_weights_file(weights)
    from .progress import load_torch

    load_torch()
    from ..backends.triton import explain
    from ..models import MODELS, build_model, load_model

    spec = MODELS[model]
    side = 16 * spec.multiple_of
    # Which kernel runs a layer depends on its shape alone: a model without weights can be explained, too.
    has_weights = weights is not None or spec.weights(scale) is not None
    module = load_model(model, scale, weights) if has_weights else build_model(spec, scale)
    steps = explain(module, (1, spec.channels, side, side))
    if as_json:
        _print_json(dict(zip(("runs", "computes", "covers"), step, strict=True)) for step in steps)
        return
    from rich.table import Table

    table = Table("runs on", "computes", "for", box=None, pad_edge=False)
    for step in steps:
        table.add_row(*step)
    bench_console().print(table)


def _measuring(what: str) -> AbstractContextManager[Wait]:
    from .progress import waiting

    return waiting(f"measuring {what}")


def _execution(
    backend: str | None, device: str | None, precision: str | None, batch: int | None = None, tile: str = "auto"
) -> Execution:
    execution = Execution(
        backend=backend,
        device=device,
        precision=precision,  # type: ignore[arg-type] # a string that Execution checks
        batch=batch,
        tile=tile_side(tile),
    )
    check_device_here(device, backend)
    return execution


def _settings(
    model: str, scale: int, size: str, runs: int, weights: Path | None, execution: Execution, frames: int = 60
) -> Settings:
    """Make settings of the options, checked as far as possible before torch is loaded."""
    check_model(model, scale, weights, CLEAN, None, quantized=execution.precision == "int8")
    width, height = frame_size(size)
    from .progress import load_torch

    load_torch()
    from ..bench import Settings

    return Settings(model, scale, width, height, frames, runs, weights, execution)


def _print_json(data: dict[str, Any] | Iterable[dict[str, Any]]) -> None:
    typer.echo(json.dumps(data if isinstance(data, dict) else list(data), indent=1, ensure_ascii=False))


def _print(report: Report) -> None:
    from ..bench import Timing

    settings = report.settings
    console = bench_console()
    console.print(f"{settings.model} ×{settings.scale} at {settings.width}×{settings.height}, {settings.frames} frames")
    console.print(f"{report.processor}: {report.upscaler}")
    console.print(ceiling_line(report.ceiling))
    console.print()
    console.print(_table(report))
    console.print()
    if report.overlap is not None:
        console.print(f"whole job ÷ (upscale + decode-scale-encode) = {report.overlap:.2f}")
    for timing in (*report.own, *report.others):
        if isinstance(timing, Timing) and timing.note:
            console.print(f"{timing.name}: {timing.note}", style="dim")


def _table(report: Report) -> Table:
    from rich.table import Table

    from ..bench import Absent

    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in ("ms/frame", "min–max", "fps", "GFLOP/s", "of ceiling", "GB/s"):
        table.add_column(title, justify="right")
    if report.others:
        table.add_column("our whole job is")
    for timing in report.own:
        table.add_row(*_cells(timing, report))
    for other in report.others:
        if isinstance(other, Absent):
            table.add_row(other.name, *_absence(other))
        else:
            table.add_row(*_cells(other, report), f"{report.speedup(other):.3g} × as fast")
    return table


def _cells(timing: Timing, report: Report) -> tuple[str, ...]:
    times = [1000 * second for second in timing.seconds]
    spread = f"{min(times):.4g}–{max(times):.4g}" if len(times) > 1 else ""
    work = timing.gflops
    part = f"{work / report.ceiling.gflops:.0%}" if work else ""
    traffic = f"{timing.gigabytes:.2f}" if timing.gigabytes else ""
    return (
        timing.name,
        f"{1000 * timing.median:.4g}",
        spread,
        f"{timing.fps:.3g}",
        f"{work:,.0f}" if work else "",
        part,
        traffic,
    )


def _absence(other: Absent) -> tuple[str, ...]:
    return ("not available", *[""] * 5, other.why + (f": {other.remedy}" if other.remedy else ""))
