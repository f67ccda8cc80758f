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
    """Compiles for the CPU; bfloat16 where the processor has it; int8 for weights in 8 bits, in integers throughout."""

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
        # Not bound to cores, on which the program has other threads, too, and other networks theirs.
        self._threads: dict[str, Any] = {"ENABLE_CPU_PINNING": False}
        if threads is not None:
            self._threads["INFERENCE_NUM_THREADS"] = threads
        self._core = openvino.Core()
        self._traced: tuple[nn.Module, Precision] | None = None  # what was traced last
        # Of it, by how lengths divide by two, and by what it makes.
        self._traces: dict[tuple[int, int, SampleFormat | None], tuple[Any, Any, nn.Module]] = {}
        if cache_dir is not None:
            with translated_errors("openvino: opening its cache"):
                self._core.set_property({"CACHE_DIR": str(cache_dir)})
        self._tensor = openvino.Tensor
        self._save = openvino.save_model
        # Not openvino.convert_model, which is these two steps, a second of imports, and another report.
        self._frontend = FrontEndManager().load_by_framework("pytorch")
        self._decoder = TorchScriptPythonDecoder

    def default_precision(self, modules: Iterable[nn.Module], spec: NetworkSpec, device: torch.device) -> Precision:
        """bfloat16 where the processor is faster in it, for modules that leave flat areas flat in it (`stays_flat`)."""
        flat = self.fast_bfloat16() and all(stays_flat(module, spec) for module in modules)
        return "bfloat16" if flat else "float32"

    def fast_bfloat16(self) -> bool:
        """Whether the processor is faster in bfloat16 than in float32.

        Intel's are where they have AMX: without it they multiply pairs of bfloat16 half as fast as float32.
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
        """Compile the module for this shape, when the network is first called; it is traced for the first shape.

        Tracing runs the module, so it is done on a small frame; the module must not decide by its input's shape.
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
        """The graph, what it reads from as long as it lives, and what is done to its input first.

        For inputs of an even (0) or odd (1) number of rows and columns, and for what it makes: `_Stored` or as it is.
        """
        module = _plain(module)
        enlarge: nn.Module = nn.Identity()
        if precision == "bfloat16":
            module = for_bfloat16(module, spec)
            upsample = getattr(module, "upsample", None)
            if isinstance(upsample, BicubicUpsample):
                # Inside the graph the enlargement would be rounded before the first layer sees it.
                enlarge, module.upsample = upsample, enlarge
        height, width = ((_EXAMPLE + length) * spec.multiple_of for length in kind[:2])
        example = enlarge(torch.zeros(1, spec.channels, height, width))
        packed = with_packed_shuffle(module, example)
        samples = kind[2]
        graph, decoder = self._graph(packed if samples is None else _Stored(packed, samples, spec.name), example)
        if precision == "int8":
            from openvino._offline_transformations import apply_moc_transformations

            # Ranges of rounding must be constants when it looks for layers that it can compute in integers.
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
            shape: (N, C, H, W) that it takes; -1 for any length.
            half: Keep the weights in float16.
            names: Of the input and the output.
            facts: What the file says of the network, as its ``rt_info`` below ``vsr_plugin``.
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
        """Trace a module on an example: the graph of any shape, and what it reads from as long as it lives."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OpenVINO reads a trace, and torch has deprecated tracing
            trace = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        decoder = self._decoder(trace)
        return self._frontend.convert(self._frontend.load(decoder)), decoder


def multiplies_bytes() -> bool:
    """Whether the processor multiplies bytes and adds them up in 32 bits; of ARM's, OpenVINO knows."""
    features = torch.cpu.get_capabilities()
    return "x86" not in str(features.get("architecture")) or any(features.get(name) for name in _BYTES)


def _plain(module: nn.Module) -> nn.Module:
    """A copy for the CPU, in float32."""
    return with_subpixel_deconvolutions(module).to("cpu", torch.float32).eval()


class _Stored(nn.Module):
    """A module whose result is stored as samples, as `to_samples` does it, within the graph, where it costs nothing.

    With them comes the sum of what the module made, which is not finite if one of them is no number.
    """

    def __init__(self, module: nn.Module, samples: SampleFormat, name: str) -> None:
        super().__init__()
        self._module = module
        self._name = name
        self._peak = float(samples.peak)
        self._bytes = samples.depth == 8

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, H, W) → (N, 1, H·scale, W·scale) of bytes, or of whole numbers in float32; and the sum."""
        large = check_result(self._module(x), self._name)
        codes = torch.round(large.clamp(0, 1) * self._peak)
        return codes.to(torch.uint8) if self._bytes else codes, large.sum()


class OpenVINONetwork:
    """Infer requests, one for each kind of result, that read and write where torch keeps their input and result.

    Args:
        make: Compiles for samples of a format, or for float32: the compiled model, and what is done to its input first.
        tensor: OpenVINO's.
        name: Of the model.
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
            UsageError: what the network makes is not a number.
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
            x = x.contiguous()  # referenced here until the request is done
            request.set_input_tensor(self._tensor(x.numpy(), shared_memory=True))
            request.set_output_tensor(0, self._tensor(result.numpy(), shared_memory=True))
            # Not infer(), which computes in the calling thread: when that thread has ended, and another one closes the
            # request, the heap is corrupted (OpenVINO 2026.4).
            request.start_async()
            request.wait()
            return result


@contextmanager
def _unreported() -> Iterator[None]:
    """Keep OpenVINO from reporting its import to its makers, in a process of its own: without this package it does not.

    The package is hidden from the imports of this thread alone.
    """
    finder = _Hidden(_REPORTER, threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Hidden:
    """A finder of modules by which one thread does not find a package."""

    def __init__(self, package: str, thread: int) -> None:
        self._package = package
        self._thread = thread

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Leave every other module to the other finders."""
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
    """The OpenVINO library of somebody else that is loaded here, where the system says what is (Linux)."""
    maps = Path("/proc/self/maps")
    found = find_spec("openvino")
    ours = [str(Path(place).resolve()) for place in (found and found.submodule_search_locations) or ()]
    for line in maps.read_text(encoding="utf-8", errors="replace").splitlines() if maps.exists() else ():
        path = line.partition("/")[1] + line.partition("/")[2]
        if Path(path).name.startswith("libopenvino.so") and not path.startswith(tuple(ours)):
            return path
    return None
