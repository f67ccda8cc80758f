"""Networks as files for other programs: `export_file` writes one.

`onnx` and `openvino` write whole networks, with metadata from `facts`; `chain` takes a network apart into convolutions,
and `glsl` writes them as a shader for mpv and libplacebo.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ..errors import BackendError, OutputError, UsageError
from ..installation import install
from ..models import CLEAN, check_tuning, find_model, read_model, shipped_weights
from ..tiling import margin_of

if TYPE_CHECKING:
    from ..models import ModelSpec

__all__ = ["KINDS", "ExportPrecision", "export_file"]

ExportPrecision = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Name for messages.
        module: Module of this package, whose ``write(network)`` returns the content of each file, by suffix.
        suffixes: Suffixes of its files; the first is the one that programs open.
        needs: Packages it needs that are no dependencies of ours.
        whole: Whether it holds any network, in any precision or for one size; else only luma in float32, for all sizes.
    """

    name: str
    module: str
    suffixes: tuple[str, ...]
    needs: tuple[str, ...] = ()
    whole: bool = True


CHAINS_ONLY = "Expected a luma network that is a plain row of convolutions, such as espcn, fsrcnn or fsrcnn-s"
KINDS = {
    "onnx": Kind("ONNX", "onnx", (".onnx",), needs=("onnx", "onnxscript")),
    "openvino": Kind("OpenVINO", "openvino", (".xml", ".bin")),
    "glsl": Kind("GLSL", "glsl", (".glsl",), whole=False),
}


def export_file(
    model: str,
    scale: int,
    kind: str,
    target: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    tuned_for: str = CLEAN,
    precision: ExportPrecision = "float32",
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a network as a file for another program.

    Args:
        model: A name out of `MODELS`.
        scale: One that the model has.
        kind: A name out of `KINDS`: ``onnx``, ``openvino`` (an .xml file, and a .bin file with the weights beside it),
            or ``glsl``, a user shader for mpv and libplacebo.
        target: The file to write, or a folder; by default ``espcn_x2.onnx`` in the current folder.
        weights: As for `load_model`.
        tuned_for: ″
        precision: Precision of weights: float16 halves the file. In ONNX, features are then float16, too, and only
            frames float32; with OpenVINO, the program that runs the network decides. Not for glsl.
        size: (width, height) of the only frames that the network takes, one at a time; by default any. Not for glsl.
        overwrite: Replace existing files.

    Returns:
        The file.

    Raises:
        UsageError: an unknown model, scale, kind or precision, a size that the network cannot take, or a network that
            this kind of file cannot hold.
        WeightsError: as `load_model` raises it.
        BackendError: a package is missing, or the network cannot be written.
        OutputError: the file exists, or cannot be written.
    """
    spec, target = _checked(model, scale, tuned_for, kind, target, precision, size)
    files = [target.with_suffix(suffix) for suffix in KINDS[kind].suffixes]
    for file in files:
        if os.path.lexists(file) and not overwrite:
            raise OutputError(f"{file} exists", overwrite=True)
    if not target.parent.is_dir():
        raise OutputError(f"Cannot write {target}: there is no such folder")
    check_tuning(tuned_for, weights)
    if weights is None:
        shipped_weights(spec, scale, tuned_for)
    for package in KINDS[kind].needs:
        if find_spec(package) is None:
            raise BackendError(f"ONNX files need {package}: {install('export')}")
    from .facts import Exported

    spec, module = read_model(model, scale, weights, tuned_for)
    network = Exported(spec, module, scale, precision, size, tuned_for if weights is None else None)
    content = import_module(f".{KINDS[kind].module}", __name__).write(network)
    parts = {file: file.with_name(f".vsr-{os.getpid()}{file.suffix}.part") for file in files}
    try:
        for file, part in parts.items():
            part.write_bytes(content[file.suffix])
        for file in reversed(files):  # the one that programs open comes last
            parts[file].replace(file)
    except OSError as error:
        raise OutputError(f"Cannot write {target}: {error.strerror}") from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return target


def _checked(
    model: str,
    scale: int,
    tuned_for: str,
    kind: str,
    target: str | Path | None,
    precision: str,
    size: tuple[int, int] | None,
) -> tuple[ModelSpec, Path]:
    """Check the arguments; return the model's specification, and the file to write."""
    spec = find_model(model, scale)
    if kind not in KINDS:
        raise UsageError(f"Unknown kind of file {kind!r}. Known kinds: {', '.join(KINDS)}")
    if precision not in get_args(ExportPrecision):
        raise UsageError(f"Expected the precision float32 or float16, got {precision!r}")
    if not KINDS[kind].whole and spec.channels != 1:
        raise UsageError(f"{CHAINS_ONLY}, got {model}, which takes RGB: players give a shader the luma only")
    if not KINDS[kind].whole and precision != "float32":
        raise UsageError(f"{KINDS[kind].name} files have no precision {precision}", precision=None)
    if not KINDS[kind].whole and size is not None:
        raise UsageError(f"{KINDS[kind].name} files are for every size", size=None)
    least = margin_of(spec.overlap[scale], spec.multiple_of)
    if size is not None and (min(size) < least or any(length % spec.multiple_of for length in size)):
        multiples = f", in multiples of {spec.multiple_of}" if spec.multiple_of > 1 else ""
        wanted = f"{least} samples or more each way{multiples}"
        raise UsageError(f"Expected a size of {wanted}, got {size[0]}x{size[1]}")
    suffix = KINDS[kind].suffixes[0]
    target = Path("" if target is None else target)
    if target.is_dir():
        target /= f"{model}_x{scale}{'' if tuned_for == CLEAN else f'_{tuned_for}'}{suffix}"
    if target.suffix != suffix:
        raise UsageError(f"Expected a folder, or a name that ends in {suffix} for {KINDS[kind].name}, got {target}")
    return spec, target
