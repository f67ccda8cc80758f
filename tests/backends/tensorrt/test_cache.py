"""An engine is found again exactly when nothing that it depends on has changed, and a bad file is no engine."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vsr_plugin.backends.tensorrt import Profile, Recipe, Target
from vsr_plugin.backends.tensorrt.cache import COMPILED, ENGINE, GRAPH, TIMING, Cache, default_folder, key
from vsr_plugin.backends.tensorrt.listing import clear, kept
from vsr_plugin.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (1, 1, 270, 480)
RECIPE = Recipe(
    weights="a" * 64,
    onnx="b" * 64,
    precision="float16",
    options=("strongly typed",),
    target=Target("tensorrt", "10.9", "8.9", "NVIDIA GeForce RTX 4090", "570.86", "linux"),
    profile=Profile(SHAPE, (4, 1, 270, 480), (4, 1, 270, 480)),
)
OTHERS = {
    "weights": replace(RECIPE, weights="c" * 64),
    "onnx": replace(RECIPE, onnx="c" * 64),
    "precision": replace(RECIPE, precision="float32"),
    "options": replace(RECIPE, options=("strongly typed", "no TF32")),
    "flavor": replace(RECIPE, target=replace(RECIPE.target, flavor="tensorrt_rtx")),
    "version": replace(RECIPE, target=replace(RECIPE.target, version="10.10")),
    "capability": replace(RECIPE, target=replace(RECIPE.target, capability="12.0")),
    "gpu": replace(RECIPE, target=replace(RECIPE.target, gpu="NVIDIA L4")),
    "driver": replace(RECIPE, target=replace(RECIPE.target, driver="575.1")),
    "system": replace(RECIPE, target=replace(RECIPE.target, system="win32")),
    "smallest": replace(RECIPE, profile=replace(RECIPE.profile, smallest=(1, 1, 16, 16))),
    "usual": replace(RECIPE, profile=replace(RECIPE.profile, usual=(2, 1, 270, 480))),
    "largest": replace(RECIPE, profile=replace(RECIPE.profile, largest=(8, 1, 270, 480))),
}


def keep(cache: Cache, recipe: Recipe, content: bytes) -> Path:
    name = f"{key(recipe)}{ENGINE}"
    assert cache.write(name, {"recipe": recipe.as_dict(), "model": "espcn", "scale": 3}, content)
    return cache.folder / name


def found(folder: Path, recipe: Recipe, shape: tuple[int, int, int, int] = SHAPE) -> bytes | None:
    sealed = Cache(folder).find(recipe, shape)
    return None if sealed is None else sealed.content


def test_every_field_of_a_recipe_is_changed_here() -> None:
    fields = {*Recipe.__slots__, *Target.__slots__, *Profile.__slots__} - {"target", "profile"}
    assert fields == set(OTHERS)


@pytest.mark.parametrize("changed", OTHERS)
def test_the_key_changes_with_everything_an_engine_depends_on(changed: str) -> None:
    assert key(OTHERS[changed]) != key(RECIPE)


def test_an_engine_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    path = keep(Cache(tmp_path), RECIPE, b"engine")
    Cache(tmp_path).write(path.name, {"recipe": RECIPE.as_dict(), "model": "another name", "scale": 2}, b"engine")
    assert found(tmp_path, RECIPE) == b"engine"


@pytest.mark.parametrize("changed", [name for name in OTHERS if name not in Profile.__slots__])
def test_an_engine_of_another_recipe_is_not_taken(changed: str, tmp_path: Path) -> None:
    keep(Cache(tmp_path), OTHERS[changed], b"another")
    assert found(tmp_path, RECIPE) is None


def test_an_engine_whose_profile_covers_the_shape_is_taken_the_smallest_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for side in (1080, 540, 200):
        profile = Profile((1, 1, 16, 16), (4, 1, side, side), (4, 1, side, side))
        keep(cache, replace(RECIPE, profile=profile), str(side).encode())
    assert found(tmp_path, RECIPE) == b"540"
    assert found(tmp_path, RECIPE, (1, 1, 600, 600)) == b"1080"
    assert found(tmp_path, RECIPE, (5, 1, 270, 480)) is None  # more at a time than any of them takes
    more = Profile((1, 1, 16, 16), (1, 1, 2000, 2000), (1, 1, 2000, 2000))  # fewer at a time, but larger
    keep(cache, replace(RECIPE, profile=more), b"2000")
    assert found(tmp_path, RECIPE) == b"540"
    keep(cache, RECIPE, b"exact")
    assert found(tmp_path, RECIPE) == b"exact"


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-1],
    "cut in the header": lambda data: data[:40],
    "corrupted": lambda data: data[:-3] + b"?" + data[-2:],
    "of a version to come": lambda data: data.replace(b"sealed 2", b"sealed 3"),
    "corrupted in the header": lambda data: data.replace(b'"scale": 3', b'"scale": 2'),
    "foreign": lambda data: b"\x7fELF" + bytes(1000),
    "foreign text": lambda data: b"vsr_plugin sealed 2\n" + b"0" * 64 + b"\n[1, 2]\nengine",
    "nested without end": lambda data: b"vsr_plugin sealed 2\n" + b"0" * 64 + b"\n" + b"[" * 60000 + b"\n",
    "longer": lambda data: data + b"x",
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_is_told_and_dropped(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = keep(Cache(tmp_path), RECIPE, b"an engine\nof two lines")
    path.write_bytes(BAD[how](path.read_bytes()))
    assert found(tmp_path, RECIPE) is None
    assert [record.message for record in caplog.records] == [
        f"{path} is damaged, or no file of this program: making it again"
    ]
    assert not path.exists()


@pytest.mark.parametrize("ending", [ENGINE, GRAPH, TIMING, COMPILED])
def test_a_file_under_anothers_name_is_dropped(ending: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(f"{'a' * 64}{ending}", {}, b"content")
    other = (tmp_path / f"{'a' * 64}{ending}").rename(tmp_path / f"{'b' * 64}{ending}")
    assert cache.read(other.name) is None
    assert not other.exists()


@pytest.mark.parametrize("recipe", [{}, None, {**RECIPE.as_dict(), "profile": {"smallest": "x"}}, "text"])
def test_a_strange_header_is_passed_by(recipe: object, tmp_path: Path) -> None:
    Cache(tmp_path).write(f"strange{ENGINE}", {"recipe": recipe}, b"engine")
    assert found(tmp_path, RECIPE) is None


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    keep(cache, RECIPE, b"before")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep(cache, RECIPE, b"after")
    assert [path.name for path in tmp_path.iterdir()] == [f"{key(RECIPE)}{ENGINE}"]
    assert found(tmp_path, RECIPE) == b"before"


def test_a_full_disk_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    cache = Cache(tmp_path)
    assert not cache.write("one.engine", {}, b"engine")
    assert not cache.write("two.engine", {}, b"engine")
    assert list(tmp_path.iterdir()) == []
    expected = f"engines cannot be kept in {tmp_path} (No space left on device): they are built anew each time"
    assert [record.message for record in caplog.records] == [expected]


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A folder that only its permissions protect would not stop a test that runs as root.
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file" / "engines")
    with cache.lock():
        assert cache.find(RECIPE, SHAPE) is None
        assert not cache.write("one.engine", {}, b"engine")
        cache.drop("one.engine")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


BUILDER = """
import os, sys, time
from pathlib import Path
from vsr_plugin.backends.tensorrt.cache import Cache
folder = Path(sys.argv[1])
cache = Cache(folder)
(folder / f"{os.getpid()}.here").touch()
with cache.lock():
    if cache.read("one.engine") is None:
        with (folder / "log").open("a") as log:
            log.write("built\\n")
        while len(list(folder.glob("*.here"))) < 3:  # until all would build
            time.sleep(0.05)
        time.sleep(0.3)
        cache.write("one.engine", {}, b"engine")
"""


def test_processes_at_once_build_once(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", BUILDER, tmp_path]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_waiting_for_another_process_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print('held'); input()"
    other = subprocess.Popen(
        [sys.executable, "-u", "-c", program, tmp_path / "build.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    other.stdout.readline()
    stdin = other.stdin

    class Patient(logging.Handler):
        """Lets the other go as soon as it is said that it is waited for."""

        def emit(self, record: logging.LogRecord) -> None:
            stdin.write(b"\n")
            stdin.flush()

    logger = logging.getLogger("vsr_plugin.backends.tensorrt.cache")
    handler = Patient()
    logger.addHandler(handler)
    try:
        with Cache(tmp_path).lock():
            pass
    finally:
        logger.removeHandler(handler)
        other.communicate()
    assert [record.message for record in caplog.records] == [
        f"another process builds an engine in {tmp_path}: waiting for it"
    ]


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_folder() == tmp_path / "vsr_plugin" / "engines"
    assert default_folder().is_absolute()


def test_the_listing_knows_our_files_and_openvinos_and_leaves_others(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    engine = keep(cache, RECIPE, b"engine")
    os.utime(engine, (time.time() - 60,) * 2)
    cache.write(f"{key(RECIPE)}{COMPILED}", {"engine": engine.name}, b"kernels")
    (tmp_path / "1234567890.blob").write_bytes(b"network")
    (tmp_path / "0123456789abcdef.part").write_bytes(b"half")
    (tmp_path / f"{'ab' * 32}.engine").write_bytes(b"noise")
    strangers = [tmp_path / name for name in ("mine.engine", "holiday.blob", "song.part", "notes.txt", "build.lock")]
    for stranger in strangers:
        stranger.write_text("somebody's")
    files = {file.path.name: file for file in kept(tmp_path)}
    assert list(files)[-1] == engine.name  # the oldest
    assert files[engine.name].what == (
        "espcn ×3, 480×270, up to 4 at a time, float16, tensorrt 10.9, NVIDIA GeForce RTX 4090, driver 570.86"
    )
    assert sorted(file.kind for file in files.values()) == [
        "OpenVINO network", "compiled at run time", "engine", "engine", "unfinished",
    ]  # fmt: skip
    assert files[f"{'ab' * 32}.engine"].what == "damaged"
    whole = engine.read_bytes()
    engine.write_bytes(whole[:-1])
    assert [file.what for file in kept(tmp_path) if file.path == engine] == ["damaged"]
    engine.write_bytes(whole)
    assert clear(tmp_path) == (5, sum(file.size for file in files.values()))
    assert sorted(tmp_path.iterdir()) == sorted(strangers)


def test_files_that_vanish_and_folders_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(Cache(tmp_path), RECIPE, b"engine")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    (tmp_path / "0123456789abcdef.part").symlink_to(tmp_path / "gone")  # as one that is renamed at this moment
    assert [file.kind for file in kept(tmp_path)] == ["engine"]

    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=f"Cannot read {tmp_path}: Permission denied"):
        kept(tmp_path)


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert kept(tmp_path / "nowhere") == []
    assert clear(tmp_path / "nowhere") == (0, 0)
