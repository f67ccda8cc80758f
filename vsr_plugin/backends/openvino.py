"""OpenVINO, on the CPU: the module is traced once and compiled for one shape.

Tracing needs torch, which takes seconds to load, and hundreds of megabytes. Graphs of shipped luma networks are
therefore kept (`graphs`), and what is done with one needs NumPy alone.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import as_tensor, check_finite
from ..errors import BackendError
from ..installation import install_package
from ..samples import enlarge_unit, to_unit
from ..sources import Source
from .graphs import GraphCache, Kind, Trace
from .memory import translated_errors
from .processor import features, multiplies_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import nn

    from ..arrays import Array
    from ..frames import Samples
    from ..models import NetworkSpec
    from ..samples import SampleFormat
    from . import Device, Precision

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
_REPORTER = "openvino_telemetry"
# Held while modules are traced, or run: torch.jit keeps the names of the module that is traced for all threads.
_tracing = threading.Lock()
_importing = threading.Lock()


class OpenVINOBackend:
    """Compiles for the CPU, in float32, bfloat16, or int8 for 8-bit weights, whose convolutions use integers."""

    devices = ("cpu",)
    own_threads = True
    has_cache = True
    reads_samples = True
    is_lazy = True
    largest_batch = 16

    def __init__(self, cache_dir: Path | None = None, threads: int | None = None) -> None:
        try:
            with _unreported():
                import openvino

                self._core = _core()
        except ImportError as error:
            raise BackendError(_why_not(error)) from error
        # Threads are not bound to cores, which threads of the program and of other networks use, too.
        self._threads: dict[str, Any] = {"ENABLE_CPU_PINNING": False}
        if threads is not None:
            self._threads["INFERENCE_NUM_THREADS"] = threads
        self._traced: tuple[object, Precision] | None = None  # the last traced
        self._traces: dict[Kind, Trace] = {}
        self._graphs = GraphCache(cache_dir, openvino.__version__)
        self._kept = {} if cache_dir is None else {"CACHE_DIR": str(cache_dir)}
        self._tensor = openvino.Tensor
        self._openvino = openvino

    def default_precision(self, sources: Iterable[Source], spec: NetworkSpec, device: Device) -> Precision:
        """bfloat16 if the processor is faster in it, and flat areas stay flat in it (`stays_flat`); else float32."""
        flat = self.fast_bfloat16() and all(_stays_flat(source, spec) for source in sources)
        return "bfloat16" if flat else "float32"

    def fast_bfloat16(self) -> bool:
        """Whether the processor is faster in bfloat16 than in float32.

        Intel's processors are faster only with AMX: without it they multiply bfloat16 half as fast as float32.
        """
        has_it = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        intel = "Intel" in self._core.get_property("CPU", "FULL_DEVICE_NAME")
        return has_it and (not intel or "amx_bf16" in features())

    def compile(
        self,
        module: nn.Module | Source,
        spec: NetworkSpec,
        shape: tuple[int, int, int, int],
        precision: Precision,
        device: Device,
    ) -> OpenVINONetwork:
        """Compile the module for this shape when the network is first called; the trace is kept for other shapes.

        Tracing runs the module, so it uses a small frame; the module must not branch on its input's shape.
        """
        source = module if isinstance(module, Source) else Source.of(module)
        if precision == "int8":
            if source.key is None:
                from .tracing import check_quantized

                check_quantized(source.module, spec)
            if not multiplies_bytes():
                raise BackendError(
                    "Precision int8 needs a processor that multiplies bytes (AVX-VNNI, AVX-512 VNNI or AMX), "
                    "which this one does not: others add them up with too few bits"
                )

        def make(samples: SampleFormat | None) -> tuple[Any, int]:
            with translated_errors(f"openvino: compiling {spec.name}"):
                traced = source.key or source.module, precision
                if self._traced != traced:
                    self._traced, self._traces = traced, {}
                kind = Kind(shape[2] % 2, shape[3] % 2, samples)
                if kind not in self._traces:
                    self._traces[kind] = self._trace(source, spec, precision, kind)
                graph, _, enlarge = self._traces[kind]
                graph.reshape([*shape[:2], shape[2] * enlarge, shape[3] * enlarge])
                hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
                compiled = self._core.compile_model(graph, "CPU", {**hints, **self._threads, **self._kept})
                return compiled, enlarge

        return OpenVINONetwork(make, self._tensor, spec.name)

    def _trace(self, source: Source, spec: NetworkSpec, precision: Precision, kind: Kind) -> Trace:
        """The trace that was kept, or a new one, which is kept."""
        key = None if source.key is None or spec.channels != 1 else f"{source.key}, {precision}, {kind}"
        kept = None if key is None else self._graphs.read(key, self._core.read_model)
        if kept is not None:
            return kept
        with _tracing:
            from .tracing import trace

            new = trace(source.module, spec, precision, kind)
        if key is not None:
            save = partial(self._openvino.save_model, new.graph)
            self._graphs.write(key, f"{spec.name}, {precision}", save, new.enlarge)
        return new

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
        from .tracing import trace_plain

        with _tracing, translated_errors(f"openvino: exporting {spec.name}"):
            graph, _decoder = trace_plain(module, spec)
            graph.reshape(list(shape))
            graph.set_friendly_name(path.stem)
            for port, name in zip((graph.input(0), graph.output(0)), names, strict=True):
                port.get_tensor().set_names({name})
                port.get_node().set_friendly_name(name)
            for name, fact in facts.items():
                graph.set_rt_info(fact, ["vsr_plugin", name])
            self._openvino.save_model(graph, str(path), compress_to_fp16=half)


def _stays_flat(source: Source, spec: NetworkSpec) -> bool:
    if source.stays_flat is not None:
        return source.stays_flat
    with _tracing:
        from .rounding import stays_flat

        return stays_flat(source.module, spec)


class OpenVINONetwork:
    """Infer requests, one for each format of the result, that read and write arrays without copies.

    Args:
        make: Compiles for a format of samples, or None for float32: the compiled model, and `Trace.enlarge`.
        tensor: OpenVINO's tensor class.
        name: The model's name.
    """

    def __init__(self, make: Callable[[SampleFormat | None], tuple[Any, int]], tensor: Any, name: str) -> None:
        self._make = make
        self._requests: dict[SampleFormat | None, tuple[Any, int, tuple[int, ...]]] = {}
        self._tensor = tensor
        self._name = name

    def __call__(self, x: Array) -> Array:
        """Run one batch: a tensor, or an array, and so is the result."""
        if not isinstance(x, np.ndarray):
            return as_tensor(self(x.numpy()))
        request, enlarge, shape = self._request(None)
        result = np.empty(shape, np.float32)
        self._run(request, x, enlarge, result)
        return result

    def upscale_samples(self, x: Samples, samples: SampleFormat) -> Samples:
        """Run one batch of samples.

        Raises:
            UsageError: the network's output has NaN or infinity.
        """
        request, enlarge, shape = self._request(samples)
        if request.get_input_tensor().data.dtype != np.uint8:
            x = to_unit(x, samples.peak)
        result = np.empty(shape, np.uint8 if samples.depth == 8 else np.float32)
        self._run(request, x, enlarge, result)
        check_finite(float(request.get_output_tensor(1).data), x, self._name)
        return result.astype(samples.dtype, copy=False)

    def close(self) -> None:
        """Free the requests, and with them the compiled models."""
        self._requests.clear()

    def _request(self, samples: SampleFormat | None) -> tuple[Any, int, tuple[int, ...]]:
        if samples not in self._requests:
            compiled, enlarge = self._make(samples)
            self._requests[samples] = compiled.create_infer_request(), enlarge, tuple(compiled.output(0).shape)
        return self._requests[samples]

    def _run(self, request: Any, x: Samples, enlarge: int, result: Samples) -> None:
        with translated_errors(f"openvino: running {self._name}"):
            # The input must live until the request is done.
            x = np.ascontiguousarray(x if enlarge == 1 else enlarge_unit(x, enlarge))
            request.set_input_tensor(self._tensor(x, shared_memory=True))
            request.set_output_tensor(0, self._tensor(result, shared_memory=True))
            # Not infer(), which computes in the calling thread: if that thread has ended when another one closes the
            # request, the heap is corrupted (OpenVINO 2026.4).
            request.start_async()
            request.wait()


@cache
def _core() -> Any:
    """The process's only `openvino.Core`, which is never freed; called under `_importing`, so that there is one.

    OpenVINO's plugin for CPUs gives the thread that loads it another stack for signals (OpenVINO 2026.4). If cores are
    not freed last in, first out, the thread is left with a stack that is gone: the next Ctrl-C is a segmentation fault.
    """
    import openvino

    return openvino.Core()


@contextmanager
def _unreported() -> Iterator[None]:
    """Hide OpenVINO's telemetry package, without which a process of its own does not report the import to its makers.

    It is hidden only from imports of this thread.
    """
    finder = _Hidden(_REPORTER, threading.get_ident())
    with _importing:
        # New lists: other threads go through the old one, and would miss a finder if one before it were removed.
        sys.meta_path = [finder, *sys.meta_path]
        try:
            yield
        finally:
            sys.meta_path = [each for each in sys.meta_path if each is not finder]


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
