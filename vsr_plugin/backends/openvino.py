"""OpenVINO, on the CPU: the module is traced once and compiled for one shape."""

from __future__ import annotations

import sys
import threading
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import BackendError
from ..installation import install_package
from ..kernels import to_unit
from ..models.deconvolution import with_subpixel_deconvolutions
from ..models.layers import BicubicUpsample
from ..models.own import check_finite, check_result, check_results
from ..models.quantized import QuantizedNetwork
from .memory import translated_errors
from .packing import with_packed_shuffle
from .rounding import for_bfloat16, stays_flat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Tensor

    from ..kernels import SampleFormat
    from ..models import NetworkSpec
    from . import Precision

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
_BYTES = ("avx_vnni", "avx512_vnni", "amx_int8")
_REPORTER = "openvino_telemetry"
_EXAMPLE = 32  # samples a side of the frame that is traced


class OpenVINOBackend:
    """Compiles for the CPU, in float32, bfloat16, or int8 for 8-bit weights, whose convolutions use integers."""

    devices = ("cpu",)
    own_threads = True
    has_cache = True
    reads_samples = True
    largest_batch = 16

    def __init__(self, cache_dir: Path | None = None, threads: int | None = None) -> None:
        try:
            with _unreported():
                import openvino
                from openvino.frontend import FrontEndManager
                from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
        except ImportError as error:
            raise BackendError(_why_not(error)) from error
        # Threads are not bound to cores, which threads of the program and of other networks use, too.
        self._threads: dict[str, Any] = {"ENABLE_CPU_PINNING": False}
        if threads is not None:
            self._threads["INFERENCE_NUM_THREADS"] = threads
        self._core = openvino.Core()
        self._traced: tuple[nn.Module, Precision] | None = None  # the last traced
        # Its traces, by the parity of height and width, and by the output's format.
        self._traces: dict[tuple[int, int, SampleFormat | None], tuple[Any, Any, nn.Module]] = {}
        if cache_dir is not None:
            with translated_errors("openvino: opening its cache"):
                self._core.set_property({"CACHE_DIR": str(cache_dir)})
        self._tensor = openvino.Tensor
        self._save = openvino.save_model
        # Not openvino.convert_model: it does these two steps, imports for a second, and reports again.
        self._frontend = FrontEndManager().load_by_framework("pytorch")
        self._decoder = TorchScriptPythonDecoder

    def default_precision(self, modules: Iterable[nn.Module], spec: NetworkSpec, device: torch.device) -> Precision:
        """bfloat16 if the processor is faster in it, and flat areas stay flat in it (`stays_flat`); else float32."""
        flat = self.fast_bfloat16() and all(stays_flat(module, spec) for module in modules)
        return "bfloat16" if flat else "float32"

    def fast_bfloat16(self) -> bool:
        """Whether the processor is faster in bfloat16 than in float32.

        Intel's processors are faster only with AMX: without it they multiply bfloat16 half as fast as float32.
        """
        has_it = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        intel = "Intel" in self._core.get_property("CPU", "FULL_DEVICE_NAME")
        return has_it and (not intel or bool(torch.cpu.get_capabilities().get("amx_bf16")))

    def compile(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        shape: tuple[int, int, int, int],
        precision: Precision,
        device: torch.device,
    ) -> OpenVINONetwork:
        """Compile the module for this shape when the network is first called; the trace is kept for other shapes.

        Tracing runs the module, so it uses a small frame; the module must not branch on its input's shape.
        """
        if precision == "int8":
            if not isinstance(module, QuantizedNetwork):
                raise BackendError(f"Precision int8 needs weights in 8 bits, which {spec.name} has not")
            if not multiplies_bytes():
                raise BackendError(
                    "Precision int8 needs a processor that multiplies bytes (AVX-VNNI, AVX-512 VNNI or AMX), "
                    "which this one does not: others add them up with too few bits"
                )

        def make(samples: SampleFormat | None) -> tuple[Any, nn.Module]:
            with translated_errors(f"openvino: compiling {spec.name}"), torch.no_grad():
                if self._traced != (module, precision):
                    self._traced, self._traces = (module, precision), {}
                kind = shape[2] % 2, shape[3] % 2, samples
                if kind not in self._traces:
                    self._traces[kind] = self._trace(module, spec, precision, kind)
                graph, _decoder, enlarge = self._traces[kind]
                graph.reshape(list(enlarge(torch.empty(shape, device="meta")).shape))
                hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision], **self._threads}
                compiled = self._core.compile_model(graph, "CPU", hints)
                if samples is None:
                    check_results([port.get_element_type().to_string() for port in compiled.outputs], spec.name)
                return compiled, enlarge

        return OpenVINONetwork(make, self._tensor, spec.name)

    def _trace(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        precision: Precision,
        kind: tuple[int, int, SampleFormat | None],
    ) -> tuple[Any, Any, nn.Module]:
        """The graph, the decoder that must live as long as the graph, and a module to apply to the input first.

        ``kind`` is the parity of rows and columns (0 even, 1 odd), and the samples to output (`_Stored`) or None.
        """
        module = _plain(module)
        enlarge: nn.Module = nn.Identity()
        if precision == "bfloat16":
            module = for_bfloat16(module, spec)
            upsample = getattr(module, "upsample", None)
            if isinstance(upsample, BicubicUpsample):
                # Inside the graph the enlargement would be rounded before the first layer.
                enlarge, module.upsample = upsample, enlarge
        height, width = ((_EXAMPLE + length) * spec.multiple_of for length in kind[:2])
        example = enlarge(torch.zeros(1, spec.channels, height, width))
        packed = with_packed_shuffle(module, example)
        samples = kind[2]
        graph, decoder = self._graph(packed if samples is None else _Stored(packed, samples, spec.name), example)
        if precision == "int8":
            from openvino._offline_transformations import apply_moc_transformations

            # The ranges of rounding must be constants when OpenVINO looks for layers to compute in integers.
            apply_moc_transformations(graph, cf=False, smart_reshape=False)
        return graph, decoder, enlarge

    def save(
        self,
        module: nn.Module,
        spec: NetworkSpec,
        path: Path,
        *,
        shape: tuple[int, int, int, int],
        half: bool,
        names: tuple[str, str],
        facts: Mapping[str, str],
    ) -> None:
        """Write a network in OpenVINO's own format, in float32.

        Args:
            module: The network.
            spec: ″
            path: The .xml file; the weights go into a .bin file beside it.
            shape: (N, C, H, W) of the input; -1 for any length.
            half: Store the weights in float16.
            names: Names of the input and the output.
            facts: Metadata of the network, written to the file's ``rt_info`` below ``vsr_plugin``.
        """
        with translated_errors(f"openvino: exporting {spec.name}"), torch.no_grad():
            side = _EXAMPLE * spec.multiple_of
            graph, _decoder = self._graph(_plain(module), torch.zeros(1, spec.channels, side, side))
            graph.reshape(list(shape))
            graph.set_friendly_name(path.stem)
            for port, name in zip((graph.input(0), graph.output(0)), names, strict=True):
                port.get_tensor().set_names({name})
                port.get_node().set_friendly_name(name)
            for name, fact in facts.items():
                graph.set_rt_info(fact, ["vsr_plugin", name])
            self._save(graph, str(path), compress_to_fp16=half)

    def _graph(self, module: nn.Module, example: Tensor) -> tuple[Any, Any]:
        """Trace a module on an example: the graph, for any shape, and the decoder that must live as long as it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OpenVINO needs a trace, and torch has deprecated tracing
            trace = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = self._decoder(trace)
        return self._frontend.convert(self._frontend.load(decoder)), decoder


def multiplies_bytes() -> bool:
    """Whether the processor multiplies bytes and sums them in 32 bits; on ARM, OpenVINO handles it."""
    features = torch.cpu.get_capabilities()
    return "x86" not in str(features.get("architecture")) or any(features.get(name) for name in _BYTES)


def _plain(module: nn.Module) -> nn.Module:
    """A copy for the CPU, in float32."""
    return with_subpixel_deconvolutions(module).to("cpu", torch.float32).eval()


class _Stored(nn.Module):
    """A module whose result is converted to samples as by `to_samples`, inside the graph, where it costs nothing.

    It also returns the sum of the magnitudes of the module's result, for `check_finite`.
    """

    def __init__(self, module: nn.Module, samples: SampleFormat, name: str) -> None:
        super().__init__()
        self._module = module
        self._name = name
        self._peak = float(samples.peak)
        self._bytes = samples.depth == 8

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, H, W) → (N, 1, H·scale, W·scale) of uint8, or of whole numbers in float32; and the sum."""
        large = check_result(self._module(x), self._name)
        codes = torch.round(large.clamp(0, 1) * self._peak)
        return codes.to(torch.uint8) if self._bytes else codes, large.abs().sum()


class OpenVINONetwork:
    """Infer requests, one for each format of the result, that read and write torch's tensors without copies.

    Args:
        make: Compiles for a format of samples, or None for float32: the compiled model, and a module for its input.
        tensor: OpenVINO's tensor class.
        name: The model's name.
    """

    def __init__(self, make: Callable[[SampleFormat | None], tuple[Any, nn.Module]], tensor: Any, name: str) -> None:
        self._make = make
        self._requests: dict[SampleFormat | None, tuple[Any, nn.Module, tuple[int, ...]]] = {}
        self._tensor = tensor
        self._name = name

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Run one batch."""
        request, enlarge, shape = self._request(None)
        return self._run(request, enlarge(x), torch.empty(shape))

    @torch.inference_mode()
    def upscale_samples(self, x: Tensor, samples: SampleFormat) -> Tensor:
        """Run one batch of samples.

        Raises:
            UsageError: the network's output has NaN or infinity.
        """
        request, enlarge, shape = self._request(samples)
        dtype = samples.dtype if samples.depth == 8 else torch.float32
        x = to_unit(x, samples.peak)
        result = self._run(request, enlarge(x), torch.empty(shape, dtype=dtype))
        check_finite(torch.from_numpy(request.get_output_tensor(1).data), x, self._name)
        return result.to(samples.dtype)

    def close(self) -> None:
        """Free the requests, and with them the compiled models."""
        self._requests.clear()

    def _request(self, samples: SampleFormat | None) -> tuple[Any, nn.Module, tuple[int, ...]]:
        if samples not in self._requests:
            compiled, enlarge = self._make(samples)
            self._requests[samples] = compiled.create_infer_request(), enlarge, tuple(compiled.output(0).shape)
        return self._requests[samples]

    def _run(self, request: Any, x: Tensor, result: Tensor) -> Tensor:
        with translated_errors(f"openvino: running {self._name}"):
            x = x.contiguous()  # must live until the request is done
            request.set_input_tensor(self._tensor(x.numpy(), shared_memory=True))
            request.set_output_tensor(0, self._tensor(result.numpy(), shared_memory=True))
            # Not infer(), which computes in the calling thread: if that thread has ended when another one closes the
            # request, the heap is corrupted (OpenVINO 2026.4).
            request.start_async()
            request.wait()
            return result


@contextmanager
def _unreported() -> Iterator[None]:
    """Hide OpenVINO's telemetry package, without which a process of its own does not report the import to its makers.

    It is hidden only from imports of this thread.
    """
    finder = _Hidden(_REPORTER, threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Hidden:
    """A module finder that hides a package from one thread."""

    def __init__(self, package: str, thread: int) -> None:
        self._package = package
        self._thread = thread

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Leave all other modules to the other finders."""
        if name == self._package and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _why_not(error: ImportError) -> str:
    """Why OpenVINO does not load, in one line."""
    if find_spec("openvino") is None:
        return f"Backend 'openvino' is not installed: {install_package('openvino')}"
    other = _other_library()
    if other is not None:
        return f"Backend 'openvino' does not load, as this process has loaded another OpenVINO before: {other}"
    lines = str(error).strip().splitlines() or ["it does not say why"]
    return f"Backend 'openvino' does not load: {lines[-1].strip()}"


def _other_library() -> str | None:
    """Another OpenVINO library that is loaded in this process, if the system lists them (Linux)."""
    maps = Path("/proc/self/maps")
    found = find_spec("openvino")
    ours = [str(Path(place).resolve()) for place in (found and found.submodule_search_locations) or ()]
    for line in maps.read_text(encoding="utf-8", errors="replace").splitlines() if maps.exists() else ():
        path = line.partition("/")[1] + line.partition("/")[2]
        if Path(path).name.startswith("libopenvino.so") and not path.startswith(tuple(ours)):
            return path
    return None
