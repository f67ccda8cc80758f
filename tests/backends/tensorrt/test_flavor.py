"""Either library is spoken to in its own way, and which one is there is found out at use."""

from __future__ import annotations

import ctypes
import enum
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from vsr_plugin.backends import open_backend
from vsr_plugin.backends.memory import means_no_room
from vsr_plugin.backends.tensorrt import Profile, Target, flavor
from vsr_plugin.backends.tensorrt.builds import Watch
from vsr_plugin.backends.tensorrt.executable import LoadedEngine
from vsr_plugin.backends.tensorrt.flavor import Flavor, find_flavor
from vsr_plugin.errors import BackendError, UsageError


class Library(SimpleNamespace):
    """As much of a library as has to be there before anything is asked of it."""

    def __init__(self, version: str, **more: Any) -> None:
        class ILogger:
            ERROR, WARNING = 1, 2

        super().__init__(__version__=version, ILogger=ILogger, **more)


FULL, RTX = Library("10.9.0"), Library("1.7.1", IRuntimeCache=object)


def installed(monkeypatch: pytest.MonkeyPatch, **there: Any) -> None:
    def load(name: str) -> Any:
        found = there.get(name, ModuleNotFoundError(f"No module named {name!r}", name=name))
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(flavor, "_load", load)


@pytest.mark.parametrize(
    ("there", "ahead", "expected"),
    [
        ({"tensorrt": FULL, "tensorrt_rtx": RTX}, False, "tensorrt"),
        ({"tensorrt": FULL, "tensorrt_rtx": RTX}, True, "tensorrt_rtx"),
        ({"tensorrt_rtx": RTX}, False, "tensorrt_rtx"),
        ({"tensorrt": FULL}, True, "tensorrt"),
        ({"tensorrt": ImportError("libnvinfer.so.10: cannot open"), "tensorrt_rtx": RTX}, False, "tensorrt_rtx"),
    ],
)
def test_the_library_that_is_there_is_taken(
    there: dict[str, Any], ahead: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, **there)
    assert find_flavor(ahead=ahead).name == expected


def test_a_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(BackendError, match=r"Backend 'tensorrt' is not installed: pip install") as caught:
        open_backend("tensorrt")
    assert "vsr-plugin[tensorrt-rtx]" in str(caught.value)
    assert "vsr-plugin[tensorrt]" in str(caught.value)


def test_a_library_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tensorrt=ImportError("a\nlibnvinfer.so.10: cannot open shared object file"))
    with pytest.raises(BackendError, match=r"tensorrt does not load: libnvinfer.so.10: cannot open") as caught:
        find_flavor()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["8.6.1", "unknown"])
def test_an_old_tensorrt_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tensorrt=Library(version))
    expected = (
        f"cannot be used: expected TensorRT 10 or newer, got {version}: pip install -U tensorrt, or choose --backend"
    )
    with pytest.raises(BackendError, match=expected):
        find_flavor()


def test_targets_hold_what_engines_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class ComputeCapability(enum.Enum):
        NONE, CURRENT, SM75, SM89, SM120 = range(5)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    monkeypatch.setattr(flavor, "_driver", lambda: "570.1")
    device = torch.device("cuda")
    full = Target("tensorrt", "10.9.0", "8.9", "NVIDIA L4", "570.1", sys.platform)
    assert Flavor(FULL, "tensorrt").target(device) == full
    rtx = Flavor(Library("1.7.1", ComputeCapability=ComputeCapability), "tensorrt_rtx")
    assert rtx.target(device) == Target("tensorrt_rtx", "1.7.1", "8.9")
    assert rtx.target_ahead("12.0") == Target("tensorrt_rtx", "1.7.1", "12.0")
    with pytest.raises(UsageError, match=r"builds for \(7.5, 8.9, 12.0\), got '9.0'"):
        rtx.target_ahead("9.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with pytest.raises(BackendError, match=r"does not build for NVIDIA L4, of compute capability 9.0: pip install"):
        rtx.target(device)


class Nvml:
    """The driver's management library."""

    def __init__(self, name: str) -> None:
        assert "ml" in name

    def nvmlInit_v2(self) -> int:  # noqa: N802 - as it is called
        return 0

    def nvmlSystemGetDriverVersion(self, version: Any, size: int) -> int:  # noqa: N802 - ″
        version.value = b"570.86"[:size]
        return 0


def test_the_driver_tells_its_version(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    ask = flavor._driver.__wrapped__
    monkeypatch.setattr(ctypes, "CDLL", Nvml)
    assert ask() == "570.86"
    assert caplog.messages == []

    def nowhere(_: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", nowhere)
    assert ask() == "unknown"
    assert "after an update of it, call `vsr cache clear`" in caplog.text


@pytest.mark.parametrize(
    ("words", "foreign"),
    [
        ("Serialization assertion magicTagRead == kMAGIC_TAG failed. Magic tag does not match", True),
        ("The engine plan file is generated on an incompatible device, please rebuild.", True),
        ("CUDA out of memory", False),
        ("CUDA initialization failure with error: 35", False),
        ("", False),
    ],
)
def test_only_a_file_that_is_no_engine_of_it_is_a_bad_one(
    words: str, foreign: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())

    class Runtime:
        def __init__(self, ear: Any) -> None:
            self.ear = ear

        def deserialize_cuda_engine(self, _: bytes) -> None:
            if words:
                self.ear.log(1, words)
                self.ear.log(1, "IRuntime::deserializeCudaEngine: Error Code 4: Engine deserialization failed.")

    library = Flavor(Library("10.9.0", Runtime=Runtime), "tensorrt")
    with nullcontext() if foreign else pytest.raises(RuntimeError, match=words or "does not say why"):
        assert library.load(b"engine", b"", torch.device("cuda")) is None


def test_the_real_library_tells_foreign_files_from_a_driver_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    pytest.importorskip("onnxscript")
    if torch.cuda.is_available():
        pytest.skip("there is a driver")
    from tests.backends.tensorrt.test_export import engine_of, exported

    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    rtx, device = find_flavor(ahead=True), torch.device("cuda")
    engine = engine_of(exported("espcn", 3), 1)
    with pytest.raises(RuntimeError, match=r"(?i)cuda"):
        rtx.load(engine, b"", device)
    for foreign in (b"", b"\x7fELF" + bytes(1000), b"?" + engine[1:]):
        assert rtx.load(foreign, b"", device) is None


def test_a_library_has_one_logger_in_a_process() -> None:
    assert Flavor(FULL, "tensorrt")._ear is Flavor(FULL, "tensorrt")._ear


class Context:
    """An execution context that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.accepts = True

    def _set_memory(self, address: int) -> None:
        self.told.append(("device_memory", address))

    device_memory = property(None, _set_memory)  # as the library has it

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.told.append(("shape", name, shape))
        return self.accepts

    def update_device_memory_size_for_shapes(self) -> int:
        return 4096

    def get_tensor_shape(self, _: str) -> tuple[int, ...]:
        return (2, 9, 27, 48)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.told.append(("address", name, address))
        return self.accepts

    def execute_async_v3(self, stream: int) -> bool:
        self.told.append(("execute", stream))
        return self.accepts


class LaterContext(Context):
    """Of a version without the older way to give it memory."""

    def set_device_memory(self, address: int, size: int) -> None:
        self.told.append(("memory", address, size))

    def is_stream_capturable(self, stream: int) -> bool:
        return stream == 77


class Ear:
    """A logger."""

    heard = ""

    def listen(self) -> None: ...


class Strategies(enum.Enum):
    """Of allocation, and of specialization."""

    STATIC, USER_MANAGED, LAZY, EAGER = range(4)


class DataType(enum.Enum):
    """Of tensors."""

    FLOAT, HALF, BF16, INT8 = range(4)


class RuntimeCache:
    """What TensorRT-RTX compiles."""

    content = b""

    def deserialize(self, content: bytes) -> bool:
        self.content = content
        return True

    def serialize(self) -> bytes:
        return self.content + b" and more"


class RuntimeConfig:
    """Of TensorRT-RTX."""

    def __init__(self) -> None:
        self.allocation: Any = None
        self.cache: Any = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.allocation = strategy

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: Any) -> bool:
        self.cache = cache
        return True


class Engine:
    """Gives one context, and remembers by which word."""

    def __init__(self) -> None:
        self.context = Context()
        self.asked: Any = None

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, how: Any) -> Context:
        self.asked = how
        return self.context

    def get_tensor_dtype(self, _: str) -> Any:
        return DataType.HALF


def library(**more: Any) -> Any:
    return SimpleNamespace(
        ExecutionContextAllocationStrategy=Strategies,
        DynamicShapesKernelSpecializationStrategy=Strategies,
        DataType=DataType,
        **more,
    )


def test_a_context_is_bound_and_enqueued_on_the_stream() -> None:
    engine = Engine()
    loaded = LoadedEngine(library(), Ear(), object(), engine, b"")
    assert engine.asked is Strategies.USER_MANAGED  # what it computes in is torch's memory, too
    binding = loaded.bind((2, 1, 27, 48))
    assert (binding.shape, binding.dtype, binding.workspace) == ((2, 9, 27, 48), torch.float16, 4096)
    loaded.attach(100, 200, 300, 4096)
    assert loaded.capturable(5)
    loaded.enqueue(77)
    assert engine.context.told == [
        ("shape", "x", (2, 1, 27, 48)),
        ("device_memory", 300),
        ("address", "x", 100),
        ("address", "y", 200),
        ("execute", 77),
    ]
    assert loaded.compiled() == b""
    loaded.close()


def test_newer_contexts_are_told_how_much_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Context, "device_memory")
    engine = Engine()
    engine.context = LaterContext()
    loaded = LoadedEngine(library(), Ear(), object(), engine, b"")
    loaded.attach(100, 200, 300, 4096)
    assert engine.context.told[0] == ("memory", 300, 4096)
    assert (loaded.capturable(77), loaded.capturable(5)) == (True, False)


def test_what_tensorrt_rtx_compiles_is_given_back_to_it() -> None:
    engine = Engine()
    loaded = LoadedEngine(library(IRuntimeCache=RuntimeCache), Ear(), object(), engine, b"kernels")
    assert engine.asked.allocation is Strategies.USER_MANAGED
    assert engine.asked.dynamic_shapes_kernel_specialization_strategy is Strategies.EAGER
    assert engine.asked.cache.content == b"kernels"
    assert loaded.compiled() == b"kernels and more"


def test_a_refusal_is_in_the_librarys_own_words() -> None:
    engine, ear = Engine(), Ear()
    loaded = LoadedEngine(library(), ear, object(), engine, b"")
    engine.context.accepts = False
    ear.heard = "Error Code 3: not that shape"
    with pytest.raises(RuntimeError, match="not that shape"):
        loaded.bind((9, 1, 27, 48))
    with pytest.raises(RuntimeError, match="Error Code 3"):
        loaded.enqueue(4)
    with pytest.raises(RuntimeError, match="Error Code 3"):
        loaded.attach(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("stand_in", "real"),
    [
        (LaterContext, "IExecutionContext"),
        (RuntimeConfig, "IRuntimeConfig"),
        (RuntimeCache, "IRuntimeCache"),
        (Engine, "ICudaEngine"),
    ],
)
def test_what_stands_in_has_no_method_that_the_real_library_lacks(stand_in: type, real: str) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    asked = {name for name in dir(stand_in) if not name.startswith("_")} - {"content"}
    assert asked
    assert asked <= set(dir(getattr(rtx, real)))
    for enumeration, name in (
        ("ExecutionContextAllocationStrategy", "USER_MANAGED"),
        ("DynamicShapesKernelSpecializationStrategy", "EAGER"),
        ("EngineInvalidityDiagnostics", "MALFORMED_ENGINE"),
        ("DataType", "BF16"),
    ):
        assert hasattr(getattr(rtx, enumeration), name)


class Builder:
    """Of the full library: with a timing cache, without compute capabilities."""

    made: ClassVar[list[Builder]] = []

    def __init__(self, ear: Any) -> None:
        self.ear = ear
        self.profiles: list[Any] = []
        self.flags_cleared: list[str] = []
        self.timings = b""
        self.input = SimpleNamespace(name="x", shape=(-1, 1, -1, -1))
        Builder.made.append(self)

    def create_network(self, flags: int) -> Any:
        assert flags == 2
        return SimpleNamespace(get_input=lambda _: self.input)

    def create_builder_config(self) -> Builder:
        return self

    def clear_flag(self, flag: str) -> None:
        self.flags_cleared.append(flag)

    def create_timing_cache(self, content: bytes) -> Any:
        return None if content == b"bad" else SimpleNamespace(serialize=lambda: content + b"new")

    def set_timing_cache(self, cache: Any, *, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        return True

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda *shapes: self.profiles.append(shapes))

    def add_optimization_profile(self, _: Any) -> None:
        assert self.profiles

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        if self.input.shape[2] < 99:
            return b"engine"
        self.ear.log(2, "Tactic Device request: 9 MB. Device memory is insufficient to use tactic.")
        self.ear.log(1, "Error Code 10: Could not find any implementation for node conv1.")
        return None


class Parser:
    """Takes every graph but one."""

    num_errors = 1

    def __init__(self, *_: Any) -> None: ...

    def parse(self, onnx: bytes) -> bool:
        return onnx != b"bad"

    def get_error(self, _: int) -> Any:
        return SimpleNamespace(desc=lambda: "no such operator")


BUILDING = Library(
    "10.9.0",
    Builder=Builder,
    OnnxParser=Parser,
    IProgressMonitor=object,
    NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
    BuilderFlag=SimpleNamespace(TF32="TF32"),
)
FIXED = Profile((1, 1, 9, 16), (4, 1, 9, 16), (4, 1, 9, 16))
ONE = Target("tensorrt", "10.9.0", "8.9", "NVIDIA L4", "570.1")


@pytest.mark.parametrize(("before", "after"), [(b"", b"new"), (b"old, ", b"old, new"), (b"bad", b"new")])
def test_the_full_library_goes_on_with_its_timing_cache(before: bytes, after: bytes) -> None:
    built = Flavor(BUILDING, "tensorrt").build(b"onnx", FIXED, ONE, before, Watch("a test"))
    assert built == (b"engine", after)
    builder = Builder.made[-1]
    assert builder.flags_cleared == ["TF32"]
    assert tuple(builder.input.shape) == (-1, 1, 9, 16)  # what never changes is known to the builder
    assert builder.profiles == [("x", FIXED.smallest, FIXED.usual, FIXED.largest)]


def test_a_graph_that_is_not_taken_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such operator"):
        Flavor(BUILDING, "tensorrt").build(b"bad", FIXED, ONE, b"", Watch("a test"))


def test_a_build_that_found_no_room_says_so() -> None:
    large = Profile((1, 1, 99, 16), (4, 1, 99, 16), (4, 1, 99, 16))
    with pytest.raises(RuntimeError, match="out of memory: Error Code 10") as caught:
        Flavor(BUILDING, "tensorrt").build(b"onnx", large, ONE, b"", Watch("a test"))
    assert means_no_room(str(caught.value))
