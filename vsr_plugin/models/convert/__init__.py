"""Converts other projects' weights to ours: `convert` fits the tensors of a file to a model of the catalogue.

`files` opens them; a network's module describes how others name and scale its tensors (``LAYOUTS``), and derives the
form of the network from tensors (``read_options``).
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save

from ...errors import OutputError, UsageError, WeightsError
from .. import MODELS, ModelSpec, architecture, build_model, find_model
from ..cost import radius
from ..layout import is_turned, turn
from .files import WeightsFile, read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType

    from torch import Tensor

    from ..layout import Layout

__all__ = ["Converted", "WeightsFile", "convert", "convert_file", "expected_tensors", "read_weights"]

_LARGEST_OPTION = 512  # layers, features, blocks
_QUOTED = 80  # characters of a file's text quoted in an error
# Widths that no receptive field depends on: a narrow network of the same form is measured faster.
_NARROW = {"features": 8, "growth": 2}
_COUNT = "num_batches_tracked"  # of a batch normalization: only training reads it, and some do not store it


@dataclass(frozen=True, slots=True)
class Converted:
    """Weights that fit.

    Attributes:
        spec: The catalogue's spec, with the options and the overlap of the weights' network.
        state: The state of that network, in the dtypes of its parameters.
        note: The difference from the author's network, in one line; None if there is none.
    """

    spec: ModelSpec
    state: dict[str, Tensor]
    note: str | None = None


def convert_file(
    source: Path,
    target: Path,
    model: str,
    scale: int,
    *,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> str | None:
    """Convert a file of weights to one of ours.

    Args:
        source: As for `read_weights`.
        target: The .safetensors file to write.
        model: Name of our model with this architecture.
        scale: The scale that the weights were trained for.
        options: Arguments of the network's class that the file does not state.
        overwrite: Replace an existing file.

    Returns:
        The remaining difference, in one line; None if there is none.

    Raises:
        UsageError: the model or scale is unknown, or the target has another suffix.
        WeightsError: the source cannot be read, or is of another architecture.
        OutputError: the target exists, or cannot be written.
    """
    spec = find_model(model, scale)
    if target.suffix.lower() != ".safetensors":
        raise UsageError(f"Expected a file named .safetensors to write, got {target.name!r}")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists", overwrite=True)
    converted = convert(read_weights(source), spec, scale, options)
    metadata = {"model": model, "scale": " ".join(map(str, spec.scales)) if spec.shared else str(scale)}
    if converted.spec.options != spec.options:
        metadata["options"] = json.dumps(dict(converted.spec.options))
    try:
        target.write_bytes(save(converted.state, metadata))
    except (OSError, SafetensorError) as error:
        raise OutputError(f"Cannot write {str(target)!r}: {error}") from error
    return converted.note


def convert(file: WeightsFile, spec: ModelSpec, scale: int, options: Mapping[str, Any] | None = None) -> Converted:
    """Fit the weights of a file, ours or another project's, to a model.

    Names and shapes are compared first; no tensor of a file that does not fit is read.

    Args:
        file: The result of `read_weights`.
        spec: The model.
        scale: The scale of the weights.
        options: Arguments of the network's class that override the file's.

    Raises:
        WeightsError: the weights are of another model; or a tensor is missing, unknown, of another shape, or of numbers
            that cannot be weights.
    """
    _check_model(file, spec)
    layout = None if "model" in file.metadata else _find_layout(spec, file)
    turned = (layout is None or layout.natural) and is_turned(file.tensors.shapes)

    def named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tensors = turn(tensors) if turned else tensors
        return layout.rename(tensors) if layout else dict(tensors)

    shapes, above = _without_larger_scales(named(file.tensors.shapes), scale)
    _check_scale(file, spec, scale, above=above)
    found = _options(file, spec, scale, shapes) | dict(layout.options if layout else {}) | dict(options or {})
    check_options(spec, found)
    _check_form(file, spec, found)
    expected = _shapes(replace(spec, options=found), scale)
    _check(file.name, shapes, expected, f"{spec.name} ×{scale}")
    _check_size(file, expected)
    tensors = dict(file.tensors)
    state = layout.fold(tensors, named(tensors)) if layout else named(tensors)
    state = {name: state.get(name, torch.zeros(())).to(tensor.dtype) for name, tensor in expected.items()}
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{file.name} does not fit {spec.name} ×{scale}: {name} holds NaN or infinity")
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    if found != spec.options:
        spec = replace(spec, options=found, overlap={scale: _overlap(spec, found, scale)})
    return Converted(spec, state, layout.note if layout else None)


def expected_tensors(spec: ModelSpec, scale: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor that a model's weights must have."""
    return {name: tuple(each.shape) for name, each in _shapes(spec, scale).items() if not name.endswith(_COUNT)}


def check_options(spec: ModelSpec, options: Mapping[str, Any]) -> None:
    """Check that a network can be built with these options, before it is built.

    Raises:
        WeightsError: the network lacks an option, or an option has another type, or a size that no network has.
    """
    known = _parameters(spec)
    for name, value in options.items():
        default = known[name].default if name in known else inspect.Parameter.empty
        if default is inspect.Parameter.empty:
            raise WeightsError(f"Expected options that {spec.name} has ({', '.join(known)}), got {name[:40]!r}")
        kinds = (int, type(None)) if default is None else (type(default),)
        fits = isinstance(value, kinds) and (isinstance(value, bool) == isinstance(default, bool))
        if isinstance(value, int) and not 0 <= value <= _LARGEST_OPTION:
            fits = False
        if not fits:
            raise WeightsError(f"Expected options that {spec.name} has, got {name}={str(value)[:40]}")


def _parameters(spec: ModelSpec) -> dict[str, inspect.Parameter]:
    known = dict(inspect.signature(architecture(spec)).parameters)
    known.pop("scale", None)
    return known


def _check_model(file: WeightsFile, spec: ModelSpec) -> None:
    """Check the models that a file of ours names; some models share an architecture."""
    named = file.metadata.get("model", "").split()
    theirs = [name for name in named if name in MODELS]
    if theirs and spec.name not in named:
        raise WeightsError(
            f"Expected weights of {spec.name}, got {file.name} of {theirs[0]}: choose the model {theirs[0]}"
        )


def _check_form(file: WeightsFile, spec: ModelSpec, options: Mapping[str, Any]) -> None:
    """Check that the weights do not have the form of another row of the catalogue."""
    rows = [row for row in MODELS.values() if row.architecture == spec.architecture]
    telling = {name for row in rows for name in row.options}
    defaults = {name: parameter.default for name, parameter in _parameters(spec).items()}

    def form(own: Mapping[str, Any]) -> dict[str, Any]:
        return {name: (defaults | dict(own))[name] for name in telling}

    if form(options) == form(spec.options):
        return
    for row in rows:
        if form(options) == form(row.options):
            raise WeightsError(
                f"Expected weights of {spec.name}, got {file.name} of {row.name}: choose the model {row.name}"
            )


def _find_layout(spec: ModelSpec, file: WeightsFile) -> Layout | None:
    """The layout of these tensors; None if they have our names."""
    layouts: tuple[Layout, ...] = getattr(_home(spec), "LAYOUTS", ())
    for layout in layouts:
        if re.fullmatch(layout.origin, file.origin) and any(re.fullmatch(layout.mark, name) for name in file.tensors):
            return layout
    return None


def _home(spec: ModelSpec) -> ModuleType:
    """The module of a network."""
    return sys.modules[architecture(spec).__module__]


def _options(file: WeightsFile, spec: ModelSpec, scale: int, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The file's options; or the catalogue's, if its shapes fit; or those derived from the weights."""
    options = dict(spec.options)
    if "options" in file.metadata:
        text = file.metadata["options"]
        try:
            return {**options, **json.loads(text)}
        except (TypeError, ValueError, RecursionError) as error:
            raise WeightsError(f"{file.name}: expected options in JSON, got {text[:_QUOTED]!r}") from error
    if expected_tensors(spec, scale) == {n: tuple(t.shape) for n, t in state.items() if not n.endswith(_COUNT)}:
        return options
    read = getattr(_home(spec), "read_options", None)
    try:
        return options | (read(state) if read else {})
    except (KeyError, IndexError, ValueError):  # a tensor that they are derived from is missing, or has another shape
        return options


def _shapes(spec: ModelSpec, scale: int) -> dict[str, Tensor]:
    try:
        with torch.device("meta"):
            return build_model(spec, scale).state_dict()
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        got, why = str(dict(spec.options))[:_QUOTED], str(error)[:_QUOTED]
        raise WeightsError(f"Expected options that {spec.name} has, got {got}: {why}") from error


def _overlap(spec: ModelSpec, options: Mapping[str, Any], scale: int) -> int:
    narrow = {name: width for name, width in _NARROW.items() if name in _parameters(spec)}
    return radius(build_model(replace(spec, options={**options, **narrow}), scale), scale, spec.channels)


def _without_larger_scales(state: dict[str, Tensor], scale: int) -> tuple[dict[str, Tensor], bool]:
    """Leave out a pyramid's levels above ``scale``: it enlarges by 2, 4, … in turn."""
    above = tuple(f"levels.{level}." for level in range(scale.bit_length() - 1, 8))
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(above)}
    return kept, len(kept) < len(state)


def _check_scale(file: WeightsFile, spec: ModelSpec, scale: int, *, above: bool) -> None:
    """Check the scale that our files state; the shapes of an FSRCNN do not reveal it."""
    made_for = file.metadata.get("scale")
    if made_for and not spec.shared and not above and str(scale) not in made_for.split():
        raise WeightsError(
            f"{file.name} does not fit {spec.name} ×{scale}: expected weights for ×{scale}, got ×{made_for[:_QUOTED]}"
        )


def _check(file: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor], model: str) -> None:
    wanted = {name: tensor for name, tensor in expected.items() if not name.endswith(_COUNT)}
    if not state.keys() & wanted.keys():
        names = ", ".join(name[:_QUOTED] for name in list(state)[:3])
        raise WeightsError(f"{file} does not fit {model}: expected {next(iter(wanted))} and so on, got {names}, …")
    for key in sorted(wanted.keys() | {name for name in state if name not in expected}):
        want = tuple(wanted[key].shape) if key in wanted else "no such tensor"
        got = tuple(state[key].shape) if key in state else "none"
        if want != got:
            raise WeightsError(f"{file} does not fit {model}: {key}: expected {want}, got {got}{_why(want, got)}")
        if not state[key].is_floating_point():
            kind = str(state[key].dtype).removeprefix("torch.")
            raise WeightsError(f"{file} does not fit {model}: {key}: expected floating-point numbers, got {kind}")


def _why(want: Any, got: Any) -> str:
    """The likely reason for a mismatch, if known."""
    if isinstance(want, tuple) and isinstance(got, tuple) and len(want) == len(got) == 4:
        different = {(a, b) for a, b in zip(want, got, strict=True) if a != b}
        if different == {(1, 3)}:
            return ": these weights are for three channels (RGB), and the model takes luma alone"
        if different == {(3, 1)}:
            return ": these weights are for luma alone, and the model takes three channels (RGB)"
    return ""


def _check_size(file: WeightsFile, expected: Mapping[str, Tensor]) -> None:
    """Check that a file is not much larger than the network; it may have more pyramid levels, or a mean shift."""
    most = 4 * sum(tensor.numel() for tensor in expected.values()) + (1 << 18)
    held = sum(tensor.numel() for tensor in file.tensors.shapes.values())
    if held > most:
        raise WeightsError(f"Expected up to {most:,} numbers in {file.name!r}, got {held:,}")
