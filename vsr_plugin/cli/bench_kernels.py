"""``vsr bench kernels``: how long each of our kernels takes, or would take on a GPU that is not here."""

from __future__ import annotations

import json
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations when the command is registered
from typing import TYPE_CHECKING, Annotated

import typer

from ..driver import check_device_here
from ..errors import UsageError
from ..execution import check_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ..bench import Ceiling
    from ..bench.kernels import KernelReport
    from ..bench.prediction import Prediction

_PRECISIONS = ("float16", "bfloat16", "float32")
_FRAME = (1080, 1920)


def kernels(
    device: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    precision: Annotated[str, typer.Option(help="float16, bfloat16 or float32.")] = "float16",
    batch: Annotated[int, typer.Option(min=1, help="Frames of 1920×1080 at a time.")] = 8,
    runs: Annotated[int, typer.Option(min=1, help="Number of measurements; medians are compared.")] = 5,
    only: Annotated[str, typer.Option(metavar="TEXT", help="Only kernels and cases with this in their names.")] = "",
    predict: Annotated[
        bool, typer.Option("--predict", help="Estimate for three GPUs from machine code; needs no GPU.")
    ] = False,
    everything: Annotated[
        Path | None,
        typer.Option(
            "--all", metavar="DIR", help="Measure, test, profile and compare everything into a folder; takes 8 minutes."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure each Triton kernel next to torch."""
    from .progress import load_torch, waiting

    if predict:
        if device is not None or precision != "float16":
            raise UsageError("--predict is for three GPUs, in float16: leave out --device and --precision")
        with waiting("counting machine code"):
            from ..bench.prediction import predict_kernels

            predictions = list(predict_kernels(only, batch=batch, height=_FRAME[0], width=_FRAME[1]))
        if as_json:
            _print_json([prediction.as_dict() for prediction in predictions])
        else:
            _print_predictions(predictions, batch)
        return
    if precision not in _PRECISIONS:
        raise UsageError(f"Unknown precision {precision!r}. Known precisions: {', '.join(_PRECISIONS)}")
    if device is not None:
        check_device(device)
    check_device_here(device, "triton")
    load_torch()
    import torch

    from ..device import find_device

    if everything is not None:
        if only or precision != "float16" or as_json:
            raise UsageError("--all DIR is for all kernels, in float16, as JSON in DIR: leave out what asks for less")
        from ..bench.first_day import measure_all

        for report in measure_all(torch.device(find_device(device)), everything, batch=batch, runs=runs):
            _print_report(report)
        return
    from ..bench.kernels import measure_kernels

    with waiting("measuring kernels"):
        report = measure_kernels(
            torch.device(find_device(device)),
            precision=precision,  # type: ignore[arg-type] # any dtype of torch that the kernels have
            batch=batch,
            height=_FRAME[0],
            width=_FRAME[1],
            runs=runs,
            only=only,
        )
    if as_json:
        _print_json(report.as_dict())
    else:
        _print_report(report)


def _print_report(report: KernelReport) -> None:
    from rich.table import Table

    console = bench_console()
    count, height, width = report.size
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    console.print(f"{report.device}, {versions}; {count} frames of {width}×{height}, {report.precision}")
    console.print(ceiling_line(report.ceiling))
    console.print()
    table = Table(box=None, pad_edge=False)
    for title in ("kernel", "case"):
        table.add_column(title, no_wrap=True)
    for title in ("ms", "GB/s", "TFLOP/s", "floor ms", "of floor"):
        table.add_column(title, justify="right")
    predicted = any(timing.predicted for timing in report.timings)
    if predicted:
        table.add_column("predicted ms", justify="right", no_wrap=True)
    table.add_column("others, ms")
    table.add_column("× the best", justify="right")
    for timing in report.timings:
        table.add_row(
            timing.kernel,
            timing.case,
            f"{1000 * timing.seconds:.4g}",
            f"{timing.bytes / timing.seconds / 1e9:,.0f}",
            f"{timing.flops / timing.seconds / 1e12:,.1f}" if timing.flops else "",
            f"{1000 * timing.floor:.4g}",
            f"{timing.of_floor:.0%}",
            *(
                [_range(*(f"{1000 * x:.4g}" for x in timing.predicted)) if timing.predicted else ""]
                if predicted
                else []
            ),
            ", ".join(f"{name} {1000 * seconds:.4g}" for name, seconds in timing.rivals.items()),
            f"{timing.speedup:.2f}" if timing.speedup else "",
        )
    console.print(table)


def _print_predictions(predictions: Sequence[Prediction], batch: int) -> None:
    from rich.table import Table

    console = bench_console()
    height, width = _FRAME
    console.print(f"Counted from machine code, not measured: {batch} frames of {width}×{height} at a time, float16.")
    console.print("Issue, data, matrix, special: clocks that a step of a program keeps these parts busy.")
    for gpu in dict.fromkeys(one.gpu for one in predictions):
        rows = [one for one in predictions if one.gpu == gpu]
        console.print(f"\n{gpu} (sm_{rows[0].architecture})")
        table = Table(box=None, pad_edge=False)
        for title in ("kernel", "case"):
            table.add_column(title, no_wrap=True)
        for title in ("registers", "resident", "steps", *rows[0].clocks, "ms a frame", "floor", "of floor"):
            table.add_column(title, justify="right", no_wrap=True)
        for one in rows:
            least, most, floor = (1000 * seconds / batch for seconds in (one.least, one.most, one.floor))
            table.add_row(
                one.kernel,
                one.case,
                f"{one.registers}" + (f" + {one.spilled} B" if one.spilled else ""),
                str(one.resident),
                str(one.steps),
                *(f"{clocks:,.0f}" for clocks in one.clocks.values()),
                _range(f"{least:.3g}", f"{most:.3g}"),
                f"{floor:.3g}",
                _range(f"{floor / most:.0%}", f"{floor / least:.0%}"),
            )
        console.print(table)


def _range(*ends: str) -> str:
    """Two numbers joined by a dash; one number if they are equal; empty if there are none."""
    return "–".join(dict.fromkeys(ends))


def _print_json(data: object) -> None:
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False))


def bench_console() -> Console:
    """A console as wide as the terminal, or of 160 columns if stdout is not a terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def ceiling_line(ceiling: Ceiling) -> str:
    """The machine's limits as a line of text."""
    matrix = f"{ceiling.gflops:,.0f} GFLOP/s (matrix product in the same precision)"
    return f"this machine at best: {matrix}, {ceiling.gigabytes:.1f} GB/s (copy)"
