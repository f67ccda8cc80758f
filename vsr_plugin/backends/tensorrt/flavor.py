"""The one place that knows TensorRT and TensorRT-RTX, which speak alike: build an engine, load one."""

from __future__ import annotations

import ctypes
import logging
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from ...errors import BackendError, UsageError
from ..memory import means_no_room
from . import Target
from .executable import LoadedEngine

if TYPE_CHECKING:
    from . import FlavorName, Profile
    from .builds import Watch

_log = logging.getLogger(__name__)

INSTALL = "pip install 'vsr-plugin[tensorrt-rtx]' (RTX GPUs) or 'vsr-plugin[tensorrt]' (all NVIDIA GPUs)"
_OLDEST = 10  # of TensorRT; TensorRT-RTX counts on its own
# What either says of a file that is none of its engines, or one of another version or GPU.
_FOREIGN = ("magic tag", "version tag", "serialization assertion", "plan file", "engine header does not conform")
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
                broken = broken or f"{name} does not load: {error}; install it again"
        except BackendError as error:
            broken = broken or str(error)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:  # its libraries, or those of the driver
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            broken = broken or f"{name} does not load: {reason}; install it again"
        else:
            if broken:
                _log.warning("%s: taking %s", broken, name)
            return flavor
    if broken:
        raise BackendError(f"Backend 'tensorrt' cannot be used: {broken}, or choose --backend eager")
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
        major = re.match(r"\d+", self.version)
        if name == "tensorrt" and (major is None or int(major[0]) < _OLDEST):
            raise BackendError(f"expected TensorRT {_OLDEST} or newer, got {self.version}: pip install -U tensorrt")
        self._ear = _ear(library.ILogger)

    def target(self, device: torch.device) -> Target:
        """What engines for a CUDA device are built for.

        Raises:
            BackendError: one that the library does not build for.
        """
        major, minor = torch.cuda.get_device_capability(device)
        capability, gpu = f"{major}.{minor}", torch.cuda.get_device_name(device)
        if self.name == "tensorrt":
            return Target(self.name, self.version, capability, gpu, _driver(), sys.platform)
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
                    f"({', '.join(known)}), got {capability!r}: others need pip install 'vsr-plugin[tensorrt]'"
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
        self._ear.listen()
        engine = builder.build_serialized_network(network, config)
        del monitor  # it must outlive the builder's use of it
        if engine is None and not watch.stopped:
            reason = "out of memory: " if self._ear.short_of_memory else ""  # which it calls a lack of implementations
            raise RuntimeError(reason + (self._ear.heard or "it does not say why"))
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
            RuntimeError: the file is good, but there is no room, or no way to the GPU; the library's own words.
        """
        with torch.cuda.device(device):
            runtime = self._library.Runtime(self._ear)
            self._ear.listen()
            loaded = runtime.deserialize_cuda_engine(engine)
            if loaded is not None:
                return LoadedEngine(self._library, self._ear, runtime, loaded, compiled)
            if self._is_foreign(runtime, engine):
                return None
            raise RuntimeError(self._ear.heard or "the engine is not taken, and it does not say why")

    def _is_foreign(self, runtime: Any, engine: bytes) -> bool:
        """Whether a file that was not taken is no engine of this version of the library."""
        if not hasattr(runtime, "get_engine_validity"):  # which TensorRT-RTX has
            said = "\n".join(self._ear.errors).lower()
            return any(words in said for words in _FOREIGN)
        why = self._library.EngineInvalidityDiagnostics
        _, found = runtime.get_engine_validity(engine)
        return bool(int(found) & (int(why.VERSION_MISMATCH) | int(why.MALFORMED_ENGINE)))


@cache
def _ear(logger: Any) -> Any:
    """The logger that keeps errors, one of which becomes ours, and passes everything on for --verbose.

    There is one for each library: TensorRT keeps the first that it is given for the whole process, and calls no other.
    """

    class Ear(logger):  # type: ignore[misc] # a class of the library that was found
        def __init__(self) -> None:
            super().__init__()
            self.listen()

        def listen(self) -> None:
            """Forget what was said so far."""
            self.errors: list[str] = []
            self.short_of_memory = False

        @property
        def heard(self) -> str:
            """The error that says most: that there is no room, or the first, which others follow from."""
            return next(filter(means_no_room, self.errors), self.errors[0] if self.errors else "")

        def log(self, severity: Any, message: str) -> None:
            if severity <= logger.ERROR:
                self.errors.append(message)
            self.short_of_memory |= "memory is insufficient" in message.lower()
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


@cache
def _driver() -> str:
    """The version of the GPU's driver, as its management library says it."""
    version = ctypes.create_string_buffer(80)
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        told = nvml.nvmlInit_v2() == 0 and nvml.nvmlSystemGetDriverVersion(version, len(version)) == 0
    except (OSError, AttributeError):
        told = False
    if not told:
        _log.warning("the GPU's driver does not tell its version: after an update of it, call `vsr cache clear`")
    return version.value.decode(errors="replace") or "unknown"
