"""Makes weights in 8 bits from trained ones: layer by layer, to keep the network's results.

A layer's weights are first fitted again to its inputs, which are rounded by then; then they are rounded one after the
other, and the remaining ones compensate for each rounding error.

Sources: Frantar et al., "GPTQ: Accurate Post-Training Quantization", ICLR 2023, for the order of rounding and the
Cholesky factor that gives the compensation.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import os
import tomllib
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import InputError, OutputError, UsageError
from ..evaluation import evaluate
from ..images import read_images
from ..models import MODELS, read_model
from ..models.deconvolution import with_subpixel_deconvolutions
from ..models.quantized import PEAK, QuantizedConvolution, QuantizedNetwork, convolutions, mirrored, replace_part
from ..models.specs import weights_key
from .distillation import distill
from .export import dump_manifest
from .small_patches import training_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)

_LEVELS = range(16, 236)  # code values of flat patches
_SIDE = 16  # samples of a flat patch
_FLAT = 1.0  # weight of flat patches, relative to all others
_LEVEL = 0.01  # weight of the sum of a kernel in the last layer, relative to the mean square of its inputs
_DAMPING = 3e-4  # of the mean square of a layer's inputs
_CROP = 4  # outputs at the border of a patch, which depend on padding
_GROUP = 32  # patches at once
_SAMPLES = 20_000  # of a channel, to find its range
_PLAIN = ("srcnn", "fsrcnn", "espcn")  # networks that are a sequence of layers, the last of which makes the output
_TRAINED = 400  # images to train on
_SHARES = 29  # of the largest value, tried as the limit


@torch.no_grad()
def quantize(
    module: nn.Module, scale: int, patches: Tensor, say: Callable[[str], None] = lambda _: None
) -> QuantizedNetwork:
    """Make a network in 8 bits with nearly the same results.

    Args:
        module: A luma network in float32: (N, 1, H, W) → (N, 1, H·scale, W·scale).
        scale: ″
        patches: (N, 1, S, S) samples of its inputs, S at least 24; some hundreds are enough.
        say: Called with a line on what is being done.
    """
    truth = with_subpixel_deconvolutions(module).eval()
    result = QuantizedNetwork(module, scale).eval()
    levels = torch.tensor(_LEVELS, dtype=torch.float32) / 255
    groups = [*torch.split(patches, _GROUP), levels.reshape(-1, 1, 1, 1).expand(-1, 1, _SIDE, _SIDE)]
    shares = [1 / (len(groups) - 1)] * (len(groups) - 1) + [_FLAT]
    _fit_linear(result, truth, groups, shares)
    working = copy.deepcopy(truth)
    layers = list(convolutions(truth))
    for name, layer in layers:
        say(f"rounding {name}")
        part = result.network.get_submodule(name)
        assert isinstance(part, QuantizedConvolution)
        if not part.first:
            _set_range(part, torch.cat([_input(working, name, group) for group in groups[:-1]]))
        kernel = layer.kernel_size[0]
        sums = _Sums(part.weight[0].numel() + 1, len(part.weight))
        for group, share in zip(groups, shares, strict=True):
            y = layer(_input(truth, name, group))
            if layer is layers[-1][1]:
                y = y - result.beside(group)
            x = F.pad(part.rounded(_input(working, name, group)), part.padding, part.mode)
            sums.add(F.unfold(x, kernel).reshape(len(x), -1, *y.shape[2:]), y, share, constant=True)
        _round(part, sums, part.unrounded(layer.weight), _LEVEL if layer is layers[-1][1] else 0.0)
        replace_part(working, name, part)
    return result


class _Sums:
    """Sums of products over inputs and outputs of a layer: all that a least-squares fit needs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.gram = torch.zeros(inputs, inputs, dtype=torch.float64)
        self.cross = torch.zeros(outputs, inputs, dtype=torch.float64)

    def add(self, x: Tensor, y: Tensor, share: float, *, constant: bool) -> None:
        """Add (N, inputs, H, W) and (N, outputs, H, W), without their borders, and with ``constant`` an input of 1."""
        crop = _CROP if y.shape[2] > 4 * _CROP else (y.shape[2] - 1) // 2
        rows, y = (each[..., crop:-crop, crop:-crop].transpose(0, 1).flatten(1) for each in (x, y))
        if constant:
            rows = torch.cat([rows, torch.ones(1, rows.shape[1])])
        self.gram += share / rows.shape[1] * (rows @ rows.T).double()
        self.cross += share / rows.shape[1] * (y @ rows.T).double()


def _fit_linear(result: QuantizedNetwork, truth: nn.Module, groups: list[Tensor], shares: list[float]) -> None:
    """Fit the linear filter to the network's results by least squares."""
    layer = result.linear
    sums = _Sums(layer.weight[0].numel(), len(layer.weight))
    for group, share in zip(groups, shares, strict=True):
        y = F.pixel_unshuffle(truth(group), result.shuffle.upscale_factor)
        x = F.unfold(group, layer.kernel_size, padding=layer.kernel_size[0] // 2)
        sums.add(x.reshape(len(x), -1, *y.shape[2:]), y, share, constant=False)
    sums.gram.diagonal().add_(1e-7 * sums.gram.diagonal().mean())
    layer.weight.copy_(torch.linalg.solve(sums.gram, sums.cross, left=False).reshape(layer.weight.shape))


def _input(module: nn.Module, name: str, x: Tensor) -> Tensor:
    """The input of a part of a module, for ``x``."""
    found: list[Tensor] = []
    hook = module.get_submodule(name).register_forward_pre_hook(lambda _, arguments: found.append(arguments[0]))
    module(x)
    hook.remove()
    return found[0]


def _set_range(part: QuantizedConvolution, x: Tensor) -> None:
    """Choose the largest value of every channel of (N, C, H, W): clamping some values makes steps finer."""
    signed = bool((x < 0).any())
    part.zero.fill_(128 if signed else 0)
    peak = 127 if signed else 255
    values = x.transpose(0, 1).flatten(1).abs()
    values = values[:, :: max(1, values.shape[1] // _SAMPLES)]
    largest = values.amax(1).clamp_min(1e-6)
    best, limit = torch.full_like(largest, torch.inf), largest
    for share in torch.linspace(1, 0.3, _SHARES):
        tried = share * largest
        error = (values - tried[:, None]).clamp_min(0).square().mean(1) + (tried / peak).square() / 12
        limit = torch.where(error < best, tried, limit)
        best = torch.minimum(error, best)
    part.gain.copy_((peak / limit).reshape(part.gain.shape))


def _round(part: QuantizedConvolution, sums: _Sums, before: Tensor, level: float) -> None:
    """Fit the weights to the sums, near their values before, and round them.

    In a flat area all inputs of a kernel are rounded alike, and the errors add up; ``level`` keeps their sum small.
    """
    mean, total = sums.gram[-1, :-1], sums.gram[-1, -1]
    spread = sums.gram[:-1, :-1] - torch.outer(mean, mean) / total
    damping = _DAMPING * spread.diagonal().mean()
    spread.diagonal().add_(damping)
    taps = part.weight[0, 0].numel()
    kernels = torch.eye(part.weight.shape[1]).kron(torch.ones(taps, taps))
    spread += level * sums.gram.diagonal()[:-1].mean() * kernels
    wanted = sums.cross[:, :-1] - torch.outer(sums.cross[:, -1], mean) / total
    weight = torch.linalg.solve(spread, wanted + damping * before.flatten(1).double(), left=False)
    step = weight.abs().amax(1, keepdim=True) / PEAK
    whole = _rounded(weight, spread, step)
    part.weight.copy_(whole.reshape(part.weight.shape))
    part.step.copy_(step.reshape(part.step.shape))
    part.bias.copy_((sums.cross[:, -1] - (whole * step) @ mean) / total)


def _rounded(weight: Tensor, spread: Tensor, step: Tensor) -> Tensor:
    """Round weights (out, in) to whole numbers of steps; those of the inputs that vary most come first."""
    order = spread.diagonal().argsort(descending=True)
    weight = weight[:, order].clone()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(spread[order][:, order]))
    factor = torch.linalg.cholesky(inverse, upper=True)
    whole = torch.empty_like(weight)
    for i in range(weight.shape[1]):
        column = slice(i, i + 1)
        whole[:, column] = (weight[:, column] / step).round().clamp(-PEAK, PEAK)
        error = (weight[:, column] - whole[:, column] * step) / factor[i, i]
        weight[:, i:] -= error * factor[column, i:]
    return whole[:, order.argsort()]


def export_quantized(
    model: str,
    scale: int,
    target: Path,
    folders: Sequence[Path],
    *,
    weights: Path | None = None,
    benchmarks: Mapping[str, Path] | None = None,
    minutes: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """Write a model's weights in 8 bits, and measure them.

    Beside shipped weights, the figures are also written to their row in the manifest.

    Args:
        model: Name of a luma model.
        scale: A scale of the model.
        target: The .safetensors file to write.
        folders: Folders of images to fit them to.
        weights: The weights to convert; by default the shipped ones.
        benchmarks: Name → folder of images to measure them on.
        minutes: How long to train the rounded weights.
        say: Called with a line on what is being done.

    Returns:
        The PSNR of each benchmark in dB.

    Raises:
        UsageError: another model, or minutes below 0 or without end.
        InputError: images, or a manifest beside the file, that cannot be read.
        OutputError: the file cannot be written.
    """
    spec, module = read_model(model, scale, weights)
    if spec.architecture.partition(":")[0] not in _PLAIN or spec.options != MODELS[model].options:
        raise UsageError(f"Expected SRCNN, FSRCNN or ESPCN in the form of the catalogue, got {model}")
    if not 0 <= minutes < math.inf:
        raise UsageError(f"Expected minutes of training from 0 on, got {minutes}")
    if not target.parent.is_dir():
        raise OutputError(f"Cannot write {str(target)!r}: there is no such folder")
    if target.is_dir() or not os.access(target if target.exists() else target.parent, os.W_OK):
        raise OutputError(f"Cannot write {str(target)!r}")
    if weights is not None and target.exists() and target.samefile(weights):
        raise OutputError(f"Cannot write {str(target)!r}: it holds the weights to convert; name another file")
    manifest, key = target.parent / "manifest.toml", weights_key(model, scale)
    try:
        rows = tomllib.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {str(manifest)!r}: {error}") from error
    result = quantize(module, scale, training_patches(folders, scale), say)
    if minutes:
        patches, margin = training_patches(folders, scale, _TRAINED), spec.overlap[scale] * scale
        if not distill(result, module, patches, margin, minutes, say):
            _log.warning("training brought nothing: the weights are only rounded")
    measured: dict[str, dict[str, float]] = {}
    for name, folder in (benchmarks or {}).items():
        say(f"measuring on {name}")
        scores = evaluate(mirrored(result, scale, spec.overlap[scale]), scale, read_images(folder))
        measured[name] = {"psnr": round(scores.psnr, 3), "ssim": round(scores.ssim, 4)}
    content = save(result.state_dict(), {"model": model, "scale": str(scale), "precision": "int8"})
    try:
        target.write_bytes(content)
        if weights is None and key in rows:
            of = {"file": target.name, "sha256": hashlib.sha256(content).hexdigest()}
            rows[key]["int8"] = of | measured
            manifest.write_text(dump_manifest(rows), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write {str(target)!r}: {error}") from error
    return {name: found["psnr"] for name, found in measured.items()}
