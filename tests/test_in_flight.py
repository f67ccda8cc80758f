"""Batches in flight: in whatever order a GPU does what it may do, every frame is right, in its place and in time."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vsr_plugin.in_flight
from tests.simulated_gpu import SimulatedGPU
from vsr_plugin.backends import Device
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import OutOfMemoryError, UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import Frame
from vsr_plugin.in_flight import Batch, InFlight
from vsr_plugin.models import NetworkSpec
from vsr_plugin.reuse import Reuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vsr_plugin.frames import Samples

CUDA = Device("cuda")
SIDE = 2


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimulatedGPU]:
    def make(*args: Any, **how: Any) -> SimulatedGPU:
        gpu = SimulatedGPU(*args, **how)
        monkeypatch.setattr(torch, "cuda", gpu)
        monkeypatch.setattr(vsr_plugin.in_flight, "upload", gpu.upload)
        monkeypatch.setattr(vsr_plugin.in_flight, "download", gpu.download)
        return gpu

    return make


def planes(number: int, count: int = 2) -> list[list[Samples]]:
    """Of a batch of two frames, for each plane."""
    return [
        [np.full((SIDE, SIDE), 4 * number + plane + 2 * frame, np.uint8) for frame in range(2)]
        for plane in range(count)
    ]


class Adding:
    """A network of two layers for each plane, that adds 3. Its weight is made on the caller's stream.

    Attributes:
        fails_at: The plane for which there is no room.
    """

    def __init__(self, gpu: SimulatedGPU, seconds: float = 0.0) -> None:
        self.fails_at: int | None = None
        self._gpu, self._seconds = gpu, seconds
        self._weight = gpu.launch(lambda: torch.tensor([1], dtype=torch.uint8), (), (1,))

    def __call__(self, small: list[Any]) -> list[Any]:
        large = []
        for index, plane in enumerate(small):
            if index == self.fails_at:
                raise OutOfMemoryError("no room")
            between = self._gpu.launch(torch.add, (plane, self._weight), (2, SIDE, SIDE), self._seconds / len(small))
            large.append(self._gpu.launch(lambda x: x + 2, (between,), (2, SIDE, SIDE)))
        return large


def right(batch: Batch, number: int) -> bool:
    results = zip(batch.wait(), planes(number), strict=True)
    return all(np.array_equal(result, np.stack(given) + 3) for result, given in results)


@pytest.mark.parametrize("seed", range(40))
def test_no_stream_reads_what_is_not_written_or_no_longer_there(
    seed: int, simulate: Callable[..., SimulatedGPU]
) -> None:
    gpu, random = simulate(seed), Random(seed)
    in_flight, networks = InFlight(CUDA), [Adding(gpu)]
    begun: deque[tuple[int, Batch]] = deque()
    for number in range(30):
        if random.random() < 0.3:
            networks.append(Adding(gpu))
        network = networks[-1]
        network.fails_at = random.choice([None, None, None, 0, 1])
        try:
            begun.append((number, in_flight.begin(planes(number), network, "")))
        except OutOfMemoryError:
            continue
        if random.random() < 0.1:  # and some are nobody's any more
            begun.pop()
        while len(begun) > random.randrange(6):
            which, batch = begun.popleft() if random.random() < 0.8 else begun.pop()
            assert right(batch, which)
    assert in_flight.wait()
    assert not in_flight.wait()
    assert all(right(batch, which) for which, batch in begun)
    assert gpu.used == len(networks)  # their weights


def test_memory_is_bounded_however_many_are_not_waited_for(simulate: Callable[..., SimulatedGPU]) -> None:
    gpu = simulate()
    in_flight, network = InFlight(CUDA), Adding(gpu)
    begun = [in_flight.begin(planes(number), network, "") for number in range(20)]
    assert gpu.most_used <= in_flight.most * 4 + 2  # two planes each, before and after, one layer and the weight
    assert all(right(batch, number) for number, batch in enumerate(begun))


@pytest.mark.parametrize(
    ("copy_in", "network", "copy_out"), [(1, 1, 1), (3, 1, 1), (1, 3, 1), (1, 1, 3), (2, 3, 3), (0.19, 0.25, 0.55)]
)
def test_the_slowest_of_the_three_never_waits(
    copy_in: float, network: float, copy_out: float, simulate: Callable[..., SimulatedGPU]
) -> None:
    gpu = simulate(copy_in=copy_in / 2, copy_out=copy_out / 2)  # for each of two planes
    in_flight, adding = InFlight(CUDA), Adding(gpu, network)
    begun: deque[Batch] = deque()
    count = 100
    for _ in range(count):
        begun.append(in_flight.begin(planes(0), adding, ""))
        if len(begun) >= in_flight.most:
            begun.popleft().wait()
    in_flight.wait()
    assert count * max(copy_in, network, copy_out) / gpu.time >= 0.95


# The `Upscaler`.


class Late(InFlight):
    """As on a GPU: results are there when they are waited for."""

    def __init__(self) -> None:
        super().__init__(Device("cpu"))
        self.most = 3
        self.waiting = 0
        self.full = 99

    def begin(self, planes: Any, compute: Any, task: str) -> Batch:
        if self.waiting >= self.full:
            raise OutOfMemoryError("no room beside so many")
        batch = super().begin(planes, compute, task)
        self.waiting += 1
        results = batch.wait()
        hidden = [torch.zeros(plane.shape, dtype=torch.uint8) for plane in results]

        def arrive() -> None:
            self.waiting -= 1
            for plane, result in zip(hidden, results, strict=True):
                plane.copy_(torch.from_numpy(result))

        late = Batch(hidden, task, SimpleNamespace(synchronize=arrive))  # type: ignore[arg-type]
        self._batches.append(late)
        return late


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def upscaler(batch: int = 1, **how: Any) -> tuple[Upscaler, Late]:
    spec = NetworkSpec(name="twice", overlap={2: 0})
    made = Upscaler.from_module(Twice(), spec, 2, Execution(backend="eager", device="cpu", batch=batch, **how))
    made._in_flight = late = Late()
    return made, late


def frame(number: int, level: int | None = None) -> Frame:
    plane = np.full((4, 6), 20 + (number if level is None else level), np.uint8)
    return Frame((plane,), number, Fraction(1, 25))


def levels(frames: Sequence[Frame]) -> list[int]:
    assert all(frame.planes[0].min() == frame.planes[0].max() for frame in frames)
    return [int(frame.planes[0][0, 0]) - 20 for frame in frames]


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_frames_come_in_order(batch: int, count: int) -> None:
    made, late = upscaler(batch)
    with made:
        assert levels(list(made.stage(map(frame, range(count))))) == list(range(count))
        assert levels(made.upscale(list(map(frame, range(count))))) == list(range(count))
        assert late.waiting == 0


def test_two_batches_are_read_before_the_first_is_waited_for() -> None:
    read: list[int] = []

    def frames() -> Iterator[Frame]:
        for number in range(10):
            read.append(number)
            yield frame(number)

    made, _ = upscaler()
    with made:
        stage = made.stage(frames())
        assert read == []
        for number, result in enumerate(stage):
            assert levels([result]) == [number]
            assert len(read) == min(number + 3, 10)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_repeats_share_results_that_are_still_on_their_way(batch: int) -> None:
    shown = [0, 0, 1, 1, 1, 1, 1, 1, 2, 0, 0]
    made, _ = upscaler(batch)
    reuse = Reuse()
    with made:
        results = list(made.stage((frame(number, level) for number, level in enumerate(shown)), reuse))
        assert levels(results) == shown
        assert [result.pts for result in results] == list(range(len(shown)))
        assert results[2].planes[0] is results[7].planes[0]
        assert reuse.share == pytest.approx(7 / 11)
        assert levels(list(made.stage(iter([frame(11, 0), frame(12, 3)]), reuse))) == [0, 3]


@pytest.mark.parametrize("after", range(5))
def test_a_stage_that_is_closed_leaves_its_last_frame_to_the_next(after: int) -> None:
    made, _ = upscaler()
    reuse = Reuse()
    with made:
        stage = made.stage(map(frame, range(9)), reuse)
        assert levels([next(stage) for _ in range(after)]) == list(range(after))
        stage.close()  # type: ignore[attr-defined]
        last = min(after + 1, 8) if after else 0  # what was begun
        assert levels(list(made.stage(iter([frame(20, last), frame(21, 7)]), reuse))) == [last, 7]


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("count", range(6))
def test_an_error_comes_after_the_frames_before_it(batch: int, count: int) -> None:
    def frames() -> Iterator[Frame]:
        yield from map(frame, range(count))
        raise ConnectionResetError("gone")

    made, _ = upscaler(batch)
    results: list[Frame] = []
    with made, pytest.raises(ConnectionResetError, match="gone"):
        results.extend(made.stage(frames()))
    assert levels(results) == list(range(count))


@pytest.mark.parametrize("room", [1, 2])
def test_no_room_beside_others_is_no_reason_for_smaller_batches(room: int, caplog: pytest.LogCaptureFixture) -> None:
    made, late = upscaler(2)
    late.full = room
    with made:
        assert levels(list(made.stage(map(frame, range(12))))) == list(range(12))
        assert made.batch == 2
        assert not caplog.records
        late.full = 0
        with pytest.raises(OutOfMemoryError):
            list(made.stage(map(frame, range(12))))


def test_close_waits_for_what_is_on_its_way() -> None:
    made, late = upscaler()
    stage = made.stage(map(frame, range(9)))
    next(stage)
    assert late.waiting == 2
    made.close()
    assert late.waiting == 0
    with pytest.raises(UsageError, match="closed"):
        list(stage)
