"""``vsr export``: a network as a file for another program."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations when the command is registered
from typing import Annotated

import typer

from ..errors import OutputError
from ..models import find_model


def export(
    model: Annotated[str, typer.Argument(help="Network; `vsr models` lists them.")],
    to: Annotated[str, typer.Option("--to", help="glsl: a shader for mpv and libplacebo.")],
    scale: Annotated[int, typer.Option("-x", "--scale", help="How many times larger; `vsr models` says which.")] = 2,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="[default: MODEL_xSCALE.glsl]")] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a network as a file for another program, and print its name.

    mpv --glsl-shaders=espcn_x2.glsl film.mkv plays a film through the shader, on any GPU. Shaders exist for espcn,
    fsrcnn and fsrcnn-s.
    """
    find_model(model, scale)
    from ..export import default_target, export_file

    target = output or default_target(model, scale, to)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists", overwrite=True)
    typer.echo(export_file(model, scale, to, target, weights=weights, overwrite=overwrite))
