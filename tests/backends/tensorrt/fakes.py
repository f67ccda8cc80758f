"""Stand-ins for TensorRT and TensorRT-RTX: their engines are ONNX graphs, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from vsr_plugin.backends.graph import INPUT, OUTPUT
from vsr_plugin.backends.tensorrt import flavor

if TYPE_CHECKING:
    import pytest

STAMP = b"fake engine "


class Names(enum.IntFlag):
    """Members of the libraries' enumerations."""

    STATIC, USER_MANAGED, LAZY, EAGER, FLOAT, HALF, VERSION_MISMATCH, MALFORMED_ENGINE, BF16, STRONGLY_TYPED, TF32 = (
        1 << bit for bit in range(11)
    )


Capability = enum.Enum("Capability", "NONE CURRENT SM75 SM89 SM120")


def session_of(onnx: bytes) -> Any:
    return onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])


def run_graph(onnx: bytes, x: torch.Tensor) -> torch.Tensor:
    """What a graph makes of ``x``."""
    return torch.from_numpy(session_of(onnx).run([OUTPUT], {INPUT: x.numpy()})[0])


class Library(SimpleNamespace):
    """One of the two as a module, and each of its objects, because only one of them is in use at a time.

    Attributes:
        built: For each build the graph, the shape of the input, the profile, the timing cache and what it is for.
        loaded: (engine, what was compiled for it) of each load.
        told: What execution contexts are told.
        fails: The errors of a build, as (severity, message), or nothing; called with the shape of its input.
        refuses: The errors for an engine that is refused; None where it is taken; called with its bytes.
    """

    num_errors = 1

    def __init__(self, name: str = "tensorrt_rtx", version: str = "1.7.1") -> None:
        super().__init__(__version__=version, ILogger=type("ILogger", (), {"ERROR": 1}), IProgressMonitor=object)
        self.built: list[SimpleNamespace] = []
        self.loaded: list[tuple[bytes, bytes]] = []
        self.told: list[Any] = []
        self.fails: Any = lambda _: []
        self.refuses: Any = lambda engine: None if engine.startswith(STAMP) else [(1, "Magic tag does not match")]
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        self.BuilderFlag = self.DataType = self.ExecutionContextAllocationStrategy = Names
        if name == "tensorrt_rtx":
            self.IRuntimeCache, self.ComputeCapability = object, Capability
            self.DynamicShapesKernelSpecializationStrategy = self.EngineInvalidityDiagnostics = Names
            self.get_engine_validity = lambda engine: (False, Names(0 if engine.startswith(STAMP) else 128))

    # Building.

    def Builder(self, log: Any) -> Library:  # noqa: N802 - as the library calls it
        self._log = log
        return self

    def create_network(self, flags: int) -> Library:
        self._wish = SimpleNamespace(flags=flags, profile=(), timings=b"", capability=None)
        self._input = SimpleNamespace(name=INPUT, shape=(-1, 1, -1, -1))
        return self

    def get_input(self, _: int) -> Any:
        return self._input

    def OnnxParser(self, *_: Any) -> Library:  # noqa: N802 - ″
        return self

    def parse(self, onnx: bytes) -> bool:
        self._wish.onnx = onnx
        return onnx != b"bad"

    def get_error(self, _: int) -> Any:
        return SimpleNamespace(desc=lambda: "no such operator")

    def create_builder_config(self) -> Library:
        return self

    create_optimization_profile = create_builder_config

    def clear_flag(self, flag: Any) -> None:
        self._wish.cleared = flag

    def set_shape(self, _: str, *shapes: Any) -> None:
        self._wish.profile = shapes

    def add_optimization_profile(self, _: Any) -> None:
        assert self._wish.profile

    def create_timing_cache(self, content: bytes) -> Any:
        return None if content == b"bad" else SimpleNamespace(content=content, serialize=lambda: content + b"new, ")

    def set_timing_cache(self, cache: Any, *, ignore_mismatch: bool) -> None:
        self._wish.timings = b"" if ignore_mismatch else cache.content

    def set_compute_capability(self, capability: Any, index: int) -> None:
        assert (self.num_compute_capabilities, index) == (1, 0)
        self._wish.capability = capability

    def build_serialized_network(self, *_: Any) -> bytes | None:
        self._wish.shape = tuple(self._input.shape)
        self.built.append(self._wish)
        errors = self.fails(self._wish.shape)
        for error in errors:
            self._log.log(*error)
        return None if errors else STAMP + self._wish.onnx

    # Running.

    Runtime = Builder

    def deserialize_cuda_engine(self, engine: bytes) -> Any:
        errors = self.refuses(engine)
        self.loaded.append((engine, b""))
        for error in errors or ():
            self._log.log(*error)
        if errors is not None:
            return None
        self._session = session_of(engine.removeprefix(STAMP))
        return self

    def create_runtime_config(self) -> Library:
        return self

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def create_runtime_cache(self) -> Library:
        self._compiled = b""
        return self

    def deserialize(self, content: bytes) -> bool:
        self._compiled = content
        self.loaded[-1] = (self.loaded[-1][0], content)
        return True

    def serialize(self) -> bytes:
        return self._compiled or b"kernels"

    def set_runtime_cache(self, _: Any) -> None: ...

    def create_execution_context(self, how: Any) -> Library:
        if how is self:  # the configuration
            assert self.dynamic_shapes_kernel_specialization_strategy is Names.EAGER
            how = self._strategy
        assert how is Names.USER_MANAGED  # the workspace is torch's memory
        self._addresses: dict[str, int] = {}
        return self

    def get_tensor_dtype(self, _: str) -> Names:
        return {"tensor(float)": Names.FLOAT, "tensor(float16)": Names.HALF}[self._session.get_outputs()[0].type]

    def set_input_shape(self, _: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return True

    def update_device_memory_size_for_shapes(self) -> int:
        return 4096

    def get_tensor_shape(self, _: str) -> tuple[int, ...]:
        shape: tuple[int, ...] = self._run(np.zeros(self._shape, np.float32)).shape
        return shape

    def set_device_memory(self, address: int, size: int) -> None:
        self.told.append(("workspace", bool(address), size))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.told.append(name)
        self._addresses[name] = address
        return True

    def is_stream_capturable(self, _: int) -> bool:
        return False

    def execute_async_v3(self, stream: int) -> bool:
        self.told.append(stream)
        memory = (ctypes.c_char * (4 * int(np.prod(self._shape)))).from_address(self._addresses[INPUT])
        result = self._run(np.frombuffer(memory, np.float32).reshape(self._shape))
        ctypes.memmove(self._addresses[OUTPUT], result.ctypes.data, result.nbytes)
        return True

    def _run(self, x: Any) -> Any:
        return np.ascontiguousarray(self._session.run([OUTPUT], {INPUT: x})[0])


def install(monkeypatch: pytest.MonkeyPatch, **libraries: Any) -> None:
    """Make these all that can be imported; an exception is raised."""

    def load(name: str) -> Any:
        found = libraries.get(name, ModuleNotFoundError(f"No module named {name!r}", name=name))
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(flavor, "import_module", load)
