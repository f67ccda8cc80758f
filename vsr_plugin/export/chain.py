"""A network as a chain of convolutions, which a shader can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..errors import UsageError
from ..models.deconvolution import SubpixelDeconvolution, with_subpixel_deconvolutions
from . import CHAINS_ONLY

if TYPE_CHECKING:
    from torch import Tensor

_FUNCTIONS = {torch.tanh: "tanh", torch.relu: "relu", F.relu: "relu", torch.sigmoid: "sigmoid"}
_MODULES = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.Sigmoid: "sigmoid"}


@dataclass(slots=True)
class Layer:
    """A convolution with stride 1 and zeros around its input, and an activation.

    Attributes:
        weight: (out, in, k, k), k odd.
        bias: (out,)
        activation: ``none``, ``tanh``, ``relu``, ``sigmoid`` or ``prelu``.
        slopes: (out,) of ``prelu``.
    """

    weight: Tensor
    bias: Tensor
    activation: str = "none"
    slopes: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(N, in, H, W) → (N, out, H, W)."""
        x = F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        if self.slopes is not None:
            return F.prelu(x, self.slopes)
        function = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}.get(self.activation)
        return x if function is None else function(x)


@dataclass(frozen=True, slots=True)
class Chain:
    """Layers one after the other, and a pixel shuffle at the end.

    Attributes:
        layers: From one luma channel to scale² channels.
        scale: Scale of the pixel shuffle.
    """

    layers: tuple[Layer, ...]
    scale: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates per input pixel."""
        return sum(layer.weight.numel() for layer in self.layers)

    def trends(self) -> list[tuple[Tensor, Tensor]]:
        """For each layer, its channels as lines over the luma of their pixel in a flat frame: (slopes, offsets).

        The lines are fitted over limited range; the sub-pixels, which are the result, follow luma exactly.
        """
        radius = sum(layer.weight.shape[-1] // 2 for layer in self.layers)
        luma = torch.linspace(16 / 255, 235 / 255, 64)
        x = luma.reshape(-1, 1, 1, 1).expand(-1, 1, 2 * radius + 1, 2 * radius + 1)
        ones = torch.stack([luma, torch.ones_like(luma)], 1)
        found = []
        for layer in self.layers:
            x = layer(x)
            line = torch.linalg.lstsq(ones, x[:, :, radius, radius]).solution  # (2, channels)
            found.append((line[0], line[1]))
        found[-1] = (torch.ones(self.scale**2), torch.zeros(self.scale**2))
        return found


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SubpixelDeconvolution) or super().is_leaf_module(m, module_qualified_name)


def chain(name: str, module: nn.Module) -> Chain:
    """Take a network apart; deconvolutions become convolutions to sub-pixels (`SubpixelDeconvolution`).

    Args:
        name: Name of the model, for messages.
        module: (N, 1, H, W) luma in [0, 1] → (N, 1, H·scale, W·scale).

    Raises:
        UsageError: the network is not a chain of convolutions that ends in a pixel shuffle.
    """
    module = with_subpixel_deconvolutions(module).float().eval()
    wanted = f"{CHAINS_ONLY}, got {name}, which enlarges frames before its first layer, or has branches"
    try:
        nodes = [node for node in _Tracer().trace(module).nodes if node.op not in ("placeholder", "output")]
    except fx.proxy.TraceError as error:
        raise UsageError(wanted) from error
    layers: list[Layer] = []
    scale = 0
    for node in nodes:
        straight = len(node.users) == 1 and node.all_input_nodes == [node.prev] and not scale
        part: Any = module.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        if not straight or not _add(layers, part):
            raise UsageError(wanted)
        scale = part.r if isinstance(part, SubpixelDeconvolution) else getattr(part, "upscale_factor", 0)
    if not scale or layers[0].weight.shape[1] != 1 or layers[-1].weight.shape[0] != scale**2:
        raise UsageError(wanted)
    return Chain(tuple(layers), scale)


def _add(layers: list[Layer], part: Any) -> bool:
    """Add a step of the network to the layers; False if a shader cannot run it."""
    if isinstance(part, SubpixelDeconvolution):
        part = part.convolution
    if isinstance(part, nn.Conv2d):
        side = part.kernel_size[0]
        same = part.kernel_size == (side, side) and part.padding == (side // 2, side // 2) and side % 2
        same = same and part.padding_mode == "zeros"
        if not same or part.stride != (1, 1) or part.dilation != (1, 1) or part.groups != 1:
            return False
        bias = torch.zeros(part.out_channels) if part.bias is None else part.bias.detach()
        layers.append(Layer(part.weight.detach(), bias))
        return True
    if isinstance(part, nn.PixelShuffle):
        return bool(layers)
    if not layers or layers[-1].activation != "none":
        return False
    if isinstance(part, nn.PReLU):
        layers[-1].activation = "prelu"
        layers[-1].slopes = part.weight.detach().expand(len(layers[-1].bias))
        return True
    kind = _MODULES.get(type(part)) if isinstance(part, nn.Module) else _FUNCTIONS.get(part)
    layers[-1].activation = kind or "none"
    return kind is not None
