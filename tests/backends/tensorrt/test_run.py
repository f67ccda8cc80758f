"""An engine runs on memory of torch, on the caller's stream, and its tail in one kernel."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.networks import seeded, small
from vsr_plugin.backends import SamplesNetwork
from vsr_plugin.backends.graph import INPUT, OUTPUT
from vsr_plugin.backends.tensorrt import run
from vsr_plugin.backends.tensorrt.flavor import Flavor, LoadedEngine
from vsr_plugin.backends.tensorrt.run import EngineNetwork
from vsr_plugin.errors import BackendError, OutOfMemoryError
from vsr_plugin.kernels import to_samples, to_unit
from vsr_plugin.samples import SampleFormat

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from tests.backends.tensorrt.fakes import STAMP, Library
from tests.backends.tensorrt.test_export import exported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsr_plugin.backends.tensorrt import Shape

CPU = torch.device("cpu")
SHAPE = (2, 1, 11, 14)


def opened(name: str, scale: int, shape: Shape = SHAPE) -> tuple[EngineNetwork, Library]:
    library, graph = Library(), exported(name, scale)
    engine = Flavor(library, "tensorrt_rtx").load(STAMP + graph.onnx, b"", CPU)
    assert engine is not None
    return EngineNetwork(engine, shape, graph.shuffle, CPU, name), library


@pytest.mark.parametrize(("name", "scale"), [("espcn", 3), ("vdsr", 2)])  # one ends with a shuffle, the other does not
def test_the_result_is_the_networks(name: str, scale: int) -> None:
    network, _ = opened(name, scale)
    assert isinstance(network, SamplesNetwork)
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
    result = network.upscale_samples(x, SampleFormat(peak, depth))
    assert result.dtype == dtype
    assert int((result.to(torch.int32) - expected.to(torch.int32)).abs().max()) <= 1


def test_the_engine_is_given_its_memory_once() -> None:
    network, library = opened("espcn", 3)
    for _ in range(3):
        network(torch.rand(SHAPE))
    assert library.told == [("workspace", True, 4096), INPUT, OUTPUT, 0, 0, 0]


@pytest.mark.parametrize("method", ["close", "set_input_shape", "set_tensor_address"])
def test_an_engine_is_freed_when_it_is_closed_or_refuses(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[LoadedEngine] = []
    monkeypatch.setattr(LoadedEngine, "close", lambda engine: closed.append(engine))
    if method == "close":
        opened("espcn", 3)[0].close()
    else:
        monkeypatch.setattr(Library, method, lambda *_: False)
        with pytest.raises(RuntimeError, match="refuses"):
            opened("espcn", 3)
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("[executionContext.cpp] Error Code 2: OutOfMemory (Requested size was 3 bytes.)", OutOfMemoryError),
        ("Error Code 1: Cuda Runtime (out of memory)", OutOfMemoryError),
        ("Error Code 3: API Usage Error", BackendError),
    ],
)
def test_failures_are_ours(words: str, kind: type[BackendError], monkeypatch: pytest.MonkeyPatch) -> None:
    network, library = opened("espcn", 3)

    def fail(*_: int) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(library, "execute_async_v3", fail)
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

    device = None

    def __init__(self, cuda: FakeCuda, name: str, handle: int) -> None:
        self.name, self.cuda_stream, self._cuda = name, handle, cuda

    def wait_stream(self, other: FakeStream) -> None:
        self._cuda.events.append(f"{self.name} waits for {other.name}")

    def synchronize(self) -> None:
        self._cuda.events.append(f"wait for {self.name}")


class Written:
    """A `LoadedEngine` that writes down on which stream it is enqueued."""

    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda

    def bind(self, shape: Shape, _: Any) -> tuple[Tensor, Tensor]:
        n, _, height, width = shape
        return torch.zeros(shape), torch.empty((n, 4, height, width), dtype=torch.float16)

    def capturable(self, stream: int) -> bool:
        assert stream == 77
        return self._cuda.library_captures

    def enqueue(self, stream: int) -> None:
        self._cuda.events.append(f"{'record' if self._cuda.recording else 'enqueue'} engine on {stream}")

    def close(self) -> None:
        self._cuda.events.append("close engine")


def on_fake_cuda(monkeypatch: pytest.MonkeyPatch, **how: bool) -> tuple[FakeCuda, EngineNetwork]:
    cuda = FakeCuda(**how)

    class Device:
        """Of CUDA by its name."""

        type = "cuda"

    monkeypatch.setattr(run, "usable", lambda _: False)
    monkeypatch.setattr(torch, "cuda", cuda)
    network = EngineNetwork(Written(cuda), (1, 1, 4, 4), 2, Device(), "espcn")  # type: ignore[arg-type] # enough of each
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
    network.upscale_samples(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), SampleFormat(255, 8))
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
