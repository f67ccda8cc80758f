"""Prepares networks for bfloat16, which keeps only 8 bits of a number.

Rounding loses most at both ends of a network, where samples are large and errors stay: its input and output would be
rounded to half a code value of 8 bits. The layers between take most of the time and tolerate rounding, if the rounded
weights of a kernel keep their sum, which is the frame's contrast, and if biases compensate for the mean rounding error.

Frames of 8 bits need no such care at the front: their code values are exact in bfloat16. tanh takes a sixth of ESPCN's
time (`PERF_COUNT` of OpenVINO, ×2, Zen 4), and half of that as a quotient of polynomials.

Measured on Set14 against float32: FSRCNN ×2 loses 0.018 dB instead of 0.06, ESPCN ×3 nothing instead of 0.012, for a
twentieth more time. Networks that add a residual to the frame lose less (VDSR ×2 0.003 dB, EDSR ×2 0.001), as they
add the last convolution's unrounded output.

In a flat area every sample is rounded the same way, so errors do not average out: its level may move. `stays_flat`
checks whether it does.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ..models.deconvolution import with_subpixel_deconvolutions
from ..models.layers import BicubicUpsample
from .memory import tolerated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from ..models import NetworkSpec

_STEPS = 64  # steps in [0, 1], all exact in bfloat16; the rest of a sample is then exact to 14 bits
_CODES = 255.0
_FAR = 1e30
_STRAIGHT = 4.5  # beyond it, tanh is 1 within 0.0003
_LEVELS = range(16, 236)  # code values of 8 bits
_FEW = _LEVELS[::16]
_FEWER = _FEW[::4]
_SIDE = 4  # samples a side of a flat frame, in units of ``multiple_of``
_MOST = 0.5  # code values
_LIGHT = 100_000  # weights, at most, of networks that are corrected at every level


def for_bfloat16(module: nn.Module, spec: NetworkSpec, *, codes: bool = False) -> nn.Module:
    """Copy a module: with rounded weights, its first convolution split, its last one's sums not rounded.

    First and last are by the order in which the module names its convolutions.

    Args:
        module: ″
        spec: Its channels, and what its input's sides must be multiples of.
        codes: Whether every sample of its input is a whole number, divided by 255.
    """
    exact = module
    module = copy.deepcopy(module).requires_grad_(requires_grad=False)
    layers = [(name, part) for name, part in module.named_modules() if name and isinstance(part, nn.Conv2d)]
    codes = codes and len(layers) > 1 and _sees_codes(module, layers[0][1], spec)
    for part in list(module.modules()) if codes else ():  # with split samples, flat areas would not stay flat enough
        if getattr(part, "activation", None) is torch.tanh:
            part.activation = RationalTanh()
    for index, (name, layer) in enumerate(layers):
        first = index == 0 and index < len(layers) - 1
        layer.weight.copy_(_rounded(layer.weight / _CODES if first and codes else layer.weight))
        parent, _, child = name.rpartition(".")
        if index == len(layers) - 1:
            setattr(module.get_submodule(parent), child, UnroundedConvolution(layer))
        elif first and codes:
            setattr(module.get_submodule(parent), child, CodeConvolution(layer))
        elif first and layer.groups == 1:
            setattr(module.get_submodule(parent), child, SplitConvolution(layer))
    count = sum(layer.weight.numel() for _, layer in layers)
    with tolerated():  # a user's module may not take a frame as small as this
        _correct_biases(module, exact, _flat(_LEVELS if count <= _LIGHT else _FEW, spec))
    return module


@torch.no_grad()
def _sees_codes(module: nn.Module, layer: nn.Conv2d, spec: NetworkSpec) -> bool:
    """Whether a layer sees samples that are whole numbers, divided by 255, if those of the module's input are."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(_CODES * args[0]))
    side = _SIDE * spec.multiple_of
    frame = torch.arange(spec.channels * side**2) * 89 % 256  # no two neighbors are alike
    with tolerated():  # it may not take a frame as small as this
        module(frame.reshape(1, spec.channels, side, side) / _CODES)
    hook.remove()
    return bool(seen) and all(bool((x - x.round()).abs().max() < 1e-3 and 0 <= x.min() <= x.max() <= 255) for x in seen)


def _rounded(weight: Tensor) -> Tensor:
    """Round (out, in, K, K) to bfloat16; every tap compensates for the error of the taps before it in its kernel."""
    taps = weight.flatten(2)
    rounded = torch.empty_like(taps)
    error = torch.zeros_like(taps[..., 0])
    for index in range(taps.shape[2]):
        wanted = taps[..., index] + error
        rounded[..., index] = wanted.to(torch.bfloat16)
        error = wanted - rounded[..., index]
    return rounded.reshape(weight.shape)


def _flat(levels: Iterable[int], spec: NetworkSpec) -> Tensor:
    """One flat frame of each level, (levels, C, H, W)."""
    level = torch.tensor(list(levels)).reshape(-1, 1, 1, 1) / 255
    return level.repeat(1, spec.channels, *(_SIDE * spec.multiple_of,) * 2)


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def _endless(module: nn.Module, *, rounding: bool) -> nn.Module:
    """A copy in which flat frames have no border; with ``rounding``, the inputs of layers become bfloat16."""
    module = copy.deepcopy(module)
    for layer in _convolutions(module):
        if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            layer.padding_mode = "replicate"
    for part in module.modules() if rounding else ():
        if isinstance(part, (nn.Conv2d, RationalTanh)):
            part.register_forward_pre_hook(_round)
    return module


def _round(layer: nn.Module, args: tuple[Tensor]) -> None:
    """Round in place, as a residual may be added to this tensor."""
    args[0].copy_(args[0].to(torch.bfloat16))


def _correct_biases(module: nn.Module, exact: nn.Module, flat: Tensor) -> None:
    """Correct biases so that every convolution's sums are those in ``exact``, on average over flat frames.

    OpenVINO rounds all biases but the last one's, which halves the largest remaining error. Convolutions that have no
    bias, or are used several times, stay unchanged.

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section
    4.2 and the appendix on averages over data.
    """
    sums: dict[int, list[Tensor]] = {}
    layers = _convolutions(module)
    last = len(layers) - 1
    plain, rounded = _endless(exact, rounding=False), _endless(module, rounding=True)

    def note(index: int, out: Tensor) -> None:
        sums.setdefault(index, []).append(out.clone() if index == last else out.mean((0, 2, 3)))

    def correct(index: int, out: Tensor) -> Tensor:
        bias = layers[index].bias
        if bias is None or len(sums[index]) != 1:
            return out
        if index == last:
            error = out - sums[index][0]
            least, most, mean = error.amin((0, 2, 3)), error.amax((0, 2, 3)), error.mean((0, 2, 3))
            # The middle keeps errors within half a code value; where that is impossible, the mean fits most samples.
            corrected = bias - torch.where(255 * (most - least) <= 2 * _MOST, (least + most) / 2, mean)
        else:
            corrected = (bias - (out.mean((0, 2, 3)) - sums[index][0])).to(torch.bfloat16).float()
        out = out + (corrected - bias).reshape(1, -1, 1, 1)
        bias.copy_(corrected)
        return out

    for copied, hook in ((plain, note), (rounded, correct)):
        for index, layer in enumerate(_convolutions(copied)):
            layer.register_forward_hook(lambda _layer, _args, out, index=index, hook=hook: hook(index, out))
    with torch.no_grad():
        plain(flat.clone())
        rounded(flat.clone())


@torch.no_grad()
def stays_flat(module: nn.Module, spec: NetworkSpec) -> bool:
    """Whether a module in bfloat16 moves the level of no flat frame by more than half a code value of 8 bits.

    The samples made of one input sample must not differ by more, either. It is computed in torch, with OpenVINO's
    rounding, so that the result does not depend on the machine.

    Args:
        module: Any module; it is not changed.
        spec: Its channels, and what its input's sides must be multiples of.
    """
    with tolerated():  # compiling it will report its error
        module = with_subpixel_deconvolutions(module).to("cpu", torch.float32).eval()
        if not _is_flat(_endless(module, rounding=False), _FEWER, spec):
            return False
        forms = (False,) if isinstance(getattr(module, "upsample", None), BicubicUpsample) else (False, True)
        rounded = [_endless(for_bfloat16(module, spec, codes=codes), rounding=True) for codes in forms]
        return all(_is_flat(form, levels, spec) for levels in (_FEW, _LEVELS) for form in rounded)
    return False


def _is_flat(module: nn.Module, levels: Iterable[int], spec: NetworkSpec) -> bool:
    flat = _flat(levels, spec)
    large = module(flat.clone())
    r = large.shape[-1] // flat.shape[-1]
    phases = F.pixel_unshuffle(large, r).mean((2, 3))
    moved = (large - flat[..., :1, :1]).abs().max()
    spread = (phases.amax(1) - phases.amin(1)).max()
    return 255 * max(float(moved), float(spread)) <= _MOST


class SplitConvolution(nn.Module):
    """A convolution that takes every sample as a sum of two: one exact in bfloat16, and the small rest."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = copy.deepcopy(layer)
        self.convolution.in_channels *= 2
        self.convolution.weight = nn.Parameter(layer.weight.repeat(1, 2, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, out, H, W)."""
        high = torch.floor(x * _STEPS) / _STEPS
        result: Tensor = self.convolution(torch.cat([high, x - high], 1))
        return result


class CodeConvolution(nn.Module):
    """A convolution that takes samples of 8 bits as their code values; its weights are divided by 255."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] → (N, out, H, W)."""
        result: Tensor = self.convolution(torch.round(x * _CODES))
        return result


class RationalTanh(nn.Module):
    """tanh as a quotient of polynomials, whose relative error is below 0.00004 up to `_STRAIGHT`.

    OpenVINO rounds its input to bfloat16, as a convolution's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        x = x.clamp(-_STRAIGHT, _STRAIGHT)
        square = x * x
        above = x * (1 + square * (0.10416722 + square * 0.00072614))
        return above / (1 + square * (0.4373693 + square * 0.01336076))


class UnroundedConvolution(nn.Module):
    """A convolution followed by an operation without effect: OpenVINO rounds only what convolutions read and write."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, out, H, W)."""
        return F.hardtanh(self.convolution(x), -_FAR, _FAR)
