"""Weights to start from: of the same network, of the same one at another scale, or of a sibling."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import WeightsError
from ..models.convert import read_weights
from ..models.layers import DIV2K_MEAN
from ..models.srresnet import SRResNet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_FIRST_STAGE = re.compile(r"upsample\.(?:x\d\.)?0\.(weight|bias)")
_LEVEL = re.compile(r"levels\.(\d+)\.(.+)")


def load_start(
    module: nn.Module, path: Path, scales: tuple[int, ...], rescaled: tuple[str, ...], patches: Tensor
) -> None:
    """Take over the weights in ``path``; what they lack stays as it is.

    Of another scale, what depends on the scale is made from what there is: a sub-pixel convolution by interpolating its
    phases (EDSR, MDSR), a level of a pyramid by repeating the one before it (LapSRN). EDSR is SRResNet with layers left
    out, so SRResNet of the same scale gives the same picture with its weights.

    Args:
        module: With its first weights.
        path: A file of our own network's weights, of any kind that `read_weights` reads.
        scales: Of the module.
        rescaled: Starts of the names of parameters that are not taken over from another scale.
        patches: (N, C, H, W) small patches in [0, 1] of the training pictures, on the module's device.

    Raises:
        WeightsError: no such file, or weights that do not fit.
    """
    file = read_weights(path)
    state, scale = dict(file.tensors), " ".join(map(str, scales))
    if file.metadata.get("scale", scale) != scale:
        state = {key: value for key, value in state.items() if not key.startswith(rescaled or ("\0",))}
    own = module.state_dict()
    state = {key: value.float() for key, value in state.items()}
    from_edsr = isinstance(module, SRResNet) and "blocks.0.conv1.weight" in state
    state = _adapt(_as_srresnet(state, own) if from_edsr else state, own)
    misfits = [key for key in state if key not in own or own[key].shape != state[key].shape]
    if misfits:
        raise WeightsError(f"{path.name} does not fit this network at ×{scale}: {', '.join(misfits)}")
    module.load_state_dict(own | state)
    if from_edsr:
        _normalize(module, patches)


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
    """The commands behind a run, its own the last, from its run.json."""
    own = {"command": _command(report["settings"]), "steps": report["history"][-1]["step"]}
    return [*report["ancestors"], own]


def _command(settings: Mapping[str, Any]) -> str:
    """The command line that makes these weights, from what the run asked for."""
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


def _as_srresnet(edsr: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """EDSR's weights under SRResNet's names, for batch normalisations that do nothing but add the biases.

    PReLUs inside of residuals become ReLUs, the others let all pass. Filters become the middle of larger ones; the mean
    color, and the range [-1, 1] of the output, become part of the first and of the last layer.
    """
    state = {}
    for key, value in own.items():
        if key.endswith(".weight") and value.ndim == 1 and key.replace("weight", "running_mean") not in own:
            state[key] = torch.full_like(value, 0.0 if key.startswith("blocks") else 1.0)
    mean = torch.tensor(DIV2K_MEAN)
    for key, value in edsr.items():
        match key.split("."):
            case ["head", "weight"]:
                state["head.0.weight"] = _widened(value, own["head.0.weight"])
            case ["head", "bias"]:
                state["head.0.bias"] = value - edsr["head.weight"].sum((2, 3)) @ mean
            case ["blocks", block, "conv1" | "conv2" as layer, kind]:
                place = 3 * (layer == "conv2") + (kind == "bias")
                state[f"blocks.{block}.layers.{place}.{kind}"] = value
            case ["body", kind]:
                state[f"body.{int(kind == 'bias')}.{kind}"] = value
            case ["upsample", stage, kind]:
                state[f"upsample.{int(stage) // 2 * 3}.{kind}"] = value
            case ["tail", "weight"]:
                state["tail.weight"] = _widened(2 * value, own["tail.weight"])
            case ["tail", "bias"]:
                state["tail.bias"] = 2 * (value + mean) - 1
            case _:
                state[key] = value
    return state


def _widened(filters: Tensor, like: Tensor) -> Tensor:
    margin = (like.shape[-1] - filters.shape[-1]) // 2
    return F.pad(filters, (margin,) * 4)


@torch.no_grad()
def _normalize(module: nn.Module, patches: Tensor) -> None:
    """Give every batch normalisation the statistics of what it sees, and let it undo them: it adds its bias alone."""

    def measure(layer: nn.Module, arguments: tuple[Tensor]) -> None:
        variance, mean = torch.var_mean(arguments[0], (0, 2, 3), correction=0)
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
        layer.weight.copy_((variance + layer.eps).sqrt())
        layer.bias.add_(mean)

    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    was_training = module.training
    module.eval()
    module(patches)
    module.train(was_training)
    for hook in hooks:
        hook.remove()


def _interpolate_phases(tensor: Tensor, like: Tensor) -> Tensor:
    """A sub-pixel convolution of scale 2 as one of the scale of ``like``: (features·2², …) → (features·r², …)."""
    features = like.shape[1] if like.ndim > 1 else tensor.shape[0] // 4
    r = round((like.shape[0] / features) ** 0.5)
    position = ((torch.arange(r) + 0.5) * 2 / r - 0.5).clamp(0, 1)
    weights = torch.stack([1 - position, position], 1)  # (r, 2)
    phases = tensor.reshape(features, 2, 2, -1)
    return torch.einsum("ia,jb,fabk->fijk", weights, weights, phases).reshape(features * r * r, *tensor.shape[1:])
