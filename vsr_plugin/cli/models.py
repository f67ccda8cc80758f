"""``vsr models``: the catalogue; ``vsr models convert`` and ``vsr models export``: how weights come into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

models = typer.Typer(name="models", help="List the models; convert or export weights.", add_completion=False)

# What 300 GFLOP/s, two cores of a server or four of a laptop, make of 480 × 270 frames.
_FLOPS = 300e9
_FPS_CLASSES = (60, 24, 10, 1)
_COLUMNS = ("model", "scale", "parameters", "kMAC/px", "fps class", "Set5", "Set14", "paper")


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects instead of a table.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables of the README: Set5, beside the papers.")
    ] = False,
) -> None:
    """List every model and scale: parameters, work per input pixel, fps class, and the measured PSNR of its weights.

    The fps class is what 300 GFLOP/s (two server cores) make of 480 × 270 frames.
    """
    if context.invoked_subcommand is not None:
        return
    if as_markdown:
        from ..models.listing import models_markdown

        typer.echo(models_markdown())
        return
    rows = _rows()
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    for line in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@models.command()
def convert(
    source: Annotated[Path, typer.Argument(help=".npz, .pth, .pt or .safetensors of somebody else.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    model: Annotated[str, typer.Option(help="Name of our model with this architecture.")],
    scale: Annotated[int, typer.Option("-x", "--scale", help="Scale the weights were trained for.")],
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the network, such as edges=repeat; repeatable.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Convert other people's weights to ours, for --weights."""
    options = dict(_named_value(word) for word in option or ())
    from ..models.convert import convert_file

    lost = convert_file(source, target, model, scale, options=options, overwrite=overwrite)
    if lost:
        typer.echo(lost, err=True)
    typer.echo(target)


@models.command()
def names(
    model: Annotated[str, typer.Argument(help="Name of a model.")],
    scale: Annotated[int | None, typer.Option("-x", "--scale", help="Scale. [default: the model's smallest]")] = None,
) -> None:
    """List the tensors a model needs, with their shapes: save those of another program as .npz by these names."""
    from ..models import find_model
    from ..models.convert import expected_tensors

    spec = find_model(model, scale)
    for name, shape in expected_tensors(spec, scale or min(spec.scales)).items():
        typer.echo(f"{name}  {shape}")


@models.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `vsr train`, finished or not.")],
    into: Annotated[Path, typer.Argument(help="Folder of weights with its manifest.toml.")],
    measure: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of images to measure on; repeatable.")] = None,
    notice: Annotated[str, typer.Option(help="What a user must know of the training images.")] = "",
) -> None:
    """Copy a run's best weights into a folder of weights, measured and written down in its manifest."""
    from ..errors import UsageError
    from ..training.export import export as export_run

    benchmarks: dict[str, Path] = {}
    for word in measure or ():
        name, separator, folder = word.partition("=")
        if not (name.isidentifier() and separator and folder):
            raise UsageError(f"Expected --measure NAME=FOLDER, got {word!r}")
        benchmarks[name] = Path(folder)
    for key in export_run(run, into, benchmarks, notice):
        typer.echo(key)


def _named_value(word: str) -> tuple[str, Any]:
    """``units=9`` as a name and a number; a value that is no JSON is a word."""
    from ..errors import UsageError

    name, separator, value = word.partition("=")
    if not (name.isidentifier() and separator):
        raise UsageError(f"Expected --option NAME=VALUE, got {word!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _rows() -> list[dict[str, Any]]:
    from ..models import MODELS, build_model, manifest
    from ..models.cost import Undrawn, macs, parameters

    rows = []
    for spec in MODELS.values():
        for scale in spec.scales:
            with Undrawn():
                module = build_model(spec, scale)
            work = macs(module)
            shipped = manifest().get(f"{spec.name}_x{scale}", {})
            rows.append(
                {
                    "model": spec.name,
                    "scale": scale,
                    "parameters": parameters(module),
                    "macs_per_pixel": work,
                    "fps_class": _fps_class(work),
                    "weights": spec.weights(scale),
                    "set5": shipped.get("set5"),
                    "set14": shipped.get("set14"),
                    "paper": spec.paper,
                }
            )
    return rows


def _fps_class(work: int) -> str:
    fps = _FLOPS / (2 * work * 480 * 270)
    return next((f"{least}+" for least in _FPS_CLASSES if fps >= least), "<1")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    benchmarks = (f"{row[name]['psnr']:.2f} dB" if row[name] else "–" for name in ("set5", "set14"))
    work = f"{row['macs_per_pixel'] / 1000:.1f}"
    return (
        row["model"],
        f"×{row['scale']}",
        f"{row['parameters']:,}",
        work,
        row["fps_class"],
        *benchmarks,
        row["paper"],
    )
