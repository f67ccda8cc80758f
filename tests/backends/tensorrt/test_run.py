"""An engine runs on memory of torch, on the caller's stream, and its tail in one kernel."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.networks import seeded, small
from vsr_plugin.backends import SamplesNetwork
from vsr_plugin.backends.tensorrt import Binding, run
from vsr_plugin.backends.tensorrt.run import EngineNetwork
from vsr_plugin.errors import BackendError, OutOfMemoryError
from vsr_plugin.kernels import to_samples, to_unit

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from tests.backends.tensorrt.fakes import FakeExecutable
from tests.backends.tensorrt.test_export import exported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsr_plugin.backends.tensorrt import Shape

CPU = torch.device("cpu")
SHAPE = (2, 1, 11, 14)


def opened(name: str, scale: int, shape: Shape = SHAPE) -> tuple[EngineNetwork, FakeExecutable]:
    graph = exported(name, scale)
    executable = FakeExecutable(graph.onnx)
    return EngineNetwork(executable, shape, graph.shuffle, CPU, name), executable


@pytest.mark.parametrize(("name", "scale"), [("espcn", 3), ("vdsr", 2)])  # one ends with a shuffle, the other does not
def test_the_result_is_the_networks(name: str, scale: int) -> None:
    network, executable = opened(name, scale)
    assert isinstance(network, SamplesNetwork)
    assert executable.shape == SHAPE
    x = torch.rand(SHAPE)
    expected = seeded(small(name, scale), scale)(x)
    result = network(x)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)
    before = result.clone()
    network(1 - x)
    assert torch.equal(result, before)  # the engine's output is written over, the result is not


@pytest.mark.parametrize(("depth", "peak"), [(8, 255), (10, 1020), (16, 65535)])
@pytest.mark.parametrize(("name", "scale"), [("espcn", 3), ("vdsr", 2)])
def test_samples_go_in_and_come_out(name: str, scale: int, depth: int, peak: int) -> None:
    network, _ = opened(name, scale)
    dtype = torch.uint8 if depth == 8 else torch.uint16
    wide = torch.randint(0, 1 << depth, (2, 1, 11, 28)).to(dtype)
    x = wide[..., ::2]  # any strides
    expected = to_samples(seeded(small(name, scale), scale)(to_unit(x, peak)), depth, peak=peak)
    result = network.upscale_samples(x, peak, depth)
    assert result.dtype == dtype
    assert int((result.to(torch.int32) - expected.to(torch.int32)).abs().max()) <= 1


def test_the_engine_is_given_its_memory_once() -> None:
    network, executable = opened("espcn", 3)
    memory = executable.memory
    assert all(memory)
    for _ in range(3):
        network(torch.rand(SHAPE))
    assert executable.memory == memory
    assert len(executable.streams) == 3


def test_closing_frees_the_engine() -> None:
    network, executable = opened("espcn", 3)
    network.close()
    assert executable.closed


@pytest.mark.parametrize("method", ["bind", "attach"])
def test_an_engine_that_refuses_is_freed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(FakeExecutable, method, refuse)
    graph = exported("espcn", 3)
    executable = FakeExecutable(graph.onnx)
    with pytest.raises(RuntimeError, match="no"):
        EngineNetwork(executable, SHAPE, graph.shuffle, CPU, "espcn")
    assert executable.closed


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("[executionContext.cpp] Error Code 2: OutOfMemory (Requested size was 3 bytes.)", OutOfMemoryError),
        ("Error Code 1: Cuda Runtime (out of memory)", OutOfMemoryError),
        ("Error Code 3: API Usage Error", BackendError),
    ],
)
def test_failures_are_ours(words: str, kind: type[BackendError], monkeypatch: pytest.MonkeyPatch) -> None:
    network, executable = opened("espcn", 3)

    def fail(*_: int) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(executable, "enqueue", fail)
    with pytest.raises(BackendError, match="tensorrt: running espcn") as caught:
        network(torch.rand(SHAPE))
    assert type(caught.value) is kind


class FakeCuda:
    """What `run` asks of torch.cuda, written down; streams are names."""

    def __init__(self, *, capturable: bool = True, library_captures: bool = True) -> None:
        self.library_captures = library_captures
        self.events: list[str] = []
        self.now = FakeStream(self, "caller's", 0)
        self.recording = False
        self._capturable = capturable

    def current_stream(self, _: object) -> FakeStream:
        return self.now

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.now = self.now, stream
        try:
            yield
        finally:
            self.now = before

    def Stream(self, _: object) -> FakeStream:  # noqa: N802 - as torch calls it
        return FakeStream(self, "own", 77)

    def CUDAGraph(self) -> FakeCuda:  # noqa: N802 - ″
        return self

    def replay(self) -> None:
        self.events.append("replay")

    @contextmanager
    def graph(self, _: object, *, stream: FakeStream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.events.append(f"record on {stream.name}")
        if not self._capturable:
            self.now = stream  # as torch leaves it
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recording = True
        yield
        self.recording = False

    @contextmanager
    def device(self, _: object) -> Iterator[None]:
        yield


class FakeStream:
    """A stream that says for whom it waits."""

    def __init__(self, cuda: FakeCuda, name: str, handle: int) -> None:
        self.name, self.cuda_stream, self._cuda = name, handle, cuda

    def wait_stream(self, other: FakeStream) -> None:
        self._cuda.events.append(f"{self.name} waits for {other.name}")

    def synchronize(self) -> None:
        self._cuda.events.append(f"wait for {self.name}")


class Written:
    """An `Executable` that writes down on which stream it is enqueued."""

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def bind(self, shape: Shape) -> Binding:
        n, _, height, width = shape
        return Binding((n, 4, height, width), torch.float16, 0)

    def attach(self, x: int, y: int, workspace: int, size: int) -> None:
        assert all((x, y, workspace, size))

    def capturable(self, stream: int) -> bool:
        assert stream == 77
        return self._cuda.library_captures

    def enqueue(self, stream: int) -> None:
        self._cuda.events.append(f"{'record' if self._cuda.recording else 'enqueue'} engine on {stream}")

    def compiled(self) -> bytes:
        return b""

    def close(self) -> None:
        self._cuda.events.append("close engine")


def on_fake_cuda(monkeypatch: pytest.MonkeyPatch, **how: bool) -> tuple[FakeCuda, EngineNetwork]:
    cuda = FakeCuda(**how)
    real = {name: getattr(torch, name) for name in ("zeros", "empty")}

    class Device:
        """Of CUDA by its name; what is allocated there lies on the CPU."""

        type = "cuda"

    def on_cpu(name: str) -> Any:
        def make(*args: Any, device: Any = None, **more: Any) -> Tensor:
            made: Tensor = real[name](*args, **more)
            return made

        return make

    monkeypatch.setattr(run, "usable", lambda _: False)
    monkeypatch.setattr(torch, "cuda", cuda)
    for name in real:
        monkeypatch.setattr(torch, name, on_cpu(name))
    network = EngineNetwork(Written(cuda), (1, 1, 4, 4), 2, Device(), "espcn")  # type: ignore[arg-type] # enough of one
    return cuda, network


def test_an_engine_is_recorded_once_and_replayed_on_the_callers_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, network = on_fake_cuda(monkeypatch)
    assert network.recorded
    assert cuda.events == [
        "own waits for caller's",
        "enqueue engine on 77",  # never on 0, the default stream, where TensorRT would wait for the device
        "caller's waits for own",
        "record on own",
        "record engine on 77",
    ]
    cuda.events.clear()
    network(torch.rand(1, 1, 4, 4))
    network.upscale_samples(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), 255, 8)
    assert cuda.events == ["replay", "replay"]  # and nothing that waits


def test_another_stream_waits_for_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, network = on_fake_cuda(monkeypatch)
    network(torch.rand(1, 1, 4, 4))
    cuda.events.clear()
    cuda.now = FakeStream(cuda, "another", 5)
    network(torch.rand(1, 1, 4, 4))
    network(torch.rand(1, 1, 4, 4))
    assert cuda.events == ["another waits for caller's", "replay", "replay"]
    cuda.events.clear()
    network.close()
    assert cuda.events == ["wait for another", "close engine"]


@pytest.mark.parametrize("who", ["capturable", "library_captures"])
def test_an_engine_that_cannot_be_recorded_is_enqueued_each_time(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, network = on_fake_cuda(monkeypatch, **{who: False})
    assert not network.recorded
    cuda.events.clear()
    network(torch.rand(1, 1, 4, 4))
    assert cuda.events == ["own waits for caller's", "enqueue engine on 77", "caller's waits for own"]
