"""Weights to start from: of the same network, of the same network at another scale, or of a related network."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import WeightsError
from ..models.convert import read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_FIRST_STAGE = re.compile(r"upsample\.(?:x\d\.)?0\.(weight|bias)")
_LEVEL = re.compile(r"levels\.(\d+)\.(.+)")


def load_start(
    module: nn.Module, path: Path, scales: tuple[int, ...], rescaled: tuple[str, ...], patches: Tensor
) -> None:
    """Load the weights in ``path``; parameters that it lacks stay unchanged.

    If the weights are for another scale, parameters that depend on the scale are derived: a sub-pixel convolution by
    interpolating its phases (EDSR, MDSR), a level of a pyramid by repeating the one before it (LapSRN). A network with
    a method ``read_sibling`` can load a related network's weights (SRResNet, SRDenseNet), and with a method
    ``normalize`` then fits its normalization to the patches.

    Args:
        module: A network with its initial weights.
        path: A file of our own network's weights, of any kind that `read_weights` reads.
        scales: The module's scales.
        rescaled: Prefixes of the names of parameters that are not loaded from another scale.
        patches: (N, C, H, W) small patches in [0, 1] of the training images, on the module's device.

    Raises:
        WeightsError: there is no such file, or the weights do not fit.
    """
    file = read_weights(path)
    state, scale = dict(file.tensors), " ".join(map(str, scales))
    if file.metadata.get("scale", scale) != scale:
        state = {key: value for key, value in state.items() if not key.startswith(rescaled or ("\0",))}
    own = module.state_dict()
    state = {key: value.float() for key, value in state.items()}
    network: Any = module
    sibling = network.read_sibling(state) if hasattr(network, "read_sibling") else None
    state = _adapt(state if sibling is None else sibling, own)
    misfits = [key for key in state if key not in own or own[key].shape != state[key].shape]
    if misfits:
        raise WeightsError(f"{path.name} does not fit this network at ×{scale}: {', '.join(misfits)}")
    module.load_state_dict(own | state)
    if sibling is not None and hasattr(network, "normalize"):
        network.normalize(patches)


def ancestors(path: Path | None) -> list[dict[str, Any]]:
    """How the weights in ``path`` were made, oldest first: from the run beside them, or the manifest there."""
    if path is None:
        return []
    report = path.parent / "run.json"
    if report.exists():
        return lineage(json.loads(report.read_text(encoding="utf-8")))
    shelf = path.parent / "manifest.toml"
    rows = tomllib.loads(shelf.read_text(encoding="utf-8")) if shelf.exists() else {}
    return next(
        (row["training"] for key, row in rows.items() if row.get("file", f"{key}.safetensors") == path.name), []
    )


def lineage(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The commands that led to a run, its own last, from its run.json."""
    own = {"command": _command(report["settings"]), "steps": report["history"][-1]["step"]}
    return [*report["ancestors"], own]


def _command(settings: Mapping[str, Any]) -> str:
    """The command line that makes these weights, from the run's settings."""
    words = ["vsr", "train", settings["model"]]
    for scale in settings["scales"]:
        words += ["-x", str(scale)]
    options = {
        "--recipe": settings["recipe"],
        "--steps": settings["steps"],
        "--minutes": settings["minutes"],
        "--lr": settings["lr"],
        "--from": settings["start"],
        "--vgg": settings["vgg"],
        "--seed": settings["seed"],
        "--precision": settings["precision"],
        "--degradation": settings.get("degradation"),
    }
    for option, value in options.items():
        if value not in (None, "none"):
            words += [option, str(value)]
    return " ".join(words + [word for folder in settings["data"] for word in ("--data", folder)])


def _adapt(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    adapted: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key not in own or own[key].shape != tensor.shape:
            stage = _FIRST_STAGE.fullmatch(key)
            for name in own if stage else ():
                other = _FIRST_STAGE.fullmatch(name)
                if stage and other and other[1] == stage[1]:
                    adapted[name] = _interpolate_phases(tensor, own[name])
            if stage:
                continue
        adapted[key] = tensor
    for key in own:
        level = _LEVEL.fullmatch(key)
        before = f"levels.{int(level[1]) - 1}.{level[2]}" if level else ""
        if key not in adapted and before in adapted:
            adapted[key] = adapted[before]
    return adapted


def _interpolate_phases(tensor: Tensor, like: Tensor) -> Tensor:
    """A sub-pixel convolution of scale 2 as one of the scale of ``like``: (features·2², …) → (features·r², …)."""
    features = like.shape[1] if like.ndim > 1 else tensor.shape[0] // 4
    r = round((like.shape[0] / features) ** 0.5)
    position = ((torch.arange(r) + 0.5) * 2 / r - 0.5).clamp(0, 1)
    weights = torch.stack([1 - position, position], 1)  # (r, 2)
    phases = tensor.reshape(features, 2, 2, -1)
    return torch.einsum("ia,jb,fabk->fijk", weights, weights, phases).reshape(features * r * r, *tensor.shape[1:])
