"""OpenVINO, on the CPU: the module is traced once and compiled for one shape."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from ..errors import BackendError
from ..models.layers import BicubicUpsample
from .deconvolution import with_subpixel_deconvolutions
from .memory import translated_errors
from .rounding import for_bfloat16

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ..models import NetworkSpec
    from . import Precision

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_REPORTER = "openvino_telemetry"
_EXAMPLE = 32  # samples a side of the picture that is traced


class OpenVINOBackend:
    """Compiles for the CPU; bfloat16 where the processor has it."""

    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    devices = ("cpu",)
    own_threads = True
    has_cache = True
    reads_samples = False
    largest_batch = 16

    def __init__(self, cache_dir: Path | None = None) -> None:
        # OpenVINO reports every import to its makers, in a process of its own; without this package it does not.
        reporter = sys.modules.get(_REPORTER)
        sys.modules[_REPORTER] = cast("Any", None)
        try:
            import openvino
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
        except ImportError as error:
            message = "Backend 'openvino' is not installed: pip install openvino, or choose --backend eager"
            raise BackendError(message) from error
        finally:
            del sys.modules[_REPORTER]
            if reporter is not None:
                sys.modules[_REPORTER] = reporter
        self._core = openvino.Core()
        if cache_dir is not None:
            with translated_errors("openvino: opening its cache"):
                self._core.set_property({"CACHE_DIR": str(cache_dir)})
        self._tensor = openvino.Tensor
        # Not openvino.convert_model, which is these two steps, a second of imports, and another report.
        self._frontend = FrontEndManager().load_by_framework("pytorch")
        self._decoder = TorchScriptPythonDecoder

    def default_precision(self, spec: NetworkSpec, device: torch.device) -> Precision:
        """bfloat16 where the processor is faster in it: `for_bfloat16` keeps every model within 0.02 dB.

        Intel's are where they have AMX: without it they multiply pairs of bfloat16 half as fast as float32.
        """
        has_it = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        intel = "Intel" in self._core.get_property("CPU", "FULL_DEVICE_NAME")
        faster = has_it and (not intel or bool(torch.cpu.get_capabilities().get("amx_bf16")))
        return "bfloat16" if faster else "float32"

    def compile(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        shape: tuple[int, int, int, int],
        precision: Precision,
        device: torch.device,
    ) -> OpenVINONetwork:
        """Trace the module and compile it for this shape.

        Tracing runs the module, so it is done on a small picture; the module must not decide by its input's shape.
        """
        with translated_errors(f"openvino: compiling {spec.name}"), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # OpenVINO reads a trace, and torch has deprecated tracing
            module = with_subpixel_deconvolutions(module).to("cpu", torch.float32).eval()
            enlarge: nn.Module = nn.Identity()
            if precision == "bfloat16":
                module = for_bfloat16(module)
                upsample = getattr(module, "upsample", None)
                if isinstance(upsample, BicubicUpsample):
                    # Inside the graph the enlargement would be rounded before the first layer sees it.
                    enlarge, module.upsample = upsample, enlarge
            sides = (min(length, _EXAMPLE * spec.multiple_of) for length in shape[2:])
            example = enlarge(torch.zeros(1, shape[1], *sides))
            trace = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
            decoder = self._decoder(trace)  # the graph reads from it as long as it lives
            graph = self._frontend.convert(self._frontend.load(decoder))
            graph.reshape(list(enlarge(torch.empty(shape, device="meta")).shape))
            hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
            compiled = self._core.compile_model(graph, "CPU", hints)
        return OpenVINONetwork(compiled, enlarge, self._tensor, spec.name)


class OpenVINONetwork:
    """One infer request, that reads its input and writes its output where torch keeps them."""

    def __init__(self, compiled: Any, enlarge: nn.Module, tensor: Any, name: str) -> None:
        self._request = compiled.create_infer_request()
        self._shape = tuple(compiled.output(0).shape)
        self._enlarge = enlarge
        self._tensor = tensor
        self._name = name

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch."""
        with translated_errors(f"openvino: running {self._name}"):
            x = self._enlarge(x).contiguous()  # referenced here until the request is done
            result = torch.empty(self._shape)
            self._request.set_input_tensor(self._tensor(x.numpy(), shared_memory=True))
            self._request.set_output_tensor(self._tensor(result.numpy(), shared_memory=True))
            self._request.infer()
            return result

    def close(self) -> None:
        """Free the request, and with it the compiled model."""
        del self._request
