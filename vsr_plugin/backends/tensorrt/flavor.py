"""The one place that knows TensorRT and TensorRT-RTX, which speak alike: build an engine, load one."""

from __future__ import annotations

import logging
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import torch

from ...errors import BackendError, UsageError
from ..memory import means_no_room
from . import Binding, Target
from .export import INPUT, OUTPUT

if TYPE_CHECKING:
    from . import FlavorName, Profile, Shape
    from .builds import Watch

_log = logging.getLogger(__name__)

INSTALL = "pip install 'vsr-plugin[tensorrt-rtx]' (RTX GPUs) or 'vsr-plugin[tensorrt]' (all NVIDIA GPUs)"
_PATIENCE = 10.0  # seconds for the driver to say its version
_OLDEST = 10  # of TensorRT; TensorRT-RTX counts on its own
# Types are as in the graph, and float32 keeps all its bits.
OPTIONS = ("strongly typed", "no TF32")


def find_flavor(*, ahead: bool = False) -> Flavor:
    """The library that is there.

    Args:
        ahead: Whether engines are built for another GPU, which TensorRT-RTX alone does; else TensorRT comes first, for
            it runs on every GPU, and measures on the one at hand.

    Raises:
        BackendError: neither is there, or it does not load.
    """
    names: tuple[FlavorName, ...] = ("tensorrt_rtx", "tensorrt") if ahead else ("tensorrt", "tensorrt_rtx")
    broken = ""
    for name in names:
        try:
            flavor = Flavor(_load(name), name)
        except ModuleNotFoundError as error:
            if error.name != name:
                broken = broken or f"{name} does not load: {error}"
        except (ImportError, OSError, RuntimeError, AttributeError) as error:  # its libraries, or those of the driver
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            broken = broken or f"{name} does not load: {reason}"
        else:
            if broken:
                _log.warning("%s: taking %s", broken, name)
            return flavor
    if broken:
        raise BackendError(f"Backend 'tensorrt' cannot be used: {broken}; install it again, or choose --backend eager")
    raise BackendError(f"Backend 'tensorrt' is not installed: {INSTALL}, or choose --backend eager")


def _load(name: FlavorName) -> Any:
    if name == "tensorrt":
        import tensorrt

        return tensorrt
    import tensorrt_rtx

    return tensorrt_rtx


class Flavor:
    """One of the two libraries.

    Args:
        library: The module.
        name: Its name.

    Attributes:
        name: ″
        version: Of the library.
    """

    def __init__(self, library: Any, name: FlavorName) -> None:
        self.name = name
        self.version = str(library.__version__)
        self._library = library
        if name == "tensorrt" and int(self.version.partition(".")[0]) < _OLDEST:
            raise BackendError(f"Expected TensorRT {_OLDEST} or newer, got {self.version}: pip install -U tensorrt")
        self._ear = _ear(library)

    def target(self, device: torch.device) -> Target:
        """What engines for a CUDA device are built for.

        Raises:
            BackendError: one that the library does not build for.
        """
        major, minor = torch.cuda.get_device_capability(device)
        capability, gpu = f"{major}.{minor}", torch.cuda.get_device_name(device)
        if self.name == "tensorrt":
            return Target(self.name, self.version, capability, gpu, _driver())
        try:
            return self.target_ahead(capability)
        except UsageError as error:
            raise BackendError(
                f"TensorRT-RTX {self.version} does not build for {gpu}, of compute capability {capability}: "
                "pip install 'vsr-plugin[tensorrt]', or use another --backend"
            ) from error

    def target_ahead(self, capability: str) -> Target:
        """What engines for any GPU of a compute capability are built for.

        Raises:
            UsageError: one that the library does not build for.
        """
        if self.name == "tensorrt_rtx":
            known = self._capabilities()
            if capability not in known:
                raise UsageError(
                    f"Expected a compute capability that TensorRT-RTX {self.version} builds for "
                    f"({', '.join(known)}), got {capability!r}"
                )
        return Target(self.name, self.version, capability)

    def _capabilities(self) -> dict[str, Any]:
        members = self._library.ComputeCapability.__members__
        numbers = {name.removeprefix("SM"): value for name, value in members.items() if name.startswith("SM")}
        return {f"{number[:-1]}.{number[-1]}": value for number, value in numbers.items()}

    def build(self, onnx: bytes, profile: Profile, target: Target, timings: bytes, watch: Watch) -> tuple[bytes, bytes]:
        """Make an engine; gives it, and the timing cache with what was measured for it.

        Raises:
            RuntimeError: the library refuses; its own words.
        """
        library = self._library
        builder = library.Builder(self._ear)
        network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = library.OnnxParser(network, self._ear)
        if not parser.parse(onnx):
            raise RuntimeError("; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)))
        config = builder.create_builder_config()
        config.clear_flag(library.BuilderFlag.TF32)
        config.progress_monitor = monitor = _monitor(library, watch)
        self._set_shapes(builder, network, config, profile)
        cache = None
        if self.name == "tensorrt_rtx":
            config.num_compute_capabilities = 1
            config.set_compute_capability(self._capabilities()[target.capability], 0)
        else:
            cache = config.create_timing_cache(timings) or config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        self._ear.heard = ""
        engine = builder.build_serialized_network(network, config)
        del monitor  # it must outlive the builder's use of it
        if engine is None and not watch.stopped:
            raise RuntimeError(self._ear.heard or "it does not say why")
        return (b"" if engine is None else bytes(engine)), (b"" if cache is None else bytes(cache.serialize()))

    def _set_shapes(self, builder: Any, network: Any, config: Any, profile: Profile) -> None:
        """What never changes is written into the graph, so that it is computed with once; the rest is a profile."""
        x = network.get_input(0)
        pairs = zip(profile.smallest, profile.largest, strict=True)
        x.shape = tuple(least if least == most else -1 for least, most in pairs)
        if -1 in tuple(x.shape):
            shapes = builder.create_optimization_profile()
            shapes.set_shape(x.name, profile.smallest, profile.usual, profile.largest)
            config.add_optimization_profile(shapes)

    def load(self, engine: bytes, compiled: bytes, device: torch.device) -> LoadedEngine | None:
        """Put an engine on a device; None where the library does not take the file.

        Args:
            engine: What `build` made.
            compiled: What `Executable.compiled` gave earlier, or nothing.
            device: Where.

        Raises:
            RuntimeError: there is no room for it; the library's own words.
        """
        with torch.cuda.device(device):
            runtime = self._library.Runtime(self._ear)
            self._ear.heard = ""
            loaded = runtime.deserialize_cuda_engine(engine)
            if loaded is None and means_no_room(self._ear.heard):  # the file is good
                raise RuntimeError(self._ear.heard)
            return None if loaded is None else LoadedEngine(self._library, self._ear, runtime, loaded, compiled)


class LoadedEngine:
    """An `Executable` of either library; to be used with its device current."""

    def __init__(self, library: Any, ear: Any, runtime: Any, engine: Any, compiled: bytes) -> None:
        self._library, self._ear, self._runtime, self._engine = library, ear, runtime, engine
        self._cache = None
        own_memory = library.ExecutionContextAllocationStrategy.USER_MANAGED
        if hasattr(library, "IRuntimeCache"):  # TensorRT-RTX compiles for the GPU when an engine is first run
            config = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(own_memory)
            # A graph is recorded after the first run: what runs then must be what should always run.
            strategies = library.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            self._cache = config.create_runtime_cache()
            if compiled:
                self._cache.deserialize(compiled)
            config.set_runtime_cache(self._cache)
            self._context = engine.create_execution_context(config)
        else:
            self._context = engine.create_execution_context(own_memory)
        if self._context is None:
            raise RuntimeError(ear.heard or "no execution context, and it does not say why")

    def bind(self, shape: Shape) -> Binding:
        """Choose the shape of the input."""
        if not self._context.set_input_shape(INPUT, shape):
            raise RuntimeError(self._ear.heard or f"an input of {shape} is refused")
        workspace = int(self._context.update_device_memory_size_for_shapes())
        n, c, h, w = self._context.get_tensor_shape(OUTPUT)
        types = self._library.DataType
        dtypes = {types.FLOAT: torch.float32, types.HALF: torch.float16, types.BF16: torch.bfloat16}
        return Binding((n, c, h, w), dtypes[self._engine.get_tensor_dtype(OUTPUT)], workspace)

    def enqueue(self, x: int, y: int, workspace: int, stream: int) -> None:
        """Enqueue one run."""
        context = self._context
        context.device_memory = workspace
        context.set_tensor_address(INPUT, x)
        context.set_tensor_address(OUTPUT, y)
        if not context.execute_async_v3(stream):
            raise RuntimeError(self._ear.heard or "it does not say why")

    def compiled(self) -> bytes:
        """What was compiled for this GPU."""
        written = None if self._cache is None else self._cache.serialize()
        return b"" if written is None else bytes(written)

    def close(self) -> None:
        """Free the engine, inside out."""
        del self._context
        del self._cache
        del self._engine
        del self._runtime


def _ear(library: Any) -> Any:
    """A logger that keeps the last error, which becomes ours, and passes the rest on for --verbose."""

    class Ear(library.ILogger):  # type: ignore[misc] # a class of the library that was found
        def __init__(self) -> None:
            super().__init__()
            self.heard = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= library.ILogger.ERROR:
                self.heard = message
            _log.debug("%s", message)

    return Ear()


def _monitor(library: Any, watch: Watch) -> Any:
    class Monitor(library.IProgressMonitor):  # type: ignore[misc] # ″
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return Monitor()


def _driver() -> str:
    """The version of the GPU's driver, as its own program says it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    words = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=_PATIENCE)  # noqa: S603 - the driver's own
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (done.stdout.split() or ["unknown"])[0]
