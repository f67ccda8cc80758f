"""Our networks in the file format of FFmpeg's own inference, for the ``sr`` filter of FFmpeg 4.3 to 6.0.

A file is: ``FFMPEGDNNNATIVE``; two 32-bit numbers, the version; the layers; the operands; their two counts. A layer is
its kind, its parameters, and the numbers of its input and output operand. All numbers are little-endian. Kernels lie as
(output, row, column, input).
"""

from __future__ import annotations

import operator
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Tracer

from ..errors import BackendError
from ..models.layers import BicubicUpsample

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC, _VERSION = b"FFMPEGDNNNATIVE", (1, 0)
_CONVOLUTION, _DEPTH_TO_SPACE = 1, 2
_ACTIVATIONS = {torch.relu: 0, F.relu: 0, torch.tanh: 1, torch.sigmoid: 2}
_NO_ACTIVATION = 3
_ZEROS, _REPEATED_EDGE = 1, 2  # what a convolution sees beyond the border
_INPUT, _OUTPUT, _FLOAT = 1, 2, 1


class _Layers(Tracer):
    """Traces the calls of a module's ``forward``, but not inside the modules that it calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def ffmpeg_model(module: nn.Module) -> bytes:
    """The content of a ``.model`` file of the native backend.

    Args:
        module: A chain of convolutions, each with bias and followed by tanh, ReLU, sigmoid or nothing, that may
            end in a pixel shuffle. It may begin with bicubic enlargement, which the filter does by itself.

    Raises:
        BackendError: the module holds a layer that the native backend does not have.
    """
    layers = list(_layers(module))
    content = [_MAGIC, struct.pack("<2I", *_VERSION)]
    for index, layer in enumerate(layers):
        content += [layer, struct.pack("<2I", index, index + 1)]
    last = len(layers)
    for index in range(last + 1):
        name = b"x" if index == 0 else b"y" if index == last else b"layer%d" % index
        role = _INPUT if index == 0 else _OUTPUT if index == last else _INPUT | _OUTPUT
        content += [struct.pack("<2I", index, len(name)), name, struct.pack("<2I4i", role, _FLOAT, 1, -1, -1, 1)]
    return b"".join([*content, struct.pack("<2I", last, last + 1)])


def _layers(module: nn.Module) -> Iterator[bytes]:
    """Each layer without its operands."""
    beyond = _ZEROS
    calls = [call for call in _calls(module) if call is not None]
    for call, following in pairwise([*calls, None]):
        if isinstance(call, nn.Conv2d) and call.groups == 1 and call.stride == (1, 1) and call.bias is not None:
            o, i, size, _ = call.weight.shape
            activation = _ACTIVATIONS.get(following, _NO_ACTIVATION)
            parameters = struct.pack("<8I", _CONVOLUTION, call.dilation[0], beyond, activation, i, o, size, 1)
            numbers = torch.cat([call.weight.detach().permute(0, 2, 3, 1).flatten(), call.bias.detach()])
            yield parameters + numbers.float().numpy().tobytes()
        elif isinstance(call, nn.PixelShuffle):
            yield struct.pack("<2I", _DEPTH_TO_SPACE, call.upscale_factor)
        elif call is F.pad:
            beyond = _REPEATED_EDGE
        elif call not in _ACTIVATIONS and not isinstance(call, BicubicUpsample):
            raise BackendError(f"FFmpeg's own inference has no {getattr(call, '__name__', type(call).__name__)}")


def _calls(module: nn.Module) -> Iterator[Any]:
    """The modules and functions that ``forward`` calls, in order."""
    for node in _Layers().trace(module).nodes:
        if node.op == "call_module":
            yield module.get_submodule(str(node.target))
        elif node.op == "call_function" and node.target is not operator.getitem:
            yield node.target
