"""The upscaler: what goes in comes out larger, once, in order, whatever the batch, the tile and the memory."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from dataclasses import fields, replace
from fractions import Fraction
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import vsr_plugin.engine
from tests import distance, networks
from tests.networks import CHOSEN, seeded
from vsr_plugin.backends import Device
from vsr_plugin.backends.eager import EagerBackend
from vsr_plugin.device import torch_threads
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError, OutOfMemoryError, UsageError, WeightsError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame, Matrix, Range
from vsr_plugin.models import MODELS, NetworkSpec, load_model
from vsr_plugin.reuse import Reuse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vsr_plugin.frames import Samples
    from vsr_plugin.in_flight import Results

YUV420 = ColorSpec(subsampling=(1, 1))
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Recorder(nn.Module):
    """Nearest neighbour that notes the shapes it is asked for."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        SHAPES.append(tuple(x.shape))
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


SHAPES: list[tuple[int, ...]] = []


def nearest(*, overlap: int = 0, multiple_of: int = 1, channels: int = 1, **how: Any) -> Upscaler:
    spec = NetworkSpec(name="nearest", overlap={2: overlap}, channels=channels, multiple_of=multiple_of)
    SHAPES.clear()
    return Upscaler.from_module(Recorder(), spec, 2, Execution(backend="eager", device="cpu", **how))


def noise(index: int, height: int = 10, width: int = 12, color: ColorSpec = YUV420, pts: int | None = None) -> Frame:
    generator = np.random.default_rng(index)
    shapes = [(height, width), *[color.chroma_shape(height, width)] * 2]
    planes = tuple(generator.integers(0, 256, shape, np.uint8) for shape in shapes)
    return Frame(planes, 3 * index if pts is None else pts, Fraction(1, 30), 3, color, {"name": bytes([index])})


def attributes(frame: Frame) -> dict[str, Any]:
    """All but the planes."""
    return {field.name: getattr(frame, field.name) for field in fields(frame) if field.name != "planes"}


def same_picture(a: Frame, b: Frame) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


def expected(frame: Frame) -> Samples:
    return frame.planes[0].repeat(2, 0).repeat(2, 1)


# Order, time, batches.


@pytest.mark.parametrize("batch", [None, 1, 2, 3, 7, 9])
@pytest.mark.parametrize("tile", ["auto", "off", 32])
def test_frames_come_out_in_order_with_all_they_carry(batch: int | None, tile: Any) -> None:
    frames = [noise(index, 40, 50, pts=index * index) for index in range(7)]
    with nearest(batch=batch, tile=tile) as upscaler:
        results = list(upscaler.stage(iter(frames)))
    assert len(results) == 7
    for before, after in zip(frames, results, strict=True):
        assert np.array_equal(after.planes[0], expected(before))
        assert [plane.shape for plane in after.planes] == [(80, 100), (40, 50), (40, 50)]
        assert attributes(replace(after, planes=before.planes)) == attributes(before)


@pytest.mark.parametrize("batch", [2, 4])
def test_one_shape_serves_all_batches_and_windows(batch: int) -> None:
    with nearest(batch=batch) as upscaler:
        list(upscaler.stage(noise(index) for index in range(5)))
    assert set(SHAPES) == {(batch, 1, 10, 12)}
    with nearest(batch=batch, tile=32, overlap=3) as upscaler:
        list(upscaler.stage(noise(index, 50, 101) for index in range(3)))
        assert (upscaler.batch, upscaler.tile) == (batch, 32)
    assert len(set(SHAPES)) == 1
    assert SHAPES[0][0] == batch
    assert max(SHAPES[0][2:]) <= 32 + 2 * 3


def test_batch_and_tile_are_known_after_the_first_batch() -> None:
    with nearest() as upscaler:
        assert (upscaler.batch, upscaler.tile) == (None, None)
        upscaler.upscale([noise(0)])
        assert (upscaler.batch, upscaler.tile) == (1, None)


def test_large_pictures_are_tiled_without_asking() -> None:
    color = ColorSpec()
    frame = Frame((np.zeros((1100, 1000), np.uint8),), 0, Fraction(1), color=color)
    with nearest() as upscaler:
        assert upscaler.upscale([frame])[0].planes[0].shape == (2200, 2000)
        assert upscaler.tile == 512
        upscaler.upscale([noise(0)])
        assert upscaler.tile is None
    with nearest(tile="off") as upscaler:
        upscaler.upscale([frame])
        assert SHAPES[-1] == (1, 1, 1100, 1000)


def test_no_frames_are_no_frames() -> None:
    with nearest() as upscaler:
        assert upscaler.upscale([]) == []
        assert list(upscaler.stage(iter([]))) == []


# The stage.


class Source:
    """Counts what is asked of it."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self.given = 0
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self.given == len(self.frames):
            raise StopIteration
        self.given += 1
        return self.frames[self.given - 1]

    def close(self) -> None:
        self.closed = True


def test_the_stage_asks_only_when_output_is_wanted() -> None:
    source = Source([noise(index) for index in range(7)])
    with nearest(batch=3) as upscaler:
        results = upscaler.stage(source)
        assert source.given == 0
        for taken, given in ((1, 3), (2, 3), (3, 3), (4, 6), (5, 6), (6, 6), (7, 7)):
            next(results)
            assert source.given == given, taken
        assert next(results, None) is None
        assert source.closed


def test_the_stage_closes_its_source_when_it_is_closed() -> None:
    source = Source([noise(index) for index in range(4)])
    with nearest(batch=2) as upscaler:
        results: Any = upscaler.stage(source)
        next(results)
        results.close()
    assert source.closed


def test_an_error_of_the_source_arrives_after_whole_batches() -> None:
    def broken() -> Iterator[Frame]:
        yield noise(0)
        yield noise(1)
        raise OSError("torn")

    with nearest(batch=2) as upscaler:
        results = upscaler.stage(broken())
        assert [next(results).pts, next(results).pts] == [0, 3]
        with pytest.raises(OSError, match="torn"):
            next(results)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_a_frame_that_repeats_the_one_before_is_not_enlarged_again(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(frame: Frame, index: int) -> Frame:
        planes = [plane.copy() for plane in frame.planes]
        planes[index][-1, -1] ^= 1
        return replace(frame, planes=tuple(planes))

    a, b = noise(0), noise(1)
    full = replace(a, color=replace(YUV420, range=Range.FULL))
    frames = [a, a, a, b, b, a, changed(a, 0), changed(a, 1), changed(a, 2), a, full, full, b, b]
    frames = [
        replace(frame, planes=tuple(plane.copy() for plane in frame.planes), pts=index, side_data={"n": bytes([index])})
        for index, frame in enumerate(frames)
    ]
    enlarged: list[Frame] = []
    with nearest(batch=batch) as upscaler:
        apart = [upscaler.upscale([frame])[0] for frame in frames]
        begin = upscaler._begin

        def listening(group: Sequence[Frame], reuse: Reuse) -> Results:
            enlarged.extend(group)
            return begin(group, reuse)

        monkeypatch.setattr(upscaler, "_begin", listening)
        results = list(upscaler.stage(iter(frames)))
    assert [frame.pts for frame in enlarged] == [0, 3, 5, 6, 7, 8, 9, 10, 12]
    for result, truth in zip(results, apart, strict=True):
        assert same_picture(result, truth)
        assert attributes(result) == attributes(truth)


def test_a_change_of_geometry_closes_a_batch() -> None:
    sizes = [(10, 12), (10, 12), (10, 12), (11, 13), (11, 13), (10, 12)]
    frames = [noise(index, *size) for index, size in enumerate(sizes)]
    frames.append(replace(frames[-1], color=replace(YUV420, range=Range.FULL), pts=99))
    with nearest(batch=2) as upscaler:
        results = list(upscaler.stage(iter(frames)))
    assert [result.pts for result in results] == [frame.pts for frame in frames]
    for before, after in zip(frames, results, strict=True):
        assert np.array_equal(after.planes[0], expected(before))


def test_upscale_wants_one_geometry() -> None:
    with nearest() as upscaler, pytest.raises(UsageError, match="one geometry"):
        upscaler.upscale([noise(0), noise(1, 20, 20)])


def test_a_closed_upscaler_says_so() -> None:
    upscaler = nearest()
    upscaler.upscale([noise(0)])
    upscaler.close()
    upscaler.close()
    with pytest.raises(UsageError, match="closed"):
        upscaler.upscale([noise(0)])


# Planes.


def test_planes_may_be_strided() -> None:
    frame = noise(5)
    pair = np.stack([frame.planes[1], frame.planes[2]], -1)  # NV12
    strided = replace(frame, planes=(frame.planes[0].T.copy().T, pair[..., 0], pair[..., 1]))
    assert not strided.planes[1].flags.contiguous
    with nearest() as upscaler:
        (a, b) = upscaler.upscale([frame, strided])
    assert same_picture(a, b)


@pytest.mark.parametrize("channels", [1, 3])
def test_packed_16_bit_rgb_comes_back_as_it_was(channels: int) -> None:
    color = ColorSpec(Matrix.RGB, Range.FULL, 16)
    flat = np.array([65535, 300, 20000], np.uint16)
    packed = np.broadcast_to(flat, (8, 8, 3)).copy()
    frame = Frame((packed[..., 0], packed[..., 1], packed[..., 2]), 0, Fraction(1), color=color)
    with nearest(channels=channels) as upscaler:
        (result,) = upscaler.upscale([frame])
    for plane, value in zip(result.planes, flat.tolist(), strict=True):
        assert plane.dtype == np.uint16
        assert distance(plane, np.full((16, 16), value)) <= 1


def test_sides_are_padded_to_multiples() -> None:
    frame = noise(1, 10, 13, ColorSpec())
    with nearest(multiple_of=8) as upscaler:
        (result,) = upscaler.upscale([frame])
    assert SHAPES[0] == (1, 1, 16, 16)
    assert np.array_equal(result.planes[0], expected(frame))


# Tiles, through the whole path.


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_tiles_and_batches_give_the_same_samples(name: str, scale: int) -> None:
    spec = networks.small(name, scale)
    module = seeded(spec, scale)
    assert spec.overlap[scale] <= MODELS[name].overlap[scale]
    # An ordinary picture: smooth, with edges; two frames that differ, and channels that do.
    color = ColorSpec(Matrix.RGB if spec.channels == 3 else Matrix.BT709, Range.FULL)
    y, x = np.mgrid[:51, :62]
    frames = []
    for phase in (0.0, 1.0):
        planes = []
        for index in range(spec.channels):
            wave = np.sin(x / (5 + index) + phase) * np.cos(y / (7 - index))
            planes.append((128 + 60 * wave + 50 * ((x + y) % 20 > 10)).clip(0, 255).astype(np.uint8))
        frames.append(Frame(tuple(planes), 0, Fraction(1), color=color))
    low = torch.from_numpy(np.stack([np.stack(frame.planes) for frame in frames])).double() / 255
    network = networks.Mirrored(seeded(spec, scale).double(), spec.overlap[scale], scale)
    truth = network(low).clamp(0, 1).numpy() * 255  # (N, C, H·s, W·s)
    # Where the truth lies within a thousandth of a code value of a rounding boundary, float32 may fall either way.
    sure = np.abs(truth - np.floor(truth) - 0.5) > 1e-3
    assert sure.mean() > 0.95
    for backend in ("eager", "openvino"):
        results = []
        for tile, batch in ("off", 1), (32, 3):
            how: Any = {"backend": backend, "tile": tile, "batch": batch}
            execution = Execution(device="cpu", precision="float32", **how)
            with Upscaler.from_module(module, spec, scale, execution) as upscaler:
                done = upscaler.upscale(frames)
            results.append(np.stack([np.stack(frame.planes) for frame in done]))
        whole, tiled = results
        assert distance(whole, tiled) <= 1
        assert np.array_equal(whole[sure], tiled[sure])
        assert np.array_equal(whole[sure], np.rint(truth)[sure])


# Arguments.


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"batch": 0}, "Expected a batch of 1 to 256 frames, got 0"),
        ({"batch": 99999999}, "Expected a batch of 1 to 256 frames, got 99999999"),
        ({"tile": 31}, "Expected a tile of 32 or more input samples a side, got 31"),
        ({"tile": "on"}, "Expected a tile of 'auto', 'off' or 32 and more samples, got 'on'"),
        ({"backend": "onnx"}, "Unknown backend 'onnx'. Known backends: eager, openvino, tensorrt, triton"),
        ({"backend": "openvino", "precision": "float16"}, "Backend 'openvino' has no precision 'float16'"),
        ({"precision": "int4"}, "Unknown precision 'int4'. Known precisions: float32, float16, bfloat16, int8"),
        ({"device": "gpu"}, "Unknown device 'gpu'. Expected 'cpu', 'cuda' or 'cuda:1'"),
        ({"device": "meta"}, "Unknown device 'meta'"),
        ({"device": "cuda:77"}, "No device 'cuda:77'"),
        ({"model": "espnc"}, "Did you mean 'espcn'"),
        ({"scale": 5}, "Model 'espcn' has no scale 5"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Upscaler(how.pop("model", "espcn"), how.pop("scale", 2), Execution(**how))
    assert "\n" not in str(caught.value)


def test_int8_on_a_gpu_says_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr_plugin.engine.find_device", lambda _: Device("cuda"))
    backend = SimpleNamespace(devices=("cuda",))
    monkeypatch.setattr("vsr_plugin.engine.open_backend", lambda *_: backend)
    monkeypatch.setattr("vsr_plugin.engine.default_backend", lambda _: "triton")
    with pytest.raises(UsageError, match=r"has no precision 'int8'.*: use device='cpu'"):
        Upscaler(execution=Execution(precision="int8"))


def test_openvino_is_refused_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr_plugin.device.cuda_devices", lambda: 1)
    with pytest.raises(UsageError, match="Backend 'openvino' runs on cpu, not on cuda"):
        Upscaler(execution=Execution(backend="openvino", device="cuda"))


def test_missing_weights_are_told(tmp_path: Any) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        Upscaler(weights=tmp_path / "none.safetensors")


def test_openvino_is_the_default_on_the_cpu() -> None:
    with Upscaler.from_module(seeded(MODELS["espcn"], 2), MODELS["espcn"], 2, Execution(device="cpu")) as upscaler:
        assert upscaler.backend == "openvino"
        assert upscaler.device == Device("cpu")
        assert upscaler.precision == "float32"  # of random weights


@pytest.mark.parametrize(("own_threads", "seen"), [(True, 1), (False, 2)])
def test_torch_keeps_out_of_the_way_of_a_backends_threads(
    own_threads: bool, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    class Counter(Recorder):
        def forward(self, x: Tensor) -> Tensor:
            threads.append(torch.get_num_threads())
            return super().forward(x)

    def default_precision(*_: object) -> str:
        threads.append(torch.get_num_threads())
        return "float32"

    monkeypatch.setattr(EagerBackend, "own_threads", own_threads)
    monkeypatch.setattr(EagerBackend, "default_precision", default_precision)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        spec = NetworkSpec(name="counter", overlap={2: 0})
        with Upscaler.from_module(Counter(), spec, 2, Execution(backend="eager", device="cpu")) as upscaler:
            upscaler.upscale([noise(0)])
        assert threads == [seen, seen]  # to choose a precision, and to enlarge
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_thread_that_first_meets_torch_meanwhile_has_all_its_threads() -> None:
    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        with torch_threads(1):
            other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            other.start()
            other.join()
            seen.append(torch.get_num_threads())
        assert seen == [2, 1]
    finally:
        torch.set_num_threads(before)


# Networks of the caller's own.


def test_a_scale_without_an_overlap_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Expected a scale that own network has an overlap for \(2, 4\), got 3"):
        Upscaler.from_module(Recorder(), NetworkSpec(overlap={2: 0, 4: 0}), 3, Execution(backend="eager", device="cpu"))


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@pytest.mark.parametrize("tile", ["off", 32])
def test_a_network_that_does_not_enlarge_by_its_scale_is_refused(backend: str, tile: Any) -> None:
    spec = NetworkSpec(overlap={3: 0})
    with (
        Upscaler.from_module(Recorder(), spec, 3, Execution(backend=backend, device="cpu", tile=tile)) as upscaler,
        pytest.raises(
            UsageError,
            match=r"Expected own network to make \(1, 1, (\d+), \d+\) of .*, ×3, got \(1, 1, (?!\1)\d+, \d+\)",
        ),
    ):
        upscaler.upscale([noise(0, 50, 60)])


@pytest.mark.parametrize("wrong", [{"overlap": {}}, {"overlap": {2: -1}}, {"overlap": {2: 0}, "channels": 2}])
def test_a_network_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Expected"):
        NetworkSpec(**wrong)


# No room.


class SmallBackend(EagerBackend):
    """Has room for so many input samples at once, and refuses more when it compiles or when it runs."""

    room = 0
    refuses_to = "run"

    def compile(self, module: nn.Module, spec: Any, shape: Any, precision: Any, device: Any) -> Any:
        samples = shape[0] * shape[2] * shape[3]
        if self.refuses_to == "compile" and samples > self.room:
            raise OutOfMemoryError("small: no room in memory")
        network = super().compile(module, spec, shape, precision, device)
        room = self.room

        class Network:
            def __call__(self, x: Tensor) -> Tensor:
                if samples > room:
                    raise OutOfMemoryError("small: no room in memory")
                return network(x)

            def close(self) -> None:
                network.close()

        return Network()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> type[SmallBackend]:
    monkeypatch.setattr(vsr_plugin.engine, "open_backend", lambda *_: SmallBackend())
    monkeypatch.setattr(SmallBackend, "room", 0)
    return SmallBackend


@pytest.mark.parametrize(("tile", "batch"), [("off", 1), (64, 12)])
def test_a_batch_is_no_larger_than_the_memory_that_a_cpu_has(
    small: type[SmallBackend], tile: Any, batch: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vsr_plugin.engine, "memory", lambda: 400 << 20)  # half of it for 1 KiB each of 2·150 × 2·200
    small.room = sys.maxsize
    module, spec = seeded(MODELS["espcn"], 2), MODELS["espcn"]
    how = Execution(batch=99, device="cpu", backend="eager", tile=tile)
    with Upscaler.from_module(module, spec, 2, how) as upscaler, caplog.at_level(logging.WARNING):
        upscaler.upscale([noise(1, 150, 200)] * 3)
        assert upscaler.batch == batch
    assert [record.getMessage() for record in caplog.records] == [
        f"no room in memory for a batch of 99: going on with {batch}"
    ]


@pytest.mark.parametrize("refuses_to", ["compile", "run"])
def test_out_of_memory_halves_the_batch_then_the_tile_and_goes_on(
    small: type[SmallBackend], refuses_to: str, caplog: pytest.LogCaptureFixture
) -> None:
    module, spec = seeded(MODELS["espcn"], 2), MODELS["espcn"]
    frames = [noise(index, 150, 200) for index in range(6)]
    with Upscaler.from_module(module, spec, 2, Execution(batch=4, device="cpu", backend="eager")) as upscaler:
        small.room = 4 * (150 + 2 * 4) * (200 + 2 * 4)  # of the extended frames
        whole = upscaler.upscale(frames)
        assert upscaler.batch == 4
    small.room, small.refuses_to = 6_000, refuses_to
    with (
        Upscaler.from_module(module, spec, 2, Execution(batch=4, device="cpu", backend="eager")) as upscaler,
        caplog.at_level(logging.WARNING),
    ):
        results = list(upscaler.stage(iter(frames)))
        assert (upscaler.batch, upscaler.tile) == (1, 50)
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory: going on with a batch of 2 and whole frames",
        "out of memory: going on with a batch of 1 and whole frames",
        "out of memory: going on with a batch of 1 and tiles of 100",
        "out of memory: going on with a batch of 1 and tiles of 50",
    ]
    assert [result.pts for result in results] == [frame.pts for frame in frames]
    for a, b in zip(whole, results, strict=True):
        assert max(map(distance, a.planes, b.planes)) <= 1


@pytest.mark.parametrize(("tile", "remedy"), [("auto", "tiles of 32"), (64, "tiles of 32"), ("off", "use tile='auto'")])
def test_no_room_for_the_smallest_tile_is_an_error(small: type[SmallBackend], tile: Any, remedy: str) -> None:
    with (
        Upscaler.from_module(
            Recorder(), NetworkSpec(name="n", overlap={2: 0}), 2, Execution(batch=2, tile=tile, device="cpu")
        ) as upscaler,
        pytest.raises(OutOfMemoryError, match=remedy) as caught,
    ):
        upscaler.upscale([noise(0, 100, 100)])
    assert "\n" not in str(caught.value)
    assert small.room == 0


def test_other_failures_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            SHAPES.append(tuple(x.shape))
            raise RuntimeError("not about memory")

    SHAPES.clear()
    with (
        Upscaler.from_module(
            Broken(), NetworkSpec(name="b", overlap={2: 0}), 2, Execution(backend="eager", device="cpu")
        ) as upscaler,
        pytest.raises(BackendError, match="not about memory"),
    ):
        upscaler.upscale([noise(0)])
    assert len(SHAPES) == 1


STARVED = """
import resource, sys
from fractions import Fraction
import numpy as np
import torch
torch.set_num_threads(1)
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame
from vsr_plugin.models import MODELS, build_model

torch.manual_seed(0)
spec, module = MODELS["espcn"], build_model(MODELS["espcn"], 2).eval()
def frames(height, width):
    generator = np.random.default_rng(0)
    return [Frame((generator.integers(0, 256, (height, width), np.uint8),), i, Fraction(1), color=ColorSpec())
            for i in range(5)]
def upscaler():
    execution = Execution(backend=sys.argv[1], device="cpu", precision="float32", batch=4)
    return Upscaler.from_module(module, spec, 2, execution)
def limit(size):
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))

pictures = frames(400, 500)
with upscaler() as first:
    first.upscale(frames(32, 32))  # libraries and their threads are in place now
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    limit(used + (110 << 20))  # a batch takes four times as much
    starved = first.upscale(pictures)
    assert (first.batch, first.tile) != (4, None)
limit(resource.RLIM_INFINITY)
with upscaler() as second:
    fed = second.upscale(pictures)
    assert (second.batch, second.tile) == (4, None)
assert [frame.pts for frame in starved] == [0, 1, 2, 3, 4]
assert max(np.abs(a.planes[0].astype(int) - b.planes[0]).max() for a, b in zip(starved, fed)) <= 1
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_a_failed_allocation_is_survived(backend: str) -> None:
    done = subprocess.run([sys.executable, "-c", STARVED, backend], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "out of memory: going on" in done.stderr


@NEEDS_CUDA
@pytest.mark.cuda
def test_cuda_gives_the_cpus_samples() -> None:
    frames = [noise(index, 50, 70) for index in range(21)]
    results = []
    for device in ("cpu", "cuda"):
        with Upscaler.from_module(
            seeded(MODELS["espcn"], 2),
            MODELS["espcn"],
            2,
            Execution(backend="eager", device=device, precision="float32", batch=2),
        ) as upscaler:
            results.append(list(upscaler.stage(iter(frames))))
    for a, b in zip(*results, strict=True):
        assert max(map(distance, a.planes, b.planes)) <= 1


@NEEDS_CUDA
@pytest.mark.cuda
def test_cuda_chooses_a_batch() -> None:
    with Upscaler.from_module(seeded(MODELS["espcn"], 2), MODELS["espcn"], 2, Execution(device="cuda")) as upscaler:
        upscaler.upscale([noise(0, 270, 480)])
        assert upscaler.batch is not None
        assert upscaler.batch > 1


def test_a_closed_upscaler_gives_the_memory_of_its_device_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    upscaler = Upscaler("espcn", 2, Execution(backend="eager", device="cpu"))
    upscaler.close()
    assert not given_back
    upscaler = Upscaler("espcn", 2, Execution(backend="eager", device="cpu"))
    upscaler.device = Device("cuda")
    upscaler.close()
    assert given_back


def _spoilt() -> nn.Module:
    layer = nn.Conv2d(1, 4, 1)
    layer.weight.data[0] = float("nan")
    return layer


def _gray() -> Frame:
    return Frame((np.full((12, 16), 100, np.uint8),), 0, Fraction(1), color=ColorSpec(Matrix.BT709))


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_a_function_is_a_network(backend: str) -> None:
    def nearest(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    spec = NetworkSpec(overlap={2: 0})
    with Upscaler.from_module(nearest, spec, 2, Execution(backend=backend, device="cpu")) as upscaler:
        (large,) = upscaler.upscale([_gray()])
    assert large.planes[0].shape == (24, 32)
    assert int(large.planes[0].min()) == int(large.planes[0].max()) == 100


@pytest.mark.parametrize("backend", ["eager", "openvino"])
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x: torch.log(-1 - x.repeat(1, 1, 2, 2)), "own network made samples that are NaN, infinite or huge"),
        (lambda x: 1 / (0 * x.repeat(1, 1, 2, 2)), "own network made samples that are NaN, infinite or huge"),
        (
            lambda x: torch.cat([x + 1e30, x - 1e30], 2).repeat(1, 1, 1, 2),
            "own network made samples that are NaN, infinite or huge",
        ),
        (lambda x: (255 * x.repeat(1, 1, 2, 2)).to(torch.uint8), "to return floating point .*, got u(int)?8"),
        (lambda x: (x.repeat(1, 1, 2, 2), 1 - x.repeat(1, 1, 2, 2)), "Expected own network to return .*tensor, got"),
    ],
)
def test_what_a_network_must_not_return_is_told(backend: str, network: Any, message: str) -> None:
    execution = Execution(backend=backend, device="cpu")
    with (
        Upscaler.from_module(network, NetworkSpec(overlap={2: 0}), 2, execution) as upscaler,
        pytest.raises(UsageError, match=message),
    ):
        upscaler.upscale([_gray()])


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize(("backend", "precision"), [
    ("eager", "float32"), ("eager", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16"),
])  # fmt: skip
@pytest.mark.parametrize("layers", ["", "conv3"], ids=["all", "last"])
def test_weights_that_overflow_make_no_image(
    tmp_path: Path, depth: int, backend: str, precision: Any, layers: str
) -> None:
    state = load_model("espcn", 2).state_dict()
    large = {name: tensor.sign() * 3e38 if name.startswith(layers) else tensor for name, tensor in state.items()}
    save_file(large, tmp_path / "large.safetensors")
    kind = np.uint8 if depth == 8 else np.uint16
    gray = Frame((np.full((12, 16), 100, kind),), 0, Fraction(1), color=ColorSpec(Matrix.BT709, depth=depth))
    execution = Execution(backend=backend, device="cpu", precision=precision)
    with (
        Upscaler("espcn", 2, execution, weights=tmp_path / "large.safetensors") as upscaler,
        pytest.raises(UsageError, match="espcn made samples that are NaN, infinite or huge"),
    ):
        upscaler.upscale([gray])


@pytest.mark.parametrize(
    ("module", "scale", "message"),
    [
        (nn.Identity(), "2", "Expected scale to be a whole number or a Size, got '2'"),
        (nn.Identity, 2, r"got the class Identity: make one, Identity\(…\)"),
        (None, 2, "Expected a module of torch or a function of a tensor, got None"),
        ({2: nn.Identity()}, 3, "Expected a module for scale 3, got 2"),
        ({}, 3, "Expected a module for scale 3, got none"),
        ({"2": nn.Identity()}, 2, "Expected a scale of module to be a whole number, got '2'"),
        ({2: nn.Identity(), 5: nn.Identity()}, 2, r"Expected modules for scales .* \(2, 3\), got 5"),
        ({2: nn.Identity(), 3: 7}, 2, "Expected a module of torch or a function of a tensor, got 7"),
        (_spoilt(), 2, r"Expected weights that are numbers, got NaN or infinity in weight"),
    ],
)
def test_what_is_no_network_is_told(module: Any, scale: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Upscaler.from_module(module, NetworkSpec(overlap={2: 0, 3: 0}), scale, Execution(device="cpu"))
