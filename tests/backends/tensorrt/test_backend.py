"""The backend finds, builds and runs engines; a library that stands in for TensorRT runs them here."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from tests.networks import EVERY, seeded, small
from vsr_plugin.backends import open_backend
from vsr_plugin.backends.tensorrt import backend as module
from vsr_plugin.backends.tensorrt.backend import TensorRTBackend, fixed, ranged
from vsr_plugin.backends.tensorrt.cache import Cache
from vsr_plugin.backends.tensorrt.export import Graph, digest_of_weights, export
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError, OutputError, UsageError
from vsr_plugin.frames import Frame
from vsr_plugin.models import MODELS

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from tests.backends.tensorrt.fakes import FakeFlavor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from vsr_plugin.backends import Precision
    from vsr_plugin.backends.tensorrt import Profile
    from vsr_plugin.models import NetworkSpec

CPU = torch.device("cpu")
ESPCN = MODELS["espcn"]
SHAPE = (2, 1, 12, 16)
FRAME = Frame((torch.full((12, 16), 99, dtype=torch.uint8),), pts=0, time_base=Fraction(1, 25))
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


_graphs: dict[tuple[str, Precision], Graph] = {}


def export_once(network: nn.Module, spec: NetworkSpec, precision: Precision) -> Graph:
    """`export`, which takes long, for networks of one spec."""
    known = (digest_of_weights(network), precision)
    if known not in _graphs:
        _graphs[known] = export(network, spec, precision)
    return _graphs[known]


@pytest.fixture
def flavor(monkeypatch: pytest.MonkeyPatch) -> FakeFlavor:
    found = FakeFlavor()
    monkeypatch.setattr(module, "find_flavor", lambda **_: found)
    monkeypatch.setattr(module, "export", export_once)
    return found


def opened(folder: Path) -> TensorRTBackend:
    return cast("TensorRTBackend", open_backend("tensorrt", folder))


def run_once(folder: Path, shape: tuple[int, int, int, int] = SHAPE, precision: Precision = "float32") -> torch.Tensor:
    torch.manual_seed(1)
    network = opened(folder).compile(seeded(ESPCN, 2), ESPCN, shape, precision, CPU)
    result = network(torch.rand(shape))
    network.close()
    return result


@pytest.fixture
def with_engine(tmp_path: Path, flavor: FakeFlavor) -> Path:
    """A folder with the engine that `run_once` needs."""
    run_once(tmp_path)
    assert len(flavor.built) == 1
    return next(tmp_path.glob("*.engine"))


def test_a_result_is_eagers(tmp_path: Path, flavor: FakeFlavor) -> None:
    result = run_once(tmp_path)
    torch.manual_seed(1)
    torch.testing.assert_close(result, seeded(ESPCN, 2)(torch.rand(SHAPE)), rtol=0, atol=2e-6)


def test_an_engine_is_built_once(with_engine: Path, flavor: FakeFlavor) -> None:
    folder, loaded = with_engine.parent, len(flavor.loaded)
    run_once(folder)
    run_once(folder, (1, *SHAPE[1:]))  # fewer at a time, as when memory runs out
    assert (len(flavor.built), len(flavor.loaded)) == (1, loaded + 2)
    profile, _, _ = flavor.built[0]
    assert (profile.smallest, profile.usual, profile.largest) == ((1, 1, 12, 16), SHAPE, SHAPE)
    run_once(folder, (3, *SHAPE[1:]))
    assert len(flavor.built) == 2


def test_a_batch_that_no_engine_can_be_built_for_becomes_smaller(
    tmp_path: Path, flavor: FakeFlavor, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = flavor.build
    asked: list[int] = []

    def build_small(onnx: bytes, profile: Profile, *more: Any) -> tuple[bytes, bytes]:
        asked.append(profile.largest[0])
        if profile.largest[0] > 1:
            raise RuntimeError("out of memory: could not find any implementation")
        return build(onnx, profile, *more)

    monkeypatch.setattr(flavor, "build", build_small)
    monkeypatch.setattr(TensorRTBackend, "devices", ("cpu",))
    with Upscaler("espcn", 2, cache_dir=tmp_path, backend="tensorrt", device="cpu", batch=4) as upscaler:
        upscaler.upscale([FRAME])
        assert upscaler.batch == 1
    assert asked == [4, 2, 1]


def test_engines_are_built_and_loaded_on_their_own_device(
    tmp_path: Path, flavor: FakeFlavor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries measure on the device that is current, which of two GPUs may be the other one."""
    inside: list[torch.device] = []

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        inside.append(device)
        yield
        inside.pop()

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            assert inside == [CPU]
            return method(*args)

        return call

    monkeypatch.setattr(module, "current", current)
    monkeypatch.setattr(flavor, "build", watched(flavor.build))
    monkeypatch.setattr(flavor, "load", watched(flavor.load))
    run_once(tmp_path)
    assert len(flavor.built) == len(flavor.loaded) == 1


def test_what_was_compiled_and_measured_is_used_again(with_engine: Path, flavor: FakeFlavor) -> None:
    folder = with_engine.parent
    run_once(folder)
    assert [compiled for _, compiled in flavor.loaded] == [b"", b"kernels for this GPU"]
    run_once(folder, (1, 1, 8, 8))
    assert [timings for _, _, timings in flavor.built] == [b"", b"measured, "]


@pytest.mark.parametrize("change", ["precision", "version", "height", "weights"])
def test_another_engine_is_built_for_another(change: str, with_engine: Path, flavor: FakeFlavor) -> None:
    folder = with_engine.parent
    if change == "version":
        flavor.version = "1.1"
    if change == "weights":
        other = seeded(ESPCN, 2)
        next(other.parameters()).data += 0.01
        opened(folder).compile(other, ESPCN, SHAPE, "float32", CPU)
    else:
        shape = (2, 1, 13, 16) if change == "height" else SHAPE
        run_once(folder, shape, "float16" if change == "precision" else "float32")
    assert len(flavor.built) == 2
    assert len(list(folder.glob("*.engine"))) == 2


@pytest.mark.parametrize("content", [b"", b"vsr_plugin sealed 2\n{", b"something else", None])
def test_a_bad_engine_file_is_built_again(content: bytes | None, with_engine: Path, flavor: FakeFlavor) -> None:
    before = with_engine.read_bytes()
    with_engine.write_bytes(before[:-9] if content is None else content)
    run_once(with_engine.parent)
    assert len(flavor.built) == 2
    assert with_engine.read_bytes() == before


def test_an_engine_that_the_library_does_not_take_is_built_again(
    with_engine: Path, flavor: FakeFlavor, caplog: pytest.LogCaptureFixture
) -> None:
    refused = iter([True, False])
    flavor.refuses = lambda _: next(refused)
    run_once(with_engine.parent)
    assert len(flavor.built) == 2
    assert f"tensorrt_rtx does not take {with_engine.name}: building it again" in caplog.messages


def test_an_engine_that_is_not_taken_and_cannot_be_removed_is_built_all_the_same(
    with_engine: Path, flavor: FakeFlavor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that can only be read."""
    before = with_engine.read_bytes()
    monkeypatch.setattr(Cache, "write", lambda *_: False)
    monkeypatch.setattr(Cache, "drop", lambda *_: None)
    monkeypatch.setattr(module.TensorRTBackend, "_keep_compiled", lambda *_: None)
    refused = iter([True, False])
    flavor.refuses = lambda _: next(refused)
    run_once(with_engine.parent)
    assert len(flavor.built) == 2
    assert with_engine.read_bytes() == before


def test_a_good_engine_stays_when_there_is_no_way_to_the_gpu(
    with_engine: Path, flavor: FakeFlavor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA initialization failure with error: 35")

    monkeypatch.setattr(flavor, "load", fail)
    with pytest.raises(BackendError, match="compiling espcn failed: CUDA initialization failure with error: 35"):
        run_once(with_engine.parent)
    assert with_engine.exists()
    assert len(flavor.built) == 1


def test_a_library_that_takes_nothing_is_told(tmp_path: Path, flavor: FakeFlavor) -> None:
    flavor.refuses = lambda _: True
    with pytest.raises(BackendError, match="does not take what it has built"):
        run_once(tmp_path)


def test_without_a_folder_to_keep_them_engines_run_all_the_same(
    tmp_path: Path, flavor: FakeFlavor, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    run_once(tmp_path / "file" / "engines")
    told = [record.message for record in caplog.records if "cannot be kept" in record.message]
    assert len(told) == 1
    module_, spec = seeded(ESPCN, 2), ESPCN
    target = flavor.target_ahead("8.9")
    with pytest.raises(OutputError, match="choose another --cache-dir"):
        opened(tmp_path / "file" / "engines").build(module_, spec, fixed(SHAPE), "float32", target)


def test_an_engine_for_a_range_serves_every_size_in_it(tmp_path: Path, flavor: FakeFlavor) -> None:
    path, new = opened(tmp_path).build(
        seeded(ESPCN, 2), ESPCN, ranged((2, 1, 40, 64)), "float32", flavor.target_ahead("8.9")
    )
    assert (path.exists(), new) == (True, True)
    run_once(tmp_path, (2, 1, 40, 64))
    run_once(tmp_path, (1, 1, 21, 33))
    assert len(flavor.built) == 1
    run_once(tmp_path, (1, 1, 41, 64))
    assert len(flavor.built) == 2


def test_what_is_built_is_told(tmp_path: Path, flavor: FakeFlavor, caplog: pytest.LogCaptureFixture) -> None:
    run_once(tmp_path)
    [told] = [message for message in caplog.messages if message.startswith("building")]
    assert told == (
        "building the engine of espcn ×2 for 16×12, up to 2 at a time, float32, by tensorrt_rtx 1.0 for compute "
        "capability 8.9, this first time only"
    )


def test_frames_go_through_it_as_samples(tmp_path: Path, flavor: FakeFlavor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRTBackend, "devices", ("cpu",))
    frame = Frame((torch.randint(0, 256, (30, 40)).to(torch.uint8),), pts=0, time_base=Fraction(1, 25))
    frames = [replace(frame, pts=pts) for pts in range(3)]
    results = {}
    for name in ("eager", "tensorrt"):
        options = {"backend": name, "device": "cpu", "precision": "float32", "batch": 2}
        with Upscaler("espcn", 2, cache_dir=tmp_path, **options) as upscaler:  # type: ignore[arg-type] # of many types
            results[name] = upscaler.upscale(frames)
    for ours, eager in zip(results["tensorrt"], results["eager"], strict=True):
        assert ours.pts == eager.pts
        for plane, expected in zip(ours.planes, eager.planes, strict=True):
            assert int((plane.int() - expected.int()).abs().max()) <= 1
    assert len(flavor.built) == 1


def test_without_a_gpu_it_says_so_and_what_to_do(flavor: FakeFlavor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = "Backend 'tensorrt' runs on cuda, and there is no CUDA device that torch can use: use another --backend"
    with pytest.raises(UsageError, match=f"^{message}$"):
        Upscaler("espcn", 2, backend="tensorrt")
    with pytest.raises(UsageError, match="runs on cuda, not on cpu: use another --backend"):
        Upscaler("espcn", 2, backend="tensorrt", device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UsageError, match="runs on cuda, not on cpu: use --device cuda, or another --backend"):
        Upscaler("espcn", 2, backend="tensorrt", device="cpu")


@NEEDS_CUDA
@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_on_cuda_every_network_agrees_with_eager(
    name: str, scale: int, precision: Precision, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        backend = TensorRTBackend(tmp_path_factory.mktemp("engines"))
        backend.flavor.target(torch.device("cuda"))
    except BackendError as error:
        pytest.skip(str(error))
    device = torch.device("cuda")
    spec = small(name, scale)
    x = torch.rand(2, spec.channels, 33, 40)
    truth = seeded(spec, scale).double()(x.double())
    eager = open_backend("eager").compile(seeded(spec, scale), spec, (2, spec.channels, 33, 40), precision, device)
    tolerance = max(2 * float((eager(x.to(device)).cpu() - truth).abs().max()), 2**-18)
    network = backend.compile(seeded(spec, scale), spec, (2, spec.channels, 33, 40), precision, device)
    assert network.recorded, "no CUDA graph"
    result = network(x.to(device)).cpu()
    assert float((result - truth).abs().max()) <= tolerance
    if spec.channels == 1:
        samples = torch.randint(0, 256, x.shape, dtype=torch.uint8)
        stored = network.upscale_samples(samples.to(device), 255, 8).cpu()
        unrounded = 255 * network((samples / 255).to(device)).cpu()
        assert float((stored.float() - unrounded.clamp(0, 255)).abs().max()) <= 0.51
    network.close()
