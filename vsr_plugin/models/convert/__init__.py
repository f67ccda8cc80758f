"""Weights that were made elsewhere → ours: `convert` fits the tensors of a file to a model of the catalogue.

`files` reads them; `luma` and `rgb` know how others name and scale them; `variants` says what form of a network they
are of.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save

from ...errors import OutputError, UsageError, WeightsError
from .. import MODELS, ModelSpec, build_model, find_model
from ..cost import radius
from . import luma, rgb
from .files import WeightsFile, read_weights
from .variants import read_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from .layout import Layout

__all__ = ["Converted", "WeightsFile", "convert", "convert_file", "read_weights"]

# Widths on which no receptive field depends: a narrow network of the same form is measured sooner.
_NARROW = {"features": 8, "growth": 2}
_COUNT = "num_batches_tracked"  # of a batch normalisation: only training reads it, and some do not store it


@dataclass(frozen=True, slots=True)
class Converted:
    """Weights that fit.

    Attributes:
        spec: The catalogue's, with the options of the network that the weights are of, and its overlap.
        state: Its state, in the dtypes of its parameters.
        note: What is not the same as with their author's network, in one line; None if nothing.
    """

    spec: ModelSpec
    state: dict[str, Tensor]
    note: str | None = None


def convert_file(source: Path, target: Path, model: str, scale: int, *, overwrite: bool = False) -> str | None:
    """Convert a file of weights to one of ours.

    Args:
        source: As for `read_weights`.
        target: The .safetensors file to write.
        model: Name of our model with this architecture.
        scale: What the weights were trained for.
        overwrite: Replace an existing file.

    Returns:
        What could not be kept exactly, in one line; None if everything could.

    Raises:
        UsageError: an unknown model or scale, or a target of another kind.
        WeightsError: the source cannot be read, or is of another architecture.
        OutputError: the target exists, or cannot be written.
    """
    spec = find_model(model, scale)
    if target.suffix.lower() != ".safetensors":
        raise UsageError(f"Expected a file named .safetensors to write, got {target.name!r}")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists: add -y to overwrite it")
    converted = convert(read_weights(source), spec, scale)
    metadata = {"model": model, "scale": " ".join(map(str, spec.scales)) if spec.shared else str(scale)}
    if converted.spec.options != spec.options:
        metadata["options"] = json.dumps(dict(converted.spec.options))
    try:
        target.write_bytes(save(converted.state, metadata))
    except (OSError, SafetensorError) as error:
        raise OutputError(f"Cannot write {str(target)!r}: {error}") from error
    return converted.note


def convert(file: WeightsFile, spec: ModelSpec, scale: int) -> Converted:
    """Fit the weights of a file, ours or somebody else's, to a model.

    Raises:
        WeightsError: a tensor is missing, unknown, or of another shape.
    """
    layout = None if "model" in file.metadata else _find_layout(spec.architecture, file.tensors)
    theirs = MODELS.get(file.metadata.get("model", ""))
    if theirs is not None and theirs.architecture != spec.architecture:
        raise WeightsError(
            f"Expected weights of {spec.name}, got {file.name} of {theirs.name}: give --model {theirs.name}"
        )
    state = dict(file.tensors)
    if layout is not None:
        state = layout.fold(file.tensors, layout.rename(file.tensors))
    state, above = _without_larger_scales(state, scale)
    _check_scale(file, spec, scale, above=above)
    options = _options(file, spec, scale, state) | dict(layout.options if layout else {})
    expected = _shapes(replace(spec, options=options), scale)
    for name in expected:
        if name.endswith(_COUNT):
            state.setdefault(name, torch.zeros((), dtype=torch.int64))
    _check(file.name, state, expected, f"{spec.name} ×{scale}")
    state = {name: state[name].to(tensor.dtype).contiguous() for name, tensor in expected.items()}
    if options != spec.options:
        spec = replace(spec, options=options, overlap={scale: _overlap(spec, options, scale)})
    return Converted(spec, state, layout.note if layout else None)


def _find_layout(architecture: str, tensors: Mapping[str, Tensor]) -> Layout | None:
    """The layout that these tensors are in, unless they have our names."""
    for layout in (*luma.LAYOUTS, *rgb.LAYOUTS):
        if layout.architecture == architecture.partition(":")[2] and any(re.fullmatch(layout.mark, n) for n in tensors):
            return layout
    return None


def _options(file: WeightsFile, spec: ModelSpec, scale: int, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Those in the file; else the catalogue's, if its shapes fit; else what the weights say."""
    options = dict(spec.options)
    if "options" in file.metadata:
        try:
            return {**options, **json.loads(file.metadata["options"])}
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{file.name}: expected options in JSON, got {file.metadata['options']!r}") from error
    expected = {name: tensor.shape for name, tensor in _shapes(spec, scale).items() if not name.endswith(_COUNT)}
    if expected == {name: tensor.shape for name, tensor in state.items() if not name.endswith(_COUNT)}:
        return options
    return options | read_options(spec.architecture, state)


def _shapes(spec: ModelSpec, scale: int) -> dict[str, Tensor]:
    try:
        with torch.device("meta"):
            return build_model(spec, scale).state_dict()
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(f"Expected options that {spec.name} has, got {dict(spec.options)}: {error}") from error


def _overlap(spec: ModelSpec, options: Mapping[str, Any], scale: int) -> int:
    with torch.device("meta"):
        known = inspect.signature(type(build_model(replace(spec, options=options), scale))).parameters
    narrow = {name: width for name, width in _NARROW.items() if name in known}
    return radius(build_model(replace(spec, options={**options, **narrow}), scale), scale, spec.channels)


def _without_larger_scales(state: dict[str, Tensor], scale: int) -> tuple[dict[str, Tensor], bool]:
    """A pyramid enlarges by 2, 4, … in turn: its levels above ``scale`` are left out."""
    above = tuple(f"levels.{level}." for level in range(scale.bit_length() - 1, 8))
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(above)}
    return kept, len(kept) < len(state)


def _check_scale(file: WeightsFile, spec: ModelSpec, scale: int, *, above: bool) -> None:
    """No shape of an FSRCNN tells its scale, but our files do."""
    made_for = file.metadata.get("scale")
    if made_for and not spec.shared and not above and str(scale) not in made_for.split():
        raise WeightsError(
            f"{file.name} does not fit {spec.name} ×{scale}: expected weights for ×{scale}, got ×{made_for}"
        )


def _check(file: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor], model: str) -> None:
    if not state.keys() & expected.keys():
        names = ", ".join(list(state)[:3])
        raise WeightsError(f"{file} does not fit {model}: expected {next(iter(expected))} and so on, got {names}, …")
    for key in sorted(expected.keys() | state.keys()):
        want = tuple(expected[key].shape) if key in expected else "no such tensor"
        got = tuple(state[key].shape) if key in state else "none"
        if want != got:
            raise WeightsError(f"{file} does not fit {model}: {key}: expected {want}, got {got}")
