"""The models: `MODELS` describes them without reading weights, and `load_model` builds one.

A new model is one file beside this one and one row in `catalogue`. Nothing here imports torch before a model is
loaded, so that front ends can list and check names without delay.
"""

from __future__ import annotations

import difflib
import hashlib
import logging
import tomllib
from dataclasses import replace
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import check_type, checked_arguments
from ..errors import UsageError, WeightsError
from ..sources import Source
from .catalogue import MODELS
from .specs import CLEAN, TUNINGS, ModelSpec, NetworkSpec, weights_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

__all__ = [
    "CLEAN",
    "MODELS",
    "TUNINGS",
    "ModelSpec",
    "NetworkSpec",
    "architecture",
    "build_model",
    "check_tuning",
    "check_weights_file",
    "find_model",
    "find_sources",
    "load_model",
    "manifest",
    "read_model",
    "set_scale",
    "shipped_weights",
]

_log = logging.getLogger(__name__)

_READABLE = (".safetensors", ".pth", ".pt", ".npz")
_FOREIGN = (".mat", ".pb", ".h5", ".hdf5", ".caffemodel", ".onnx", ".tflite", ".ckpt")
_LFS = b"version https://git-lfs.github.com/spec/"
_STEPS = 300_000  # of a paper's training (Lim, CVPRW 2017); fewer lose tenths of a dB


def check_weights_file(path: Path) -> None:
    """Check a file of weights, as far as is possible before torch is loaded.

    Raises:
        WeightsError: there is no such file, its suffix is unknown, or it is a Git LFS pointer.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise WeightsError(f"No such file: {path}")
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise WeightsError(f"{path.name!r} is a Git LFS pointer, not the weights: fetch them with `git lfs pull`")
    if suffix not in _READABLE:
        way = ": save its tensors as .npz, by the names and shapes of the network" if suffix in _FOREIGN else ""
        raise WeightsError(f"Expected a file named {', '.join(_READABLE)}, got {path.name!r}{way}")


def find_model(name: str, scale: int | None = None) -> ModelSpec:
    """Look up a model, and check that it has this scale, unless that is None.

    Raises:
        UsageError: the name is unknown (the message lists the known ones, and suggests one that has weights), or the
            model lacks the scale.
    """
    check_type("model", name, str)
    check_type("scale", scale, int | None)
    if name not in MODELS:
        usable = sorted(model for model, spec in MODELS.items() if any(map(spec.weights, spec.scales)))
        others = sorted(MODELS.keys() - set(usable))
        close = difflib.get_close_matches(name.lower(), usable, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        known = "; without weights: ".join(", ".join(models) for models in (usable, others) if models)
        raise UsageError(f"Unknown model {name!r}.{hint} Known models: {known}")
    spec = MODELS[name]
    if scale is not None and scale not in spec.scales:
        others = [model for model, other in MODELS.items() if scale in other.scales and other.weights(scale)]
        elsewhere = f". Models with ×{scale}: {', '.join(others)}" if others else ""
        raise UsageError(
            f"Model {name!r} has no scale {scale}. Its scales: {', '.join(map(str, spec.scales))}{elsewhere}"
        )
    return spec


@cache
def manifest() -> Mapping[str, Mapping[str, Any]]:
    """The rows of weights/manifest.toml: ``espcn_x3`` → sha256, training, measured PSNR; file, if rows share one.

    Rows of weights for input that is not clean have ``tuned_for``, the kind of input.
    """
    path = resources.files("vsr_plugin.weights") / "manifest.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def build_model(spec: ModelSpec, scale: int) -> nn.Module:
    """The architecture with new weights: a module for samples in [0, 1], (N, C, H, W) → (N, C, H·scale, W·scale)."""
    return architecture(spec)(scale, **spec.options)


def architecture(spec: ModelSpec) -> type[nn.Module]:
    """The class of a model's network; its first argument is the scale, the others are options."""
    module_name, class_name = spec.architecture.split(":")
    module = import_module(module_name if "." in module_name else f".{module_name}", __name__)
    found: type[nn.Module] = getattr(module, class_name)
    return found


def set_scale(module: nn.Module, scale: int) -> None:
    """Set the scale of a module whose weights serve all scales (`ModelSpec.shared`)."""
    for part in module.modules():
        if hasattr(part, "scale"):  # the enlargement in front, or a network with a branch for each scale
            part.scale = scale  # type: ignore[assignment]


@checked_arguments()
def load_model(name: str, scale: int, weights: str | Path | None = None, *, tuned_for: str = CLEAN) -> nn.Module:
    """Build a model and read its weights: the shipped ones, or a file of the user's own.

    Args:
        name: A name in `MODELS`.
        scale: A scale of the model.
        weights: A .safetensors, .pth, .pt or .npz file, of this package or in a known layout of others (nothing in it
            is executed); the network then has the form of the weights.
        tuned_for: Which of the shipped weights: ``clean``, or ``video`` for input that has been compressed.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        UsageError: the model or scale is unknown, or has no weights for this kind of input.
        WeightsError: no weights are shipped, or the file is missing, corrupt or of another architecture.
    """
    return read_model(name, scale, weights, tuned_for)[1]


def check_tuning(tuned_for: str, weights: object = None) -> None:
    """Check the kind of input that weights should be tuned for.

    Raises:
        UsageError: the kind is unknown, or not ``clean`` and given together with weights of the user's own.
    """
    if tuned_for not in TUNINGS:
        raise UsageError(f"Unknown kind of input {tuned_for!r}. Weights are tuned for {' or '.join(TUNINGS)}")
    if weights is not None and tuned_for != CLEAN:
        raise UsageError("Expected weights of your own or shipped ones that are tuned, got both", tuned_for=None)


def shipped_weights(spec: ModelSpec, scale: int, tuned_for: str = CLEAN, *, quantized: bool = False) -> str:
    """File name of the shipped weights, or of those in 8 bits.

    Raises:
        UsageError: there are none for this kind of input, or none in 8 bits; the message lists those that exist.
        WeightsError: there are none at all; the message says how much work training them is.
    """
    check_tuning(tuned_for)
    file = spec.weights(scale, tuned_for, quantized=quantized)
    if file is not None:
        return file
    if quantized or tuned_for != CLEAN:
        there = {
            name: [f"×{each}" for each in other.scales if other.weights(each, tuned_for, quantized=quantized)]
            for name, other in MODELS.items()
        }
        known = ", ".join(f"{name} {' '.join(scales)}" for name, scales in there.items() if scales) or "none"
        lack = ["are tuned for " + tuned_for] * (tuned_for != CLEAN) + ["are in 8 bits, for precision int8"] * quantized
        raise UsageError(f"No weights of {spec.name} ×{scale} {' and '.join(lack)}. Those there are: {known}")
    # A step on 16 patches of 48 × 48 input pixels (Lim, CVPRW 2017): forward, and backward twice that.
    step = f"{6.0 * spec.cost[scale][1] * 16 * 48 * 48 / 1e12:.1g} TFLOP"
    raise WeightsError(
        f"No weights are shipped for {spec.name} ×{scale} (to train them takes about {_STEPS:,} steps of {step})",
        weights="FILE",
    )


def read_model(
    name: str, scale: int, weights: str | Path | None = None, tuned_for: str = CLEAN, *, quantized: bool = False
) -> tuple[ModelSpec, nn.Module]:
    """`load_model`, with the network's spec, whose overlap differs from the catalogue's if its form differs.

    With ``quantized``, read weights in 8 bits, of a `quantized.QuantizedNetwork`.
    """
    from .convert import convert, read_weights

    spec = find_model(name, scale)
    check_tuning(tuned_for, weights)
    path = _shipped_file(spec, scale, tuned_for, quantized=quantized)[0] if weights is None else Path(weights)
    file = read_weights(path)
    if quantized:
        from .quantized import read_quantized

        return spec, read_quantized(file, spec, scale)
    if weights is None:
        file = replace(file, metadata={**file.metadata, "model": name})  # the manifest says which models a file serves
    elif file.metadata.get("precision") == "int8":
        raise WeightsError(f"{file.name} holds weights in 8 bits, which only precision int8 computes with")
    converted = convert(file, spec, scale)
    if converted.note:
        _log.warning("%s: %s", file.name, converted.note)
    module = build_model(converted.spec, scale)
    module.load_state_dict(converted.state)
    return converted.spec, module.eval().requires_grad_(requires_grad=False)


def find_sources(
    spec: ModelSpec, scale: int | None, weights: str | Path | None, tuned_for: str, *, quantized: bool
) -> dict[int, tuple[ModelSpec, Source]]:
    """The network at a scale, or at every scale that has weights if that is None.

    Shipped weights are checked, but not read yet, which needs torch.

    Raises:
        UsageError: as `load_model`.
        WeightsError: ″
    """
    if weights is not None:
        if scale is None:
            read = read_models(spec, weights, tuned_for, quantized=quantized)
        else:
            read = {scale: read_model(spec.name, scale, weights, tuned_for, quantized=quantized)}
        return {each: (found, Source.of(module)) for each, (found, module) in read.items()}
    scales = [each for each in spec.scales if spec.weights(each, tuned_for, quantized=quantized) is not None]
    wanted: Iterable[int] = (scales or spec.scales[:1]) if scale is None else (scale,)
    return {each: (spec, _shipped(spec, each, tuned_for, quantized=quantized)) for each in wanted}


def _shipped(spec: ModelSpec, scale: int, tuned_for: str, *, quantized: bool) -> Source:
    path, row = _shipped_file(spec, scale, tuned_for, quantized=quantized)
    return Source(
        lambda: read_model(spec.name, scale, tuned_for=tuned_for, quantized=quantized)[1],
        f"{spec}, ×{scale}, {path.name}, {row['sha256']}",
        stays_flat=row.get("stays_flat"),
    )


def _shipped_file(spec: ModelSpec, scale: int, tuned_for: str, *, quantized: bool) -> tuple[Path, Mapping[str, Any]]:
    """The file of the shipped weights, which is as it was shipped, and its row of the manifest.

    Raises:
        UsageError: as `load_model`.
        WeightsError: ″
    """
    name = shipped_weights(spec, scale, tuned_for, quantized=quantized)
    path = Path(str(resources.files("vsr_plugin.weights") / name))
    check_weights_file(path)
    row = manifest()[weights_key(spec.name, scale, tuned_for)]
    row = row["int8"] if quantized else row
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != row["sha256"]:
            raise WeightsError(f"{path} is damaged, or not the file that was shipped: install the package again")
    return path, row


def read_models(
    spec: ModelSpec, weights: str | Path, tuned_for: str = CLEAN, *, quantized: bool = False
) -> dict[int, tuple[ModelSpec, nn.Module]]:
    """`read_model` of a file at every scale that it fits, by scale.

    Raises:
        WeightsError: the weights fit no scale, or several.
    """
    check_tuning(tuned_for, weights)
    found, failure = {}, None
    for one in spec.scales:
        try:
            found[one] = read_model(spec.name, one, weights, quantized=quantized)
        except WeightsError as error:
            failure = failure or error
    if failure is not None and not found:
        raise failure
    if len(found) > 1 and not spec.shared:
        fits = " and ".join(f"×{one}" for one in found)
        raise WeightsError(f"Expected weights that say their scale, got {weights}, which fit {spec.name} {fits} alike")
    return found
