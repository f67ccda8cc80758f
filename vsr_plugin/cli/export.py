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
    to: Annotated[str, typer.Option("--to", help="onnx, openvino or glsl.")],
    scale: Annotated[int, typer.Option("-x", "--scale", help="How many times larger; `vsr models` says which.")] = 2,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file, or a folder. [default: MODEL_xSCALE.onnx, .xml, .glsl]"),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")] = None,
    tuned_for: TunedFor = CLEAN,
    precision: Annotated[
        str, typer.Option(metavar="float32|float16", help="Of the weights; float16 halves the file. onnx and openvino.")
    ] = "float32",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="The only frames it takes; OpenCV 4 reads lapsrn only so. [default: any] onnx and openvino.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Write a network as a file that other programs run, and print its name.

    onnx: for ONNX Runtime, OpenCV, vs-mlrt, vs-jetpack and others. openvino: for OpenVINO, with the weights in a .bin
    file beside the .xml file. Both hold any network, take original frames, and say in their metadata what else must be
    known. glsl: a shader for mpv and libplacebo, on any GPU, of espcn, fsrcnn or fsrcnn-s.

    To bring weights the other way, into vsr, use `vsr models convert`.
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
