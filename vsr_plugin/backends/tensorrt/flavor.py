"""The only module that uses TensorRT and TensorRT-RTX, whose interfaces are nearly the same."""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from ...errors import BackendError, UsageError
from ..graph import INPUT, OUTPUT
from ..memory import means_no_room
from . import Target, absent

if TYPE_CHECKING:
    from torch import Tensor

    from . import FlavorName, Profile, Shape
    from .builds import Watch

_log = logging.getLogger(__name__)

_VENDORS = "install TensorRT from NVIDIA"
_OLDEST = 10  # of TensorRT; TensorRT-RTX has version numbers of its own
# Words of both libraries for a file that is not an engine, or is one of another version or GPU.
_FOREIGN = ("magic tag", "version tag", "serialization assertion", "plan file", "engine header does not conform")
# Types are as in the graph, and float32 keeps all its bits.
OPTIONS = ("strongly typed", "no TF32")


def find_flavor(*, ahead: bool = False) -> Flavor:
    """The library that is installed.

    Args:
        ahead: Whether engines are built for another GPU, which only TensorRT-RTX can do; otherwise TensorRT is
            preferred, because it runs on every GPU and measures on the one that it builds for.

    Raises:
        BackendError: neither is installed, or it does not load.
    """
    names: tuple[FlavorName, ...] = ("tensorrt_rtx", "tensorrt") if ahead else ("tensorrt", "tensorrt_rtx")
    broken: list[str] = []
    for name in names:
        try:
            flavor = Flavor(import_module(name), name)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:  # its libraries, or those of the driver
            if not isinstance(error, ModuleNotFoundError) or error.name != name:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                broken.append(f"{name} does not load: {reason}")
        else:
            if broken:
                _log.warning("%s: using %s", broken[0], name)
            return flavor
    if broken:
        raise BackendError(f"Backend 'tensorrt' cannot be used: {broken[0]}; install it again")
    raise absent()


class Flavor:
    """One of the two libraries.

    Args:
        library: The module.
        name: Its name.

    Attributes:
        name: ″
        version: The library's version.

    Raises:
        ImportError: it is too old.
    """

    def __init__(self, library: Any, name: FlavorName) -> None:
        self.name, self.version = name, str(library.__version__)
        self._library = library
        major = self.version.partition(".")[0]
        if name == "tensorrt" and not (major.isdecimal() and int(major) >= _OLDEST):
            raise ImportError(f"expected version {_OLDEST} or newer, got {self.version}")
        self._messages = _messages(library.ILogger)

    def target(self, device: torch.device) -> Target:
        """The target of engines for a CUDA device.

        Raises:
            BackendError: the library does not build for it.
        """
        major, minor = torch.cuda.get_device_capability(device)
        capability, gpu = f"{major}.{minor}", torch.cuda.get_device_name(device)
        if self.name == "tensorrt":
            return Target(self.name, self.version, capability, gpu, _driver(), sys.platform)
        try:
            return self.target_ahead(capability)
        except UsageError as error:
            raise BackendError(
                f"TensorRT-RTX {self.version} does not build for {gpu}, of compute capability {capability}: {_VENDORS}"
            ) from error

    def target_ahead(self, capability: str) -> Target:
        """The target of engines for any GPU of a compute capability.

        Raises:
            UsageError: the library does not build for it.
        """
        if self.name == "tensorrt_rtx" and capability not in (known := self._capabilities()):
            raise UsageError(
                f"Expected a compute capability that TensorRT-RTX {self.version} builds for ({', '.join(known)}), "
                f"got {capability!r}: for others {_VENDORS}"
            )
        return Target(self.name, self.version, capability)

    def _capabilities(self) -> dict[str, Any]:
        members = self._library.ComputeCapability.__members__
        return {f"{name[2:-1]}.{name[-1]}": value for name, value in members.items() if name.startswith("SM")}

    def build(self, onnx: bytes, profile: Profile, target: Target, timings: bytes, watch: Watch) -> tuple[bytes, bytes]:
        """Build an engine; returns it, and the timing cache with the measurements for it.

        Raises:
            RuntimeError: the library reports an error; in its own words.
        """
        library = self._library
        builder = library.Builder(self._messages)
        network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = library.OnnxParser(network, self._messages)
        if not parser.parse(onnx):
            raise RuntimeError("; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)))
        config = builder.create_builder_config()
        config.clear_flag(library.BuilderFlag.TF32)
        config.progress_monitor = monitor = _monitor(library, watch)
        # A dimension that never changes is written into the graph, so that the builder can use it.
        x = network.get_input(0)
        x.shape = tuple(a if a == b else -1 for a, b in zip(profile.smallest, profile.largest, strict=True))
        if -1 in tuple(x.shape):
            shapes = builder.create_optimization_profile()
            shapes.set_shape(x.name, profile.smallest, profile.largest, profile.largest)
            config.add_optimization_profile(shapes)
        measured = None
        if self.name == "tensorrt_rtx":
            config.num_compute_capabilities = 1
            config.set_compute_capability(self._capabilities()[target.capability], 0)
        else:
            measured = config.create_timing_cache(timings) or config.create_timing_cache(b"")
            config.set_timing_cache(measured, ignore_mismatch=False)
        self._messages.clear()
        engine = builder.build_serialized_network(network, config)
        del monitor  # it must outlive the build
        if engine is None and not watch.stopped:
            reason = "out of memory: " if self._messages.short_of_memory else ""  # reported as "no implementation"
            raise RuntimeError(reason + self._messages.cause)
        return (b"" if engine is None else bytes(engine)), (b"" if measured is None else bytes(measured.serialize()))

    def load(self, engine: bytes, compiled: bytes, device: torch.device) -> LoadedEngine | None:
        """Load an engine to a device; None if the library does not accept the file.

        Args:
            engine: An engine from `build`.
            compiled: An earlier result of `LoadedEngine.compiled`, or nothing.
            device: The device.

        Raises:
            RuntimeError: the file is valid, but memory is too small, or the GPU not usable; in the library's words.
        """
        with current(device):
            runtime = self._library.Runtime(self._messages)
            self._messages.clear()
            loaded = runtime.deserialize_cuda_engine(engine)
            if loaded is not None:
                return LoadedEngine(self._library, self._messages, runtime, loaded, compiled)
            if self._is_foreign(runtime, engine):
                return None
            raise RuntimeError(self._messages.cause)

    def _is_foreign(self, runtime: Any, engine: bytes) -> bool:
        """Whether a rejected file is not an engine of this version of the library."""
        if not hasattr(runtime, "get_engine_validity"):  # only TensorRT-RTX has it
            said = "\n".join(self._messages.errors).lower()
            return any(words in said for words in _FOREIGN)
        why = self._library.EngineInvalidityDiagnostics
        _, found = runtime.get_engine_validity(engine)
        return bool(int(found) & (int(why.VERSION_MISMATCH) | int(why.MALFORMED_ENGINE)))


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Make a CUDA device the one that libraries use by default."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class LoadedEngine:
    """An engine on its device, which must be current in every call.

    Args:
        library: The module.
        messages: Its logger.
        runtime: The runtime that has loaded the engine, and must outlive it.
        engine: The library's engine.
        compiled: An earlier result of `compiled`, or nothing.

    Raises:
        RuntimeError: the library reports an error, here or in any method; in its own words.
    """

    def __init__(self, library: Any, messages: Any, runtime: Any, engine: Any, compiled: bytes) -> None:
        self._library, self._messages, self._runtime, self._engine = library, messages, runtime, engine
        self._cache = self._config = None
        self._workspace = torch.empty(0)
        how = library.ExecutionContextAllocationStrategy.USER_MANAGED  # the workspace is memory of torch
        messages.clear()
        if hasattr(library, "IRuntimeCache"):  # TensorRT-RTX compiles for the GPU when an engine is first run
            self._config = engine.create_runtime_config()
            self._config.set_execution_context_allocation_strategy(how)
            # A CUDA graph is recorded after the first run: that run must be like all later ones.
            strategies = library.DynamicShapesKernelSpecializationStrategy
            self._config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            self._cache = self._config.create_runtime_cache()
            if compiled:
                self._cache.deserialize(compiled)  # refused for another driver: then it compiles again
            self._config.set_runtime_cache(self._cache)
            how = self._config
        self._context = engine.create_execution_context(how)
        self._check(self._context is not None)

    def bind(self, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
        """Set the shape (N, C, H, W); returns the input and the output, which every run reads and writes."""
        self._messages.clear()
        self._check(self._context.set_input_shape(INPUT, shape))
        size = max(1, int(self._context.update_device_memory_size_for_shapes()))
        types = self._library.DataType
        dtypes = {types.FLOAT: torch.float32, types.HALF: torch.float16, types.BF16: torch.bfloat16}
        dtype = dtypes[self._engine.get_tensor_dtype(OUTPUT)]
        x = torch.zeros(shape, device=device)
        y = torch.empty(tuple(self._context.get_tensor_shape(OUTPUT)), dtype=dtype, device=device)
        self._workspace = torch.empty(size, dtype=torch.uint8, device=device)
        if hasattr(self._context, "set_device_memory"):
            self._context.set_device_memory(self._workspace.data_ptr(), size)
        else:  # in the first versions of TensorRT 10
            self._context.device_memory = self._workspace.data_ptr()
        self._check(self._context.set_tensor_address(INPUT, x.data_ptr()))
        self._check(self._context.set_tensor_address(OUTPUT, y.data_ptr()))
        return x, y

    def capturable(self, stream: int) -> bool:
        """Whether a run on the stream of this handle may become part of a CUDA graph."""
        return not hasattr(self._context, "is_stream_capturable") or bool(self._context.is_stream_capturable(stream))

    def enqueue(self, stream: int) -> None:
        """Enqueue one run on the stream of this handle."""
        self._messages.clear()
        self._check(self._context.execute_async_v3(stream))

    def compiled(self) -> bytes:
        """The code that the library has compiled at run time, to be reused; empty if it compiles none."""
        written = None if self._cache is None else self._cache.serialize()
        return b"" if written is None else bytes(written)

    def close(self) -> None:
        """Free the engine, from the inside out."""
        del self._context, self._workspace, self._cache, self._config, self._engine, self._runtime

    def _check(self, done: object) -> None:
        if not done:
            raise RuntimeError(self._messages.cause)


@cache
def _messages(logger: Any) -> Any:
    """The logger of a library: it keeps errors, for our messages, and logs everything at debug level.

    One for each library: TensorRT uses the first logger that it gets for the whole process.
    """

    class Messages(logger):  # type: ignore[misc] # a class of the library that was found
        def __init__(self) -> None:
            super().__init__()
            self.clear()

        def clear(self) -> None:
            """Forget all messages."""
            self.errors: list[str] = []
            self.short_of_memory = False

        @property
        def cause(self) -> str:
            """The most useful error: one on missing memory, or the first, which caused the others."""
            errors = [*filter(means_no_room, self.errors), *self.errors, "the library refuses, and gives no reason"]
            return errors[0]

        def log(self, severity: Any, message: str) -> None:
            if severity <= logger.ERROR:
                self.errors.append(message)
            self.short_of_memory |= "memory is insufficient" in message.lower()
            _log.debug("%s", message)

    return Messages()


def _monitor(library: Any, watch: Watch) -> Any:
    class Monitor(library.IProgressMonitor):  # type: ignore[misc] # ″
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return Monitor()


@cache
def _driver() -> str:
    """The version of the GPU's driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        _log.warning("the driver's version is unknown (%s): clear the engine cache after a driver update", error)
        return "unknown"
