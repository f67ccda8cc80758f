"""Traces modules of torch to graphs of OpenVINO."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import nn

from ..errors import BackendError
from ..models.deconvolution import with_subpixel_deconvolutions
from ..models.layers import BicubicUpsample
from ..models.own import check_result, check_results
from ..models.quantized import QuantizedNetwork
from .graphs import Trace
from .packing import with_packed_shuffle, without_padding
from .rounding import for_bfloat16

if TYPE_CHECKING:
    from torch import Tensor

    from ..models import NetworkSpec
    from ..samples import SampleFormat
    from . import Precision
    from .graphs import Kind

_EXAMPLE = 32  # samples a side of the frame that is traced


@torch.no_grad()
def trace(module: nn.Module, spec: NetworkSpec, precision: Precision, kind: Kind) -> Trace:
    """Trace a module.

    Args:
        module: It is not changed.
        spec: Its channels, and what its input's sides must be multiples of.
        precision: What OpenVINO will compute in.
        kind: What traces differ in.
    """
    module = _plain(module)
    enlarge = 1
    codes = False
    if precision == "bfloat16":
        upsample = getattr(module, "upsample", None)
        outside = isinstance(upsample, BicubicUpsample)
        codes = kind.samples is not None and kind.samples.depth == 8 and not outside
        module = for_bfloat16(module, spec, codes=codes)
        if isinstance(upsample, BicubicUpsample):
            # Inside the graph the enlargement would be rounded before the first layer.
            enlarge, module.upsample = upsample.scale, nn.Identity()
    height, width = ((_EXAMPLE + odd) * spec.multiple_of for odd in (kind.rows, kind.columns))
    random = torch.Generator().manual_seed(0)
    example = torch.rand(1, spec.channels, height * enlarge, width * enlarge, generator=random)
    if kind.samples is None:
        graph, decoder = _graph(with_packed_shuffle(module, example), example)
    else:
        module, rim = without_padding(module, example, spec, enlarge)
        stored = _Stored(with_packed_shuffle(module, example), kind.samples, spec.name, rim)
        graph, decoder = _graph(stored, (255 * example).to(torch.uint8) if codes else example)
    if precision == "int8":
        from openvino._offline_transformations import apply_moc_transformations

        # The ranges of rounding must be constants when OpenVINO looks for layers to compute in integers.
        apply_moc_transformations(graph, cf=False, smart_reshape=False)
    if kind.samples is None:
        check_results([port.get_element_type().to_string() for port in graph.outputs], spec.name)
    return Trace(graph, decoder, enlarge)


@torch.no_grad()
def trace_plain(module: nn.Module, spec: NetworkSpec) -> tuple[Any, Any]:
    """Trace a module as it is, in float32: the graph, and the decoder that must live as long as it."""
    side = _EXAMPLE * spec.multiple_of
    return _graph(_plain(module), torch.zeros(1, spec.channels, side, side))


def check_quantized(module: nn.Module, spec: NetworkSpec) -> None:
    """Raise BackendError if a module's weights are not in 8 bits."""
    if not isinstance(module, QuantizedNetwork):
        raise BackendError(f"Precision int8 needs weights in 8 bits, which {spec.name} has not")


def _graph(module: nn.Module, example: Tensor) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO needs a trace, and torch has deprecated tracing
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    # Not openvino.convert_model: it does these two steps, imports for a second, and reports again.
    decoder, frontend = TorchScriptPythonDecoder(traced), FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder)), decoder


def _plain(module: nn.Module) -> nn.Module:
    """A copy for the CPU, in float32."""
    return with_subpixel_deconvolutions(module).to("cpu", torch.float32).eval()


class _Stored(nn.Module):
    """A module whose samples are converted as by `to_unit` and `to_samples`, inside the graph, where it costs nothing.

    It also returns the sum of the magnitudes of the module's result, for `check_finite`.
    """

    def __init__(self, module: nn.Module, samples: SampleFormat, name: str, rim: int) -> None:
        super().__init__()
        self._module = module
        self._name = name
        self._peak = float(samples.peak)
        self._bytes = samples.depth == 8
        self._rim = rim

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, H, W) → (N, 1, H·scale, W·scale) of uint8, or of whole numbers in float32; and the sum.

        The input is uint8, or float32 in [0, 1].
        """
        if x.dtype == torch.uint8:
            x = (x.float() * (1 / self._peak)).clamp(max=1)
        large = check_result(self._module(x), self._name)
        codes = torch.round(large.clamp(0, 1) * self._peak)
        stored = codes.to(torch.uint8) if self._bytes else codes
        return F.pad(stored, (self._rim,) * 4) if self._rim else stored, large.abs().sum()
