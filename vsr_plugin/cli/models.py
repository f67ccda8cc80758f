"""``vsr models``: list the models, and convert, quantize and export weights for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class _Names(TyperGroup):
    """A group of commands; words that are not commands are names of models."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Pass every such word to ``--name``."""
        words: list[str] = []
        for before, word in zip(["", *args], args, strict=False):
            if word in self.commands:
                return super().parse_args(ctx, args)
            is_name = word[:1] not in ("", "-") and before not in ("-x", "--scale", "--name")
            words += ["--name", word] if is_name else [word]
        return super().parse_args(ctx, words)


models = typer.Typer(
    name="models",
    add_completion=False,
    cls=_Names,
    subcommand_metavar="[NAME]... | COMMAND [ARGS]...",
)

DEFAULT, DEFAULT_SCALE = "espcn", 2
_COLUMNS = ("model", "scale", "speed on 8 cores", "quality", "Set5", "parameters")


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context,
    scale: Annotated[int | None, typer.Option("--scale", "-x", help="Only models with this scale.")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", hidden=True)] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="List models without weights, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with models without weights.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables of the README.")] = False,
) -> None:
    """List the models that come with weights, or convert and export weights.

    NAME, or a part of it, lists only these models. The fastest is first.

    Speed is an estimate for eight CPU cores, from measurements on two at the default precision, without decoding and
    encoding. A GPU is much faster; `vsr bench job` measures this machine. Quality compares the PSNR on Set5 of the
    models with the same scale. The line about --tuned-for names the models that have weights for compressed video, too.
    """
    if context.invoked_subcommand is not None:
        return
    if as_markdown:
        from ..models.listing import models_markdown

        typer.echo(models_markdown())
        return
    from ..models import TUNINGS

    rows = _rows(scale, name or [])
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    shown = [row for row in rows if every or row["weights"]]
    if shown:
        table = [_COLUMNS, *map(_cells, shown)]
        widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
        for line in table:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if any(row["model"] == DEFAULT and row["scale"] == DEFAULT_SCALE for row in shown):
        typer.echo(f"* is what is used if nothing is named: {DEFAULT} ×{DEFAULT_SCALE}.", err=True)
    for kind in TUNINGS[1:]:
        _echo_models(f"--tuned-for {kind}", (row for row in rows if kind in row["tuned_for"]))
    _echo_models("--precision int8", (row for row in rows if row["int8"]))
    hidden = [f"{row['model']} ×{row['scale']}" for row in rows if row not in shown]
    if hidden:
        which = f": {', '.join(hidden)}" if name else ""
        typer.echo(f"--all lists {len(hidden)} more without weights{which}.", err=True)


def _echo_models(what: str, rows: Iterable[dict[str, Any]]) -> None:
    """Name the models of rows, each with its scales, if there are any."""
    named: dict[str, str] = {}
    for row in rows:
        named[row["model"]] = f"{named.get(row['model'], row['model'])} ×{row['scale']}"
    if named:
        typer.echo(f"{what}: {', '.join(named.values())}", err=True)


@models.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Weights of another program: .npz, .pth, .pt or .safetensors.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    model: Annotated[str, typer.Option(help="Name of our model with this architecture.")],
    scale: Annotated[int, typer.Option("-x", "--scale", help="Scale the weights were trained for.")],
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the network, where the file does not tell, such as edges=repeat; repeatable."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Overwrite an existing file.")] = False,
) -> None:
    """Convert other people's weights to ours, for --weights. For files that other programs run: `vsr export`."""
    from ..errors import WeightsError
    from ..models import find_model

    options = dict(_named_value(word) for word in option or ())
    find_model(model, scale)
    if not source.is_file():
        raise WeightsError(f"No such file: {source}")
    from .progress import waiting

    with waiting(f"converting {source.name}"):
        from ..models.convert import convert_file

        lost = convert_file(source, target, model, scale, options=options, overwrite=overwrite)
    if lost:
        typer.echo(lost, err=True)
    typer.echo(target)


@models.command(short_help="List the tensors that a model needs.")
def names(
    model: Annotated[str, typer.Argument(help="Name of a model.")],
    scale: Annotated[int | None, typer.Option("-x", "--scale", help="Scale. [default: the model's smallest]")] = None,
) -> None:
    """List the tensors a model needs, with their shapes: save those of another program as .npz by these names."""
    from ..models import find_model

    spec = find_model(model, scale)
    from .progress import load_torch

    load_torch()
    from ..models.convert import expected_tensors

    for name, shape in expected_tensors(spec, scale or min(spec.scales)).items():
        typer.echo(f"{name}  {shape}")


@models.command(short_help="Make weights in 8 bits, for --precision int8.")
def quantize(
    model: Annotated[str, typer.Argument(help="Name of a model of luma.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    data: Annotated[list[Path], typer.Option(help="Folder of images to fit the weights to; repeatable.")],
    scale: Annotated[int, typer.Option("-x", "--scale", help="Scale of the weights.")],
    weights: Annotated[Path | None, typer.Option(help="Your own weights instead of the shipped ones.")] = None,
    measure: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of images to measure on; repeatable.")] = None,
    minutes: Annotated[float, typer.Option(min=0.0, help="Train the rounded weights for so long.")] = 0.0,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Overwrite an existing file.")] = False,
) -> None:
    """Make weights in 8 bits, for --precision int8, of SRCNN, FSRCNN or ESPCN.

    It takes a minute. If --measure shows that too much is lost, train them, too: --minutes 5 brought FSRCNN ×3 0.07 dB.
    """
    from ..errors import OutputError
    from ..models import check_weights_file, find_model

    find_model(model, scale)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists", overwrite=True)
    benchmarks = _named_folders(measure or ())
    _check_folders(data)
    if weights is not None:
        check_weights_file(weights)
    from .progress import waiting

    with waiting(f"rounding {model} ×{scale}") as wait:
        from ..training.quantization import export_quantized

        measured = export_quantized(
            model, scale, target, data, weights=weights, benchmarks=benchmarks, minutes=minutes, say=wait.say
        )
    for name, psnr in measured.items():
        typer.echo(f"{name}  {psnr:.3f} dB", err=True)
    typer.echo(target)


@models.command(short_help="Add a training run's weights to a folder of weights.")
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `vsr train`, finished or not.")],
    into: Annotated[Path, typer.Argument(help="Folder of weights with its manifest.toml.")],
    measure: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of images to measure on; repeatable.")] = None,
    clip: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE of a video to measure on as `vsr eval --video` does; repeatable."),
    ] = None,
    notice: Annotated[str, typer.Option(help="What users must know about the training images.")] = "",
    device: Annotated[str, typer.Option(help="Device to measure on: cpu or cuda.")] = "cpu",
    level_with: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of images: fit the last layer anew, so that flat areas stay flat and these images as they "
            "are; repeatable. For networks of luma."
        ),
    ] = None,
    scale: Annotated[
        list[int] | None,
        typer.Option("-x", "--scale", help="Only this scale, of weights that serve several; repeatable."),
    ] = None,
) -> None:
    """Copy a training run's best weights into a folder of weights, measured and written down in its manifest.

    For files that other programs run: `vsr export`.
    """
    from ..driver import check_device_here
    from ..errors import InputError
    from ..execution import check_device

    benchmarks = _named_folders(measure or ())
    clips = _named_paths("--clip NAME=FILE", clip or ())
    _check_folders([run, *(level_with or ())])
    for path in clips.values():
        if not path.is_file():
            raise InputError(f"No such file: {path}")
    check_device(device)
    check_device_here(device)
    from .progress import load_torch, waiting

    load_torch()
    import torch

    from ..device import find_device
    from ..training.export import export as export_run

    def measure_clips(model: str, scale: int, weights: Path, tuned_for: str) -> dict[str, Any]:
        from ..bench.compressed import figures

        found = {name: figures(path, model, scale, weights, tuned_for) for name, path in clips.items()}
        return {"compressed": found}

    more = measure_clips if clips else None
    with waiting(f"measuring {run.name}"):
        keys = export_run(
            run, into, benchmarks, notice, more, torch.device(find_device(device)), level_with or (), scale or ()
        )
    for key in keys:
        typer.echo(key)


def _named_folders(words: Sequence[str]) -> dict[str, Path]:
    """Folders of images by benchmark name, in lower case as in the manifest."""
    found = {name.lower(): folder for name, folder in _named_paths("--measure NAME=FOLDER", words).items()}
    _check_folders(found.values())
    return found


def _check_folders(folders: Iterable[Path]) -> None:
    from ..errors import InputError

    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"No such folder: {folder}")


def _named_paths(option: str, words: Sequence[str]) -> dict[str, Path]:
    from ..errors import UsageError

    found: dict[str, Path] = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not (name.isidentifier() and separator and path):
            raise UsageError(f"Expected {option}, got {word!r}")
        found[name] = Path(path)
    return found


def _named_value(word: str) -> tuple[str, Any]:
    """Split ``units=9`` into a name and a value, which is parsed as JSON or else kept as a string."""
    from ..errors import UsageError

    name, separator, value = word.partition("=")
    if not (name.isidentifier() and separator):
        raise UsageError(f"Expected --option NAME=VALUE, got {word!r}")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _rows(scale: int | None, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each model and scale asked for: those with weights first, then by scale, the fastest first.

    Raises:
        UsageError: no such model, or none with this scale.
    """
    from ..errors import UsageError
    from ..models import MODELS, TUNINGS, find_model, manifest
    from ..models.guide import expected_fps, quality, speed

    wanted = [model for model in MODELS if not names or any(name.lower() in model for name in names)]
    for name in names:
        if not any(name.lower() in model for model in wanted):
            find_model(name)
    keys = [(model, each) for model in wanted for each in MODELS[model].scales if scale in (None, each)]
    if not keys:
        scales = sorted({each for model in wanted for each in MODELS[model].scales})
        raise UsageError(
            f"Expected a scale that {', '.join(names) or 'a model'} has ({', '.join(map(str, scales))}), got {scale}"
        )
    rows = []
    for model, each in keys:
        parameters, macs = MODELS[model].cost[each]
        measured = manifest().get(f"{model}_x{each}", {})
        rows.append(
            {
                "model": model,
                "scale": each,
                "weights": MODELS[model].weights(each),
                "int8": MODELS[model].weights(each, quantized=True),
                "tuned_for": [kind for kind in TUNINGS if MODELS[model].weights(each, kind)],
                "speed": speed(model, each),
                "fps_480p": round(expected_fps(model, each), 2),
                "quality": quality(model, each),
                "set5": measured.get("set5"),
                "set14": measured.get("set14"),
                "parameters": parameters,
                "macs_per_pixel": macs,
                "paper": MODELS[model].paper,
            }
        )
    return sorted(rows, key=lambda row: (row["weights"] is None, row["scale"], -row["fps_480p"]))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    measured = f"{row['set5']['psnr']:.2f} dB" if row["set5"] else "–"
    quality = row["quality"] or ("not measured" if row["weights"] else "no weights")
    name = row["model"] + "*" * ((row["model"], row["scale"]) == (DEFAULT, DEFAULT_SCALE))
    return (
        name,
        f"×{row['scale']}",
        row["speed"],
        quality,
        measured,
        f"{row['parameters']:,}",
    )
