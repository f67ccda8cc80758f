"""``vsr engine``: build TensorRT engine files before they are needed; ``vsr cache``: list and remove them."""

from __future__ import annotations

import json
import re
from pathlib import Path  # noqa: TC003 - typer reads the annotations when the command is registered
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from ..backends import check_precision
from ..errors import InputError, OutputError, UsageError
from ..installation import install
from ..models import CLEAN, find_model
from .stop import tell_if_stopped
from .values import TunedFor, complete_model, split_model

if TYPE_CHECKING:
    from ..backends.tensorrt import Target
    from ..backends.tensorrt.backend import TensorRTBackend

_LARGEST_SIDE = 16384  # pixels

engine = typer.Typer(name="engine", help="Build TensorRT engine files ahead of time.", no_args_is_help=True)
cache = typer.Typer(name="cache", help="List or remove cached engines and graphs.", no_args_is_help=True)

_CACHE_DIR = typer.Option(
    help="Folder of the cache. [default: that of VSR_CACHE_DIR, or vsr_plugin/engines in the user's cache folder]"
)


@engine.callback()
def _engine() -> None:
    """Keep `build` a subcommand: typer drops the name of a command that is the only one."""


@engine.command(short_help="Build the engine of a network for one size of frames.")
def build(
    model: Annotated[str, typer.Argument(help="Network; `vsr models` lists them.", autocompletion=complete_model)],
    scale: Annotated[int, typer.Option("-x", "--scale", help="Scale; `vsr models` lists those of each network.")],
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the input frames.")],
    compute_capability: Annotated[
        str | None,
        typer.Option(
            metavar="8.9",
            help="Compute capability of the GPU; TensorRT-RTX does not need that GPU here. [default: this GPU]",
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="One engine for all sizes from 16x16 to --size; a little slower.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Frames at a time, as in `vsr encode`; `vsr preview` takes 1.")] = 4,
    tile: Annotated[
        int | None, typer.Option(min=32, metavar="N", help="As in `vsr encode`. [default: whole frames]")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")] = None,
    tuned_for: TunedFor = CLEAN,
    cache_dir: Annotated[Path | None, _CACHE_DIR] = None,
    cache_size: Annotated[
        int,
        typer.Option(
            min=1, metavar="MB", help="Keep at most this much; engines that were not used for longest are removed."
        ),
    ] = 2000,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print a detailed log, and the traceback of an error.")
    ] = False,
) -> None:
    """Build the engine file that `--backend tensorrt` uses, and print its name."""
    from .terminal import speak

    speak(quiet=quiet, verbose=verbose)
    model, tuned_for = split_model(model, tuned_for)
    find_model(model, scale)
    width, height = _size(size)
    if tile is None and max(width, height) > _LARGEST_SIDE:
        raise UsageError(f"Expected --size up to {_LARGEST_SIDE}x{_LARGEST_SIDE}, got {size}: give --tile, too")
    if compute_capability is not None and not re.fullmatch(r"\d+\.\d", compute_capability):
        raise UsageError(f"Expected --compute-capability as 8.9, got {compute_capability!r}")
    chosen = check_precision("tensorrt", precision or "float16")

    from ..backends.tensorrt import check_installed
    from .progress import load_torch, waiting

    check_installed()
    load_torch()
    from .. import tiling
    from ..backends.cache import default_folder
    from ..backends.tensorrt.backend import TensorRTBackend, fixed, ranged
    from ..backends.tensorrt.flavor import find_flavor
    from ..models import read_model

    spec, module = read_model(model, scale, weights, tuned_for)
    _writable(cache_dir or default_folder())
    backend = TensorRTBackend(cache_dir, ahead=compute_capability is not None, cache_size=cache_size)
    target = _target(backend, compute_capability)
    if compute_capability is not None and find_flavor().name != target.flavor:
        typer.echo(
            "TensorRT is here, too, and `--backend tensorrt` takes it first: this engine is for elsewhere", err=True
        )
    grid = tiling.plan(height, width, tile, spec.overlap[scale], spec.multiple_of)
    shape = (batch, spec.channels, *grid.size)
    with waiting(f"preparing an engine of {model} ×{scale}", quiet=quiet):
        path, new = backend.build(module, spec, ranged(shape) if dynamic else fixed(shape), chosen, target)
    if not new and not quiet:
        typer.echo("It was there already.", err=True)
    typer.echo(path)


def _target(backend: TensorRTBackend, capability: str | None) -> Target:
    import torch

    if capability is None:
        if not torch.cuda.is_available():
            raise UsageError("No GPU here to build for: name one that is elsewhere, with --compute-capability 8.9")
        return backend.flavor.target(torch.device("cuda", torch.cuda.current_device()))
    if backend.flavor.name != "tensorrt_rtx":
        raise UsageError(
            "Expected no --compute-capability with TensorRT, which builds on the GPU it is for: leave it out, "
            f"or {install('tensorrt')}, which is TensorRT-RTX"
        )
    return backend.flavor.target_ahead(capability)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[xX×](\d+)", text)
    if found is None or int(found.group(1)) == 0 or int(found.group(2)) == 0:
        raise UsageError(f"Expected --size as 480x270, got {text!r}")
    return int(found.group(1)), int(found.group(2))


def _writable(folder: Path) -> Path:
    try:
        _folder(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise OutputError(f"Cannot keep engines in {folder} ({error.strerror}): choose another --cache-dir") from error


@cache.command("ls")
def list_cache(
    cache_dir: Annotated[Path | None, _CACHE_DIR] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List engines, graphs and other files of the cache, newest first."""
    from ..backends.cache import entries

    folder = _cache(cache_dir)
    files = entries(folder)
    if as_json:
        rows = [
            {"path": str(f.path), "kind": f.kind, "what": f.what, "size": f.size, "modified": f.modified.isoformat()}
            for f in files
        ]
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    for file in files:
        when = file.modified.astimezone()
        typer.echo(
            f"{file.path.stem[:12]}  {file.size / 1e6:8.2f} MB  {when:%Y-%m-%d %H:%M}  {file.kind:20}  {file.what}"
        )
    typer.echo(f"{_count(len(files), sum(file.size for file in files))} in {folder}", err=True)


@cache.command("clear", short_help="Remove what `vsr cache ls` lists.")
def clear_cache(cache_dir: Annotated[Path | None, _CACHE_DIR] = None) -> None:
    """Remove what `vsr cache ls` lists; it is made again when it is needed."""
    from ..backends.cache import clear

    tell_if_stopped(str)
    folder = _cache(cache_dir)
    typer.echo(f"Removed {_count(*clear(folder))} from {folder}", err=True)


def _cache(path: Path | None) -> Path:
    """The given folder, or the user's cache folder, which need not exist before the first engine is built."""
    from ..backends.cache import default_folder

    if path is None:
        return _folder(default_folder())
    if not path.exists():
        raise InputError(f"No such folder: {path}")
    return _folder(path)


def _folder(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise UsageError(f"Expected a folder, got {path}, which is a file: give the folder with --cache-dir")
    return path


def _count(number: int, size: int) -> str:
    return f"{number} file{'s' * (number != 1)}, {size / 1e6:.1f} MB,"
