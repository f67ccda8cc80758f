"""Graphs of shipped networks are kept, and a start with one needs no torch."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("openvino", reason="no OpenVINO")

from vsr_plugin.backends import graphs, rounding
from vsr_plugin.backends.cache import Cache
from vsr_plugin.backends.graphs import _HEAD as HEAD
from vsr_plugin.backends.graphs import GraphCache
from vsr_plugin.backends.openvino import OpenVINOBackend
from vsr_plugin.backends.processor import features, multiplies_bytes
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame
from vsr_plugin.models import find_model, find_sources, manifest, read_model

from .test_cache import homeless

if TYPE_CHECKING:
    from collections.abc import Callable

CLIP = Path(__file__).parents[2] / "examples/clip.mp4"
BYTES = pytest.mark.skipif(not multiplies_bytes(), reason="no fast int8")
NO_TORCH = "import sys; sys.modules['torch'] = None  # to import it is an error\n"
ENLARGE = """
import hashlib, sys
import numpy as np
from fractions import Fraction
import vsr_plugin as vsr
model, scale, precision, depth = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
rng = np.random.default_rng(0)
color = vsr.ColorSpec(depth=depth, subsampling=(1, 1))
luma = rng.integers(0, color.peak, (131, 200)).astype(color.dtype)
chroma = rng.integers(0, color.peak, (66, 100)).astype(color.dtype)
found = hashlib.sha256()
with vsr.Upscaler(model, scale, vsr.Execution(backend="openvino", precision=precision)) as upscaler:
    frames = []
    for index in range(12):
        luma = luma.copy()
        luma[8 : 16, index : index + 8] ^= 1
        frames.append(vsr.Frame((luma, chroma, chroma), index, Fraction(1, 25), color=color))
    for frame in upscaler.stage(iter(frames)):
        for plane in frame.planes:
            found.update(plane.tobytes())
print(found.hexdigest(), sys.modules.get("torch") is not None)
"""


def run(script: str, *words: str, cache: Path) -> str:
    how = {**os.environ, "VSR_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False, env=how)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("model", "scale", "precision", "depth"),
    [
        ("espcn", 2, "bfloat16", 8),
        ("espcn", 3, "float32", 10),
        pytest.param("fsrcnn", 3, "float32", 8, marks=pytest.mark.slow),
        pytest.param("srcnn", 2, "bfloat16", 8, marks=pytest.mark.slow),
        pytest.param("vdsr", 2, "bfloat16", 8, marks=pytest.mark.slow),
        pytest.param("lapsrn", 2, "float32", 8, marks=pytest.mark.slow),
        pytest.param(
            "espcn",
            2,
            "int8",
            8,
            marks=[pytest.mark.slow, pytest.mark.skipif(not multiplies_bytes(), reason="no fast int8")],
        ),
    ],
)
def test_a_second_start_gives_the_same_samples_without_torch(
    tmp_path: Path, model: str, scale: int, precision: str, depth: int
) -> None:
    words = (model, str(scale), precision, str(depth))
    first, loaded = run(ENLARGE, *words, cache=tmp_path).split()
    assert loaded == "True"
    assert run(NO_TORCH + ENLARGE, *words, cache=tmp_path).split() == [first, "False"]


def test_vsr_encode_needs_no_torch_either(tmp_path: Path) -> None:
    for index, before in enumerate(("", NO_TORCH)):
        script = before + "from vsr_plugin.cli import main_encode\nmain_encode()"
        words = f"{CLIP} --frames 3 --model espcn -x 2 --codec ffv1 -o {tmp_path / f'{index}.mkv'}".split()
        run(script, *words, cache=tmp_path / "cache")
    decode = "ffmpeg -v error -i {} -map 0:v -f framemd5 -"
    first, second = (
        subprocess.run(decode.format(tmp_path / f"{index}.mkv").split(), capture_output=True, check=True).stdout
        for index in range(2)
    )
    assert first == second


AT_ONCE = """
import sys, threading
sys.setswitchinterval(1e-5)
from fractions import Fraction
import numpy as np
import vsr_plugin as vsr
luma = np.random.default_rng(0).integers(16, 236, (40, 52), np.uint8)
def enlarge(model, scale, found):
    with vsr.Upscaler(model, scale, vsr.Execution(backend="openvino", precision="bfloat16")) as upscaler:
        found.append(upscaler.upscale([vsr.Frame((luma,), 0, Fraction(1))])[0].planes[0])
wanted = [("espcn", 2), ("fsrcnn-s", 2), ("espcn", 3), ("srcnn", 2), ("fsrcnn", 3), ("espcn", 4)]
found = [[] for _ in wanted]
threads = [threading.Thread(target=enlarge, args=(*each, its)) for each, its in zip(wanted, found)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for each, its in zip(wanted, found):
    enlarge(*each, its)
    assert np.array_equal(*its), each
"""


def test_first_networks_of_several_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    """All load OpenVINO and torch at once, and trace."""
    run(AT_ONCE, cache=tmp_path)


BESIDE = """
import threading
import torch
import vsr_plugin as vsr
module, x, done = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.ReLU()), torch.rand(1, 1, 8, 8), []
def open_networks():
    for model in ("espcn", "fsrcnn-s", "fsrcnn", "srcnn"):
        with vsr.Upscaler(model, 2, vsr.Execution(backend="openvino", precision="float32")) as upscaler:
            upscaler(torch.zeros(16, 16, dtype=torch.uint8).numpy())
    done.append(True)
opening = threading.Thread(target=open_networks)
opening.start()
while not done:
    module(x)
    assert opening.is_alive() or done
"""


def test_networks_that_are_opened_do_not_disturb_modules_of_other_threads(tmp_path: Path) -> None:
    """torch.fx would: while it traces, it changes what calling any module does, in all threads."""
    run(BESIDE, cache=tmp_path)


FIRST_RGB = """
import sys
from fractions import Fraction
import numpy as np
import vsr_plugin as vsr
from vsr_plugin import tiling
extend, seen = tiling.extend, []
def spy(x, grid):
    import torch
    seen.append(torch.get_num_threads())
    return extend(x, grid)
tiling.extend = spy
color = vsr.ColorSpec(matrix=vsr.Matrix.RGB, range=vsr.Range.FULL)
frames = [vsr.Frame((np.zeros((40, 52), np.uint8),) * 3, index, Fraction(1), color=color) for index in range(2)]
with vsr.Upscaler("espcn", 2, vsr.Execution(backend="openvino", precision="float32", batch=1)) as upscaler:
    assert "torch" not in sys.modules
    upscaler.upscale(frames)
print(seen)
"""


def test_torch_is_held_to_one_thread_from_the_first_frame_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert run(FIRST_RGB, cache=tmp_path) == "[1, 1]\n"


def frame(height: int = 40, width: int = 52) -> Frame:
    luma = np.random.default_rng(0).integers(16, 236, (height, width), np.uint8)
    return Frame((luma,), 0, Fraction(1), color=ColorSpec())


def enlarged(cache: Path | None, weights: Path | None = None, given: Frame | None = None, **how: Any) -> Any:
    execution = Execution(**{"backend": "openvino", "precision": "float32", "cache_dir": cache, **how})
    with Upscaler("espcn", 2, execution, weights=weights) as upscaler:
        return upscaler.upscale([given or frame()])[0].planes[0]


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.graph"))


def test_a_damaged_graph_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = enlarged(tmp_path)
    (graph,) = kept(tmp_path)
    graph.write_bytes(graph.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(enlarged(tmp_path), first)
    assert "is damaged, or not a file of this program: making it again" in caplog.text
    caplog.clear()
    assert np.array_equal(enlarged(tmp_path), first)
    assert not caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:3],
        lambda content: content[:-5000],
        lambda content: content + b"more",
        lambda content: HEAD.pack(10, 100, 1) + bytes(110),
        lambda content: HEAD.pack(0, 0, 1),
        lambda content: HEAD.pack(*HEAD.unpack_from(content)[:2], 0) + content[HEAD.size :],
        lambda content: (
            HEAD.pack(HEAD.unpack_from(content)[0], 5000, 1)
            + content[HEAD.size : HEAD.size + HEAD.unpack_from(content)[0] + 5000]
        ),
    ],
    ids=["empty", "short", "cut off", "long", "no graph", "nothing", "enlarged zero times", "few weights"],
)
def test_a_file_that_is_whole_but_no_graph_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    first = enlarged(tmp_path)
    (graph,) = kept(tmp_path)
    cache = Cache(tmp_path)
    whole = cache.read(graph.name)
    assert whole is not None
    cache.write(graph.name, whole.what, damage(whole.content))
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(enlarged(tmp_path), first)
    assert f"{graph} cannot be used (" in caplog.text
    caplog.clear()
    assert np.array_equal(enlarged(tmp_path), first)
    assert not caplog.text


def test_where_nothing_can_be_kept_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def save(path: str, **_: object) -> None:
        for suffix in (".xml", ".bin"):
            Path(path).with_suffix(suffix).write_text("x")

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("Can't open bin file")  # as OpenVINO says it

    file = tmp_path / "file"
    file.write_text("no folder")
    cache = GraphCache(file, "1")
    with caplog.at_level(logging.DEBUG):
        cache.write("key", "words", full, 1)
        cache.write(
            "key",
            "words",
            lambda path, **_: [Path(path).with_suffix(end).write_text("x") for end in (".xml", ".bin")],
            1,
        )
        assert cache.read("key", lambda *_: pytest.fail("there is none")) is None
    assert not caplog.text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems know a folder otherwise")
def test_without_a_home_directory_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    homeless(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert enlarged(None).shape == (80, 104)
    assert not list(tmp_path.iterdir())


def test_a_graph_serves_only_what_it_was_made_for(tmp_path: Path) -> None:
    def count(**how: Any) -> int:
        enlarged(tmp_path, **how)
        return len(kept(tmp_path))

    assert count() == 1
    assert count(given=frame(60, 80)) == 1  # of any size
    assert count(given=frame(61, 80)) == 2  # but odd ones are traced apart
    deep = replace(frame(), planes=(frame().planes[0].astype(np.uint16) << 2,), color=ColorSpec(depth=10))
    assert count(given=deep) == 3
    assert count(precision="bfloat16") == 4


def test_weights_of_the_users_own_leave_nothing(tmp_path: Path) -> None:
    weights = Path(__file__).parents[2] / "weights/espcn_x2.safetensors"
    assert np.array_equal(enlarged(tmp_path, weights), enlarged(tmp_path / "other"))
    assert not kept(tmp_path)


def test_other_weights_are_traced_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enlarged(tmp_path)
    row = manifest()["espcn_x2"]
    video = {key: manifest()["espcn_x2_video"][key] for key in ("file", "sha256")}
    monkeypatch.setitem(manifest(), "espcn_x2", {**row, **video})
    enlarged(tmp_path)
    assert len(kept(tmp_path)) == 2


DAMAGED = """
import sys
from pathlib import Path
from types import SimpleNamespace
import vsr_plugin as vsr
from vsr_plugin import models
models.manifest()
models.resources = SimpleNamespace(files=lambda _: Path(sys.argv[1]))
for scale in (2, vsr.Size(width=200)):
    for precision in ("float32", "int8"):
        try:
            vsr.Upscaler("espcn", scale, vsr.Execution(backend="openvino", precision=precision))
        except vsr.WeightsError as error:
            print(error)
"""


@BYTES
def test_damage_of_shipped_weights_is_told_before_the_first_frame(tmp_path: Path) -> None:
    for file in (Path(__file__).parents[2] / "weights").glob("espcn_x?*.safetensors"):
        content = bytearray(file.read_bytes())
        content[-1] ^= file.stem.endswith(("x2", "x2.int8"))
        (tmp_path / file.name).write_bytes(content)
    told = run(NO_TORCH + DAMAGED, str(tmp_path), cache=tmp_path).splitlines()
    assert told == [
        f"{tmp_path / name} is damaged, or not the file that was shipped: install the package again"
        for name in ("espcn_x2.safetensors", "espcn_x2.int8.safetensors") * 2
    ]


def test_weights_in_8_bits_have_their_own_name() -> None:
    def key(*, quantized: bool) -> str:
        _, source = find_sources(find_model("espcn"), 2, None, "clean", quantized=quantized)[2]
        assert source.key is not None
        return source.key

    row = manifest()["espcn_x2"]
    assert row["sha256"] in key(quantized=False)
    assert row["int8"]["sha256"] in key(quantized=True)


@pytest.mark.parametrize(
    "file", ["models/layers.py", "models/convert/files.py", "backends/tracing.py", "kernels/color.py"]
)
def test_other_code_is_traced_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    sources = graphs._sources.__wrapped__
    for room in ("models", "backends", "kernels"):
        shutil.copytree(graphs._folder(room), tmp_path / room)
    shutil.copy(graphs._PACKAGE / "__init__.py", tmp_path)  # where the package's version is
    monkeypatch.setattr(graphs, "_PACKAGE", tmp_path)
    before, times = sources(), (tmp_path / file).stat()
    assert before == sources() is not None
    (tmp_path / "backends/.#tracing.py").symlink_to("nobody@nowhere.1234")  # as Emacs does
    assert sources() == before
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-2] + b"\t\n")
    os.utime(tmp_path / file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sources() not in (before, None)
    (tmp_path / file).unlink()
    (tmp_path / file).symlink_to("gone.py")  # as one that is removed between listing and reading
    assert sources() is None
    (tmp_path / file).unlink()
    assert (sources() is None) == (file == "__init__.py")  # which was alone in its folder
    shutil.rmtree(tmp_path / "models")
    assert sources() is None


def test_where_changes_of_the_code_cannot_be_told_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_sources", lambda: None)
    enlarged(tmp_path)
    assert not kept(tmp_path)


def test_another_openvino_or_machine_makes_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(path: str, **_: object) -> None:
        for suffix in (".xml", ".bin"):
            Path(path).with_suffix(suffix).write_bytes(b"x")

    def read(openvino: str = "1") -> Any:
        return GraphCache(tmp_path, openvino).read("key", lambda *parts: parts)

    GraphCache(tmp_path, "1").write("key", "words", save, 1)
    assert read() == ((b"x", b"x"), None, 1)
    assert read("2") is None
    monkeypatch.setattr(platform, "machine", lambda: "another")
    assert read() is None


_LIGHT = ("espcn", "fsrcnn-s", "fsrcnn", "srcnn")


@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=() if row["model"] in _LIGHT else pytest.mark.slow) for key, row in manifest().items()],
)
def test_the_manifest_says_whether_flat_areas_stay_flat_in_bfloat16(key: str) -> None:
    row = manifest()[key]
    spec, module = read_model(row["model"], row["scale"], tuned_for=row.get("tuned_for", "clean"))
    assert row["stays_flat"] is rounding.stays_flat(module, spec)


def test_the_default_precision_is_known_without_the_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(OpenVINOBackend, "fast_bfloat16", lambda _: True)
    monkeypatch.setattr(rounding, "stays_flat", lambda *_: pytest.fail("the manifest says it"))
    for model, precision in (("espcn", "bfloat16"), ("fsrcnn", "float32")):
        with Upscaler(model, 2, Execution(backend="openvino", cache_dir=tmp_path)) as upscaler:
            assert upscaler.precision == precision


def test_features_are_those_that_torch_finds() -> None:
    import torch

    known = {name for name, there in torch.cpu.get_capabilities().items() if there is True}
    for name in ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"):
        assert (name in features()) == (name in known), name
