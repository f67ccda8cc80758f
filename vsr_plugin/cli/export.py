"""``vsr export``: write a network as a file for another program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from ..models import CLEAN
from .jobs import make_folder
from .networks import check_model
from .values import TunedFor, complete_model, split_model


def export(
    model: Annotated[str, typer.Argument(help="Network; `vsr models` lists them.", autocompletion=complete_model)],
    to: Annotated[str, typer.Option("--to", help="Kind of file: onnx, openvino or glsl.")],
    scale: Annotated[int, typer.Option("-x", "--scale", help="Scale; `vsr models` lists those of each network.")] = 2,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file, or a folder. [default: MODEL_xSCALE.onnx, .xml, .glsl]"),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")] = None,
    tuned_for: TunedFor = CLEAN,
    precision: Annotated[
        str, typer.Option(metavar="float32|float16", help="Of the weights; float16 halves the file. Not for glsl.")
    ] = "float32",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Accept frames of this size only, as OpenCV 4 needs for lapsrn. Not for glsl. [default: any]",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Overwrite existing files.")] = False,
) -> None:
    """Write a network as a file for other programs, and print its name.

    onnx: for ONNX Runtime, OpenCV, vs-mlrt, vs-jetpack and others. openvino: for OpenVINO, with the weights in a .bin
    file next to the .xml file. Both work for any network; their metadata says how to prepare frames. glsl: a shader for
    mpv and libplacebo, on any GPU, of espcn, fsrcnn or fsrcnn-s.

    `vsr models convert` does the opposite: it makes weights for vsr of those of others.
    """
    model, tuned_for = split_model(model, tuned_for)
    check_model(model, scale, weights, tuned_for, None, quantized=False)
    from ..export import export_file
    from .progress import waiting

    if output is not None and output.endswith(("/", "\\")):
        make_folder(Path(output))
    options: dict[str, Any] = {
        "weights": weights,
        "tuned_for": tuned_for,
        "precision": precision,
        "size": _size(size),
        "overwrite": overwrite,
    }
    with waiting(f"exporting {model} ×{scale}"):
        file = export_file(model, scale, to, output, **options)
    typer.echo(file)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if not found:
        raise UsageError(f"Expected --size as 480x270, got {text!r}")
    return int(found[1]), int(found[2])
