"""Each library is used in its own way; which one is installed is found out when it is needed."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from tests.backends.tensorrt.fakes import STAMP, Capability, Library, Names, install
from tests.backends.tensorrt.test_export import engine_of, exported, rtx_flavor
from vsr_plugin.backends import open_backend
from vsr_plugin.backends.graph import INPUT, OUTPUT
from vsr_plugin.backends.memory import means_no_room
from vsr_plugin.backends.tensorrt import Profile, Target, flavor
from vsr_plugin.backends.tensorrt.builds import Watch
from vsr_plugin.backends.tensorrt.flavor import Flavor, LoadedEngine, find_flavor
from vsr_plugin.errors import BackendError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
FULL, RTX = Library("tensorrt", "10.9.0"), Library()
BROKEN = ImportError("a\nlibnvinfer.so.10: cannot open shared object file")
SHAPE = (2, 1, 12, 16)
FIXED = Profile((1, *SHAPE[1:]), SHAPE)


@pytest.mark.parametrize(
    ("there", "ahead", "expected"),
    [
        ({"tensorrt": FULL, "tensorrt_rtx": RTX}, False, "tensorrt"),
        ({"tensorrt": FULL, "tensorrt_rtx": RTX}, True, "tensorrt_rtx"),
        ({"tensorrt_rtx": RTX}, False, "tensorrt_rtx"),
        ({"tensorrt": FULL}, True, "tensorrt"),
        ({"tensorrt": BROKEN, "tensorrt_rtx": RTX}, False, "tensorrt_rtx"),
    ],
)
def test_the_library_that_is_installed_is_used(
    there: dict[str, Any], ahead: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, **there)
    assert find_flavor(ahead=ahead).name == expected


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (
            {},
            r"Backend 'tensorrt' is not installed: .*tensorrt.* \(TensorRT-RTX, .*\), or install TensorRT from",
        ),
        ({"tensorrt": BROKEN}, r"cannot be used: tensorrt does not load: libnvinfer\.so\.10: cannot open"),
        ({"tensorrt": Library("tensorrt", "8.6.1")}, r"does not load: expected version 10 or newer, got 8\.6\.1"),
        ({"tensorrt": Library("tensorrt", "unknown")}, "expected version 10 or newer, got unknown; install it again"),
    ],
)
def test_where_there_is_none_it_is_said_why(
    there: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, **there)
    with pytest.raises(BackendError, match=message) as caught:
        open_backend("tensorrt")
    assert "\n" not in str(caught.value)


def test_targets_hold_what_engines_depend_on(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavor, "_driver", lambda: "570.1")
    full = Target("tensorrt", "10.9.0", "8.9", "NVIDIA L4", "570.1", sys.platform)
    assert Flavor(FULL, "tensorrt").target(CPU) == full
    rtx = Flavor(library, "tensorrt_rtx")
    assert rtx.target(CPU) == Target("tensorrt_rtx", "1.7.1", "8.9")
    assert rtx.target_ahead("12.0") == Target("tensorrt_rtx", "1.7.1", "12.0")
    with pytest.raises(UsageError, match=r"builds for \(7.5, 8.9, 12.0\), got '9.0'"):
        rtx.target_ahead("9.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    with pytest.raises(
        BackendError, match=r"does not build for NVIDIA L4, of compute capability 9.0: install TensorRT"
    ):
        rtx.target(CPU)


def test_the_driver_tells_its_version(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("NVML Shared Library Not Found")

    nvml = SimpleNamespace(NVMLError=OSError, nvmlInit=lambda: None, nvmlSystemGetDriverVersion=lambda: "570.86")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert flavor._driver.__wrapped__() == "570.86"
    assert caplog.messages == []
    nvml.nvmlInit = fail
    assert flavor._driver.__wrapped__() == "unknown"
    assert "clear the engine cache after a driver update" in caplog.text


FOREIGN_TAG = "Serialization assertion magicTagRead == kMAGIC_TAG failed. Magic tag does not match"


@pytest.mark.parametrize(
    ("words", "foreign"),
    [
        (FOREIGN_TAG, True),
        ("The engine plan file is generated on an incompatible device, please rebuild.", True),
        ("CUDA out of memory", False),
        ("CUDA initialization failure with error: 35", False),
        ("", False),
    ],
)
def test_only_a_file_that_is_not_its_engine_is_a_bad_one(words: str, foreign: bool) -> None:
    library = Library("tensorrt", "10.9.0")
    library.refuses = lambda _: [(1, words), (1, "Error Code 4: Engine deserialization failed.")] if words else []
    if foreign:
        assert Flavor(library, "tensorrt").load(STAMP, b"", CPU) is None
        return
    with pytest.raises(RuntimeError, match=words or "gives no reason"):
        Flavor(library, "tensorrt").load(STAMP, b"", CPU)


def test_the_real_library_tells_foreign_files_from_a_driver_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a driver")
    rtx = rtx_flavor()
    engine = engine_of(exported("espcn", 3), 1)
    with pytest.raises(RuntimeError, match=r"(?i)cuda"):
        rtx.load(engine, b"", CPU)
    for foreign in (b"", b"\x7fELF" + bytes(1000), b"?" + engine[1:]):
        assert rtx.load(foreign, b"", CPU) is None


def test_a_library_has_one_logger_in_a_process() -> None:
    assert Flavor(FULL, "tensorrt")._messages is Flavor(FULL, "tensorrt")._messages


def test_a_build_for_tensorrt_rtx_names_the_gpu(library: Library) -> None:
    rtx = Flavor(library, "tensorrt_rtx")
    assert rtx.build(b"onnx", FIXED, rtx.target_ahead("12.0"), b"", Watch("a test")) == (STAMP + b"onnx", b"")
    assert (library.built[0].capability, library.built[0].cleared) == (Capability.SM120, Names.TF32)


@pytest.mark.parametrize(("before", "after"), [(b"", b"new, "), (b"old, ", b"old, new, "), (b"bad", b"new, ")])
def test_the_full_library_goes_on_with_its_timing_cache(before: bytes, after: bytes) -> None:
    library, target = Library("tensorrt", "10.9.0"), Target("tensorrt", "10.9.0", "8.9")
    assert Flavor(library, "tensorrt").build(b"onnx", FIXED, target, before, Watch("a test"))[1] == after
    assert library.built[0].shape == (-1, 1, 12, 16)  # what never changes is known to the builder
    assert library.built[0].profile == (FIXED.smallest, SHAPE, SHAPE)


MEMORY = "Tactic Device request: 9 MB. Device memory is insufficient to use tactic."


@pytest.mark.parametrize(
    ("onnx", "errors", "message", "no_room"),
    [
        (b"bad", [], "no such operator", False),
        (b"onnx", [(1, "Error Code 4: why"), (1, "so it fails")], "^Error Code 4: why$", False),
        (b"onnx", [(2, MEMORY), (1, "Error Code 10: No implementation")], "out of memory: Error Code 10", True),
    ],
)
def test_a_build_that_fails_says_why(onnx: bytes, errors: list[Any], message: str, no_room: bool) -> None:
    library = Library("tensorrt", "10.9.0")
    library.fails = lambda _: errors
    with pytest.raises(RuntimeError, match=message) as caught:
        Flavor(library, "tensorrt").build(onnx, FIXED, Target("tensorrt", "10", "8.9"), b"", Watch("a test"))
    assert means_no_room(str(caught.value)) == no_room


def loaded(library: Library, name: Any = "tensorrt_rtx", compiled: bytes = b"") -> LoadedEngine:
    engine = Flavor(library, name).load(STAMP + exported("espcn", 3).onnx, compiled, CPU)
    assert engine is not None
    return engine


def test_an_engine_is_bound_and_enqueued_on_the_stream(library: Library) -> None:
    engine = loaded(library)
    x, y = engine.bind(SHAPE, CPU)
    assert (x.shape, x.dtype, y.shape, y.dtype) == (SHAPE, torch.float32, (2, 9, 12, 16), torch.float32)
    engine.enqueue(77)
    assert library.told == [("workspace", True, 4096), INPUT, OUTPUT, 77]
    assert not engine.capturable(77)
    engine.close()


def test_the_first_versions_of_tensorrt_10_are_told_less(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library("tensorrt", "10.0.0")
    monkeypatch.delattr(Library, "set_device_memory")
    monkeypatch.delattr(Library, "is_stream_capturable")
    engine = loaded(library, "tensorrt")
    engine.bind(SHAPE, CPU)
    assert library.device_memory  # which is written
    assert engine.capturable(5)
    assert engine.compiled() == b""


def test_what_tensorrt_rtx_compiles_is_given_back_to_it(library: Library) -> None:
    engine = loaded(library, compiled=b"known kernels")
    assert library.loaded[-1][1] == b"known kernels"
    assert engine.compiled() == b"known kernels"


@pytest.mark.parametrize("call", [lambda engine: engine.bind(SHAPE, CPU), lambda engine: engine.enqueue(4)])
def test_a_refusal_is_in_the_librarys_own_words(
    call: Callable[[LoadedEngine], Any], library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = loaded(library)
    engine.bind(SHAPE, CPU)

    def refuse(*_: Any) -> bool:
        flavor._messages(library.ILogger).log(1, "Error Code 3: not that")
        return False

    monkeypatch.setattr(library, "set_input_shape", refuse)
    monkeypatch.setattr(library, "execute_async_v3", refuse)
    with pytest.raises(RuntimeError, match="Error Code 3: not that"):
        call(engine)


def test_what_stands_in_has_no_method_that_the_real_library_lacks() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    real = set(dir(rtx)) | {"get_engine_validity"}
    for name in (
        "Builder", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "INetworkDefinition", "IOptimizationProfile",
        "IRuntimeCache", "IRuntimeConfig", "OnnxParser", "Runtime",
    ):  # fmt: skip
        real |= set(dir(getattr(rtx, name)))
    assert {name for name in vars(Library) if not name.startswith("_")} <= real
    for path in (
        "ExecutionContextAllocationStrategy.USER_MANAGED",
        "DynamicShapesKernelSpecializationStrategy.EAGER",
        "EngineInvalidityDiagnostics.MALFORMED_ENGINE",
        "DataType.BF16",
    ):
        kind, name = path.split(".")
        assert hasattr(getattr(rtx, kind), name)
