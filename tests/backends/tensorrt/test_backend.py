"""The backend finds, builds and runs engines; a library that stands in for TensorRT runs them here."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

from tests import distance
from tests.networks import EVERY, seeded, small
from vsr_plugin.backends import Device, open_backend
from vsr_plugin.backends.cache import Cache
from vsr_plugin.backends.tensorrt import Profile, Target
from vsr_plugin.backends.tensorrt import backend as module
from vsr_plugin.backends.tensorrt.backend import TensorRTBackend, fixed, ranged
from vsr_plugin.backends.tensorrt.export import Graph, export
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError, OutputError, UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import Frame
from vsr_plugin.models import MODELS
from vsr_plugin.samples import SampleFormat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backends.tensorrt.fakes import Library
    from vsr_plugin.backends import Precision

CPU = Device("cpu")
ESPCN = MODELS["espcn"]
SHAPE = (2, 1, 12, 16)
FRAME = Frame((np.full((12, 16), 99, np.uint8),), pts=0, time_base=Fraction(1, 25))
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(autouse=True)
def _exports_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export takes seconds."""
    monkeypatch.setattr(module, "export", export_once)


_graphs: dict[tuple[float, Precision], Graph] = {}


def export_once(network: Any, spec: Any, precision: Precision) -> Graph:
    known = (float(sum(value.double().abs().sum() for value in network.parameters())), precision)
    if known not in _graphs:
        _graphs[known] = export(network, spec, precision)
    return _graphs[known]


def opened(folder: Path) -> TensorRTBackend:
    return cast("TensorRTBackend", open_backend("tensorrt", folder))


def run_once(folder: Path, shape: tuple[int, int, int, int] = SHAPE, precision: Precision = "float32") -> torch.Tensor:
    torch.manual_seed(1)
    network = opened(folder).compile(seeded(ESPCN, 2), ESPCN, shape, precision, CPU)
    result = network(torch.rand(shape))
    network.close()
    return result


@pytest.fixture
def with_engine(tmp_path: Path, library: Library) -> Path:
    """A folder with the engine that `run_once` needs."""
    run_once(tmp_path)
    assert len(library.built) == 1
    return next(tmp_path.glob("*.engine"))


def test_a_result_is_eagers(tmp_path: Path, library: Library) -> None:
    result = run_once(tmp_path)
    torch.manual_seed(1)
    torch.testing.assert_close(result, seeded(ESPCN, 2)(torch.rand(SHAPE)), rtol=0, atol=2e-6)


GRAPH = Graph(b"a graph, with its weights and types", 2, 2)
TARGET = Target("tensorrt", "10.9", "8.9", "NVIDIA GeForce RTX 4090", "570.86", "linux")
TARGETS = {
    "flavor": "tensorrt_rtx", "version": "10.10", "capability": "12.0", "gpu": "NVIDIA L4", "driver": "575.1",
    "system": "win32",
}  # fmt: skip


def test_the_key_changes_with_everything_an_engine_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(TARGETS) == {field.name for field in fields(Target)}
    keys = [module._key(GRAPH, TARGET), module._key(replace(GRAPH, onnx=b"another"), TARGET)]
    keys += [module._key(GRAPH, replace(TARGET, **{name: value})) for name, value in TARGETS.items()]  # type: ignore[arg-type]
    monkeypatch.setattr(module, "OPTIONS", ("strongly typed",))
    keys.append(module._key(GRAPH, TARGET))
    assert len(set(keys)) == len(keys)
    profile = fixed(SHAPE)
    names = [profile.name, replace(profile, smallest=(1, 1, 2, 3)).name, replace(profile, largest=(4, 1, 99, 99)).name]
    assert len(set(names)) == 3
    assert Profile.from_name(names[0]) == profile
    assert Profile.from_name("strange") is None


@pytest.mark.parametrize("change", ["precision", "version", "height", "weights", "batch"])
def test_another_engine_is_built_for_another(change: str, with_engine: Path, library: Library) -> None:
    folder = with_engine.parent
    if change == "version":
        library.__version__ = "1.8"
    if change == "weights":
        other = seeded(ESPCN, 2)
        next(other.parameters()).data += 0.01
        opened(folder).compile(other, ESPCN, SHAPE, "float32", CPU)
    else:
        shape = {"height": (2, 1, 13, 16), "batch": (3, *SHAPE[1:])}.get(change, SHAPE)
        run_once(folder, shape, "float16" if change == "precision" else "float32")
    assert len(library.built) == 2
    assert len(list(folder.glob("*.engine"))) == 2


def test_an_engine_is_built_once(with_engine: Path, library: Library) -> None:
    run_once(with_engine.parent)
    run_once(with_engine.parent, (1, *SHAPE[1:]))  # fewer at a time, as when memory runs out
    assert (len(library.built), len(library.loaded)) == (1, 3)
    assert library.built[0].profile == ((1, 1, 12, 16), SHAPE, SHAPE)


def test_a_batch_that_no_engine_can_be_built_for_becomes_smaller(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_room = [(2, "Device memory is insufficient"), (1, "could not find any implementation")]
    library.fails = lambda shape: no_room if shape[0] == -1 else []
    monkeypatch.setattr(TensorRTBackend, "devices", ("cpu",))
    with Upscaler("espcn", 2, Execution(cache_dir=tmp_path, backend="tensorrt", device="cpu", batch=4)) as upscaler:
        upscaler.upscale([FRAME])
        assert upscaler.batch == 1
    assert [built.profile and built.profile[-1][0] for built in library.built] == [4, 2, ()]


def test_engines_are_built_and_loaded_on_their_own_device(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries measure on the current device, which on a machine with two GPUs may be the other one."""
    inside: list[torch.device] = []

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        inside.append(device)
        yield
        inside.pop()

    def is_inside(*_: Any) -> Any:
        assert inside == [torch.device(CPU)]

    monkeypatch.setattr(module, "current", current)
    library.fails = lambda _: is_inside() or []
    library.refuses = is_inside
    run_once(tmp_path)
    assert len(library.built) == len(library.loaded) == 1


def test_what_was_compiled_is_used_again(with_engine: Path, library: Library) -> None:
    run_once(with_engine.parent)
    assert [compiled for _, compiled in library.loaded] == [b"", b"kernels"]


def test_what_was_measured_is_used_again(tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.backends.tensorrt.fakes import Library, install
    from vsr_plugin.backends.tensorrt import flavor

    full = Library("tensorrt", "10.9")
    install(monkeypatch, tensorrt=full)
    monkeypatch.setattr(flavor, "_driver", lambda: "570.1")
    run_once(tmp_path)
    run_once(tmp_path, (1, 1, 8, 8))
    assert [built.timings for built in full.built] == [b"", b"new, "]


@pytest.mark.parametrize("content", [b"", b"vsr_plugin cache 3\n{", b"something else", None])
def test_a_bad_engine_file_is_built_again(content: bytes | None, with_engine: Path, library: Library) -> None:
    before = with_engine.read_bytes()
    with_engine.write_bytes(before[:-9] if content is None else content)
    run_once(with_engine.parent)
    assert len(library.built) == 2
    assert with_engine.read_bytes() == before


def refuse_once(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = iter([[(1, "Magic tag does not match")], None])
    monkeypatch.delattr(library, "get_engine_validity")  # as in the full library
    library.refuses = lambda _: next(refused)


@pytest.mark.parametrize("writable", [True, False])
def test_an_engine_that_the_library_does_not_take_is_built_again(
    writable: bool,
    with_engine: Path,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = with_engine.read_bytes()
    if not writable:
        monkeypatch.setattr(Cache, "write", lambda *_: False)
        monkeypatch.setattr(Cache, "drop", lambda *_: None)
    refuse_once(library, monkeypatch)
    run_once(with_engine.parent)
    assert len(library.built) == 2
    assert f"tensorrt_rtx does not take {with_engine.name}: building it again" in caplog.messages
    assert with_engine.read_bytes() == before


def test_a_good_engine_stays_when_there_is_no_way_to_the_gpu(with_engine: Path, library: Library) -> None:
    library.refuses = lambda _: [(1, "CUDA initialization failure with error: 35")]
    with pytest.raises(BackendError, match="compiling espcn failed: CUDA initialization failure with error: 35"):
        run_once(with_engine.parent)
    assert with_engine.exists()
    assert len(library.built) == 1


def test_a_library_that_takes_nothing_is_told(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_once(library, monkeypatch)
    library.refuses = lambda _: [(1, "Magic tag does not match")]
    with pytest.raises(BackendError, match="does not take what it has built"):
        run_once(tmp_path)


def test_without_a_folder_to_keep_them_engines_run_all_the_same(
    tmp_path: Path, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    run_once(tmp_path / "file" / "engines")
    assert len([message for message in caplog.messages if "cannot be kept" in message]) == 1
    backend = opened(tmp_path / "file" / "engines")
    with pytest.raises(OutputError, match=r"Cannot keep the engine in .*: use another cache_dir"):
        backend.build(seeded(ESPCN, 2), ESPCN, fixed(SHAPE), "float32", backend.flavor.target_ahead("8.9"))


def test_an_engine_for_a_range_serves_every_size_in_it(tmp_path: Path, library: Library) -> None:
    backend = opened(tmp_path)
    path, new = backend.build(
        seeded(ESPCN, 2), ESPCN, ranged((2, 1, 40, 64)), "float32", backend.flavor.target_ahead("8.9")
    )
    assert (path.exists(), new) == (True, True)
    run_once(tmp_path, (2, 1, 40, 64))
    run_once(tmp_path, (1, 1, 21, 33))
    assert len(library.built) == 1
    run_once(tmp_path, (1, 1, 41, 64))
    assert len(library.built) == 2


def test_what_is_built_is_told(tmp_path: Path, library: Library, caplog: pytest.LogCaptureFixture) -> None:
    run_once(tmp_path)
    [told] = [message for message in caplog.messages if message.startswith("building")]
    assert told == (
        "building the engine of espcn ×2, 16×12, up to 2 at a time, float32, tensorrt_rtx 1.7.1, compute capability "
        "8.9, this first time only"
    )
    assert str(TARGET) == "tensorrt 10.9, NVIDIA GeForce RTX 4090, driver 570.86"
    assert str(ranged((2, 1, 40, 64))) == "16×16 to 64×40, up to 2 at a time"


def test_frames_go_through_it_as_samples(tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRTBackend, "devices", ("cpu",))
    frame = Frame((np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8),), pts=0, time_base=Fraction(1, 25))
    frames = [replace(frame, pts=pts) for pts in range(3)]
    results = {}
    for name in ("eager", "tensorrt"):
        execution = Execution(backend=name, device="cpu", precision="float32", batch=2, cache_dir=tmp_path)
        with Upscaler("espcn", 2, execution) as upscaler:
            results[name] = upscaler.upscale(frames)
    for ours, eager in zip(results["tensorrt"], results["eager"], strict=True):
        assert ours.pts == eager.pts
        assert max(map(distance, ours.planes, eager.planes)) <= 1
    assert len(library.built) == 1


@pytest.mark.parametrize(
    ("device", "there", "message"),
    [
        (None, False, "Backend 'tensorrt' runs on cuda, and there is no CUDA device that torch can use"),
        ("cpu", False, "runs on cuda, not on cpu"),
        ("cpu", True, "runs on cuda, not on cpu: use device='cuda', or use another backend"),
    ],
)
def test_without_a_gpu_it_says_so(
    device: str | None, there: bool, message: str, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsr_plugin.device.cuda_devices", lambda: int(there))
    with pytest.raises(UsageError, match=message):
        Upscaler("espcn", 2, Execution(backend="tensorrt", device=device))


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
    device = Device("cuda")
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
        stored = network.upscale_samples(samples.to(device), SampleFormat(255, 8)).cpu()
        unrounded = 255 * network((samples / 255).to(device)).cpu()
        assert float((stored.float() - unrounded.clamp(0, 255)).abs().max()) <= 0.51
    network.close()
