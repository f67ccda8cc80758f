"""Convolutions in 8 bits: inputs and weights are whole numbers, which processors multiply several times as fast.

A network keeps its structure: `QuantizedNetwork` replaces every convolution by a `QuantizedConvolution`. In torch it
computes with rounded numbers in float32, as the reference; OpenVINO finds the same operations in the trace, and
computes with integers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError
from .deconvolution import with_subpixel_deconvolutions
from .layers import mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .convert import WeightsFile
    from .specs import ModelSpec

_TAPS = 5  # a side, of the linear filter
PEAK = 127  # of a weight; of an input it is 255
_FINE = 16  # steps of the first convolution's inputs per code value


class QuantizedConvolution(nn.Module):
    """A convolution whose inputs are rounded to 0 … 255 and whose weights are whole numbers in ±127.

    The first one of a network splits every sample in two: whole code values of 8 bits, and sixteenths of one, so that
    samples of 10 bits are not rounded.

    Attributes:
        gain: (1, in, 1, 1) factor of an input channel before it is rounded.
        zero: The integer for 0.0: 0 for inputs of one sign, 128 for others.
        weight: (out, in, K, K) int8; twice as many inputs in the first convolution.
        step: (out, 1, 1, 1) the value of a weight of 1.
        bias: (out,) in the output's units.
        beside: Added to the outputs of the last convolution of a network; otherwise None.

    Args:
        layer: The convolution that it replaces; of one group, without dilation, and of stride 1.
        first: Whether its inputs are the samples of a frame.
    """

    gain: Tensor
    zero: Tensor
    weight: Tensor
    step: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Conv2d, *, first: bool) -> None:
        super().__init__()
        self.first = first
        assert not isinstance(layer.padding, str)
        self.padding = (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0])
        self.mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        out, channels, *kernel = layer.weight.shape
        self.beside: Tensor | None = None
        self.register_buffer("gain", torch.full((1, channels, 1, 1), 255.0))
        self.register_buffer("zero", torch.zeros(1, dtype=torch.int32))
        self.register_buffer("weight", torch.zeros(out, channels * (1 + first), *kernel, dtype=torch.int8))
        self.register_buffer("step", torch.ones(out, 1, 1, 1))
        self.register_buffer("bias", torch.zeros(out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H, W)."""
        y = self.convolve(self.rounded(x), self.weight.to(torch.float32) * self.step)
        return y if self.beside is None else y + self.beside

    def rounded(self, x: Tensor) -> Tensor:
        """The rounded inputs that the weights are multiplied by, around 0."""
        x = x * self.gain
        if self.first:
            whole = torch.floor(x)
            x = torch.cat([whole, (x - whole) * _FINE], 1)
        return torch.fake_quantize_per_tensor_affine(x, 1.0, int(self.zero), 0, 255)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve rounded inputs."""
        if self.mode == "constant":
            return F.conv2d(x, weight, self.bias, padding=(self.padding[2], self.padding[0]))
        return F.conv2d(F.pad(x, self.padding, self.mode), weight, self.bias)

    def unrounded(self, weight: Tensor) -> Tensor:
        """Convert weights for unrounded inputs to weights for the output of `rounded`."""
        weight = weight / self.gain
        return torch.cat([weight, weight / _FINE], 1) if self.first else weight


class QuantizedNetwork(nn.Module):
    """A network in 8 bits, plus a linear filter of the frame in float32.

    The filter carries levels and gradients, which rounding would turn into steps; the network adds only detail.

    Args:
        module: A luma network in float32; its deconvolutions become convolutions in their sub-pixel form.
        scale: The network's.
    """

    def __init__(self, module: nn.Module, scale: int) -> None:
        super().__init__()
        self.network = with_subpixel_deconvolutions(module)
        layers = list(convolutions(self.network))
        first = layers[0][1]
        pads = first.padding_mode == "zeros" and first.padding != (0, 0)
        self.linear = nn.Conv2d(
            1, scale * scale, _TAPS, padding=_TAPS // 2, padding_mode="zeros" if pads else "replicate", bias=False
        )
        self.shuffle = nn.PixelShuffle(scale)
        for name, layer in layers:
            replace_part(self.network, name, QuantizedConvolution(layer, first=layer is first))
        self._last = layers[-1][0]
        self.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) → (N, 1, H·scale, W·scale)."""
        last = self.network.get_submodule(self._last)
        assert isinstance(last, QuantizedConvolution)
        last.beside = self.beside(x)
        result: Tensor = self.network(x)
        last.beside = None
        return result

    def beside(self, x: Tensor) -> Tensor:
        """The filter's result for a frame, in the layout of the last convolution's outputs."""
        phases: Tensor = self.linear(x)
        last = self.network.get_submodule(self._last)
        assert isinstance(last, QuantizedConvolution)
        if last.bias.shape == phases.shape[1:2]:
            return phases
        large: Tensor = self.shuffle(phases)
        return large


def mirrored(network: Callable[[Tensor], Tensor], scale: int, margin: int) -> Callable[[Tensor], Tensor]:
    """A network whose input is mirrored at its border, as when video is enlarged.

    Networks in 8 bits are measured like this: with zeros beyond the border, their results differ from the float ones.
    """

    def run(x: Tensor) -> Tensor:
        crop = slice(margin * scale, -margin * scale)
        return network(mirror(x, margin))[..., crop, crop]

    return run


def convolutions(module: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """The convolutions of a module with their names, in the order in which it names them."""
    return ((name, part) for name, part in module.named_modules() if isinstance(part, nn.Conv2d))


def replace_part(module: nn.Module, name: str, part: nn.Module) -> None:
    """Replace the part of this name."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, part)


def read_quantized(file: WeightsFile, spec: ModelSpec, scale: int) -> QuantizedNetwork:
    """Build a model in 8 bits, with the weights of a file.

    Raises:
        WeightsError: the file has other weights.
    """
    from . import build_model

    if file.metadata.get("precision") != "int8":
        raise WeightsError(f"{file.name} holds no weights in 8 bits, which precision int8 needs", quantize=spec.name)
    network = QuantizedNetwork(build_model(spec, scale), scale)
    expected = network.state_dict()
    said = file.metadata.get("model"), file.metadata.get("scale")
    fits = {name: tensor.shape for name, tensor in file.tensors.shapes.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    if said != (spec.name, str(scale)) or not fits:
        raise WeightsError(f"{file.name} does not fit {spec.name} ×{scale}: it is of {said[0]} ×{said[1]}")
    network.load_state_dict(dict(file.tensors))
    return network.eval()
