"""A file is complete or not there, a bad one is not used, and the folder stays as small as it should."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vsr_plugin.backends.cache import COMPILED, ENGINE, GRAPH, TIMING, Cache, clear, default_folder, entries
from vsr_plugin.backends.tensorrt import Profile
from vsr_plugin.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vsr_plugin.backends.tensorrt import Shape

KEY = "a" * 64
NAME = f"{KEY}_1x1x8x8-1x1x8x8{ENGINE}"


def keep(cache: Cache, smallest: Shape, largest: Shape, content: bytes) -> None:
    assert cache.write(f"{KEY}_{Profile(smallest, largest).name}{ENGINE}", "espcn ×3", content)


def found(folder: Path, shape: Shape) -> bytes | None:
    file = Cache(folder).find(KEY, shape)
    return None if file is None else file.content


def test_the_smallest_engine_that_takes_the_shape_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for side in (1080, 540, 200):
        keep(cache, (1, 1, 16, 16), (4, 1, side, side), str(side).encode())
    assert found(tmp_path, (1, 1, 270, 480)) == b"540"
    assert found(tmp_path, (1, 1, 600, 600)) == b"1080"
    assert found(tmp_path, (5, 1, 270, 480)) is None  # more at a time than any of them takes
    keep(cache, (1, 1, 16, 16), (1, 1, 2000, 2000), b"2000")  # fewer at a time, but larger
    assert found(tmp_path, (1, 1, 540, 540)) == b"540"
    keep(cache, (1, 1, 540, 540), (4, 1, 540, 540), b"exact")
    assert found(tmp_path, (1, 1, 540, 540)) == b"exact"
    (tmp_path / f"{KEY}_strange{ENGINE}").touch()
    assert Cache(tmp_path).find("b" * 64, (1, 1, 270, 480)) is None


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-1],
    "cut in the digest": lambda data: data[:40],
    "corrupted": lambda data: data[:-3] + b"?" + data[-2:],
    "of a version to come": lambda data: data.replace(b"cache 3", b"cache 4"),
    "corrupted in the words": lambda data: data.replace(b"espcn", b"edsr."),
    "foreign": lambda data: b"\x7fELF" + bytes(1000),
    "longer": lambda data: data + b"x",
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_is_told_and_removed(how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / NAME
    Cache(tmp_path).write(NAME, "espcn", b"an engine\nof two lines")
    assert found(tmp_path, (1, 1, 8, 8)) == b"an engine\nof two lines"
    path.write_bytes(BAD[how](path.read_bytes()))
    assert [entry.what for entry in entries(tmp_path)] == ["damaged"]
    assert found(tmp_path, (1, 1, 8, 8)) is None
    assert caplog.messages == [f"{path} is damaged, or not a file of this program: making it again"]
    assert not path.exists()


@pytest.mark.parametrize("ending", [ENGINE, TIMING, COMPILED])
def test_a_file_under_anothers_name_is_removed(ending: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(f"{'a' * 64}{ending}", "", b"content")
    other = (tmp_path / f"{'a' * 64}{ending}").rename(tmp_path / f"{'b' * 64}{ending}")
    assert cache.read(other.name) is None
    assert not other.exists()


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    Cache(tmp_path).write(NAME, "", b"before")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).write(NAME, "", b"after")
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert found(tmp_path, (1, 1, 8, 8)) == b"before"


def test_the_files_that_were_not_used_for_longest_are_removed(tmp_path: Path) -> None:
    (tmp_path / "mine.engine").write_bytes(bytes(3_000_000))
    names = [f"{letter * 64}{ENGINE}" for letter in "abcdef"]
    cache = Cache(tmp_path, megabytes=1)
    for age, name in enumerate(names[:4]):
        cache.write(name, "", bytes(300_000))
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    assert not (tmp_path / names[0]).exists()  # with the fourth, there were more than a megabyte
    assert cache.read(names[1]) is not None  # and so it is used
    cache.write(names[4], "", bytes(300_000))
    assert {path.name for path in tmp_path.iterdir()} == {"mine.engine", names[1], names[3], names[4]}
    cache.write(names[5], "", bytes(2_000_000))  # too large by itself, but it is needed now
    assert {path.name for path in tmp_path.iterdir()} == {"mine.engine", names[5]}


@pytest.mark.parametrize("rest", [b"", b"one line", b"\xff\nwords\n", NAME.encode() + b"\n\xff\xfe\n"])
def test_a_whole_file_of_other_lines_is_damaged(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"vsr_plugin cache 3\n" + sha256(rest).hexdigest().encode() + b"\n" + rest)
    assert [entry.what for entry in entries(tmp_path)] == ["damaged"]
    assert Cache(tmp_path).read(NAME) is None
    assert not path.exists()


def test_graphs_and_engines_do_not_remove_each_other(tmp_path: Path) -> None:
    engines, graphs = ([f"{letter * 64}{kind}" for letter in "abc"] for kind in (ENGINE, GRAPH))
    for names in zip(engines, graphs, strict=True):
        for name in names:
            Cache(tmp_path, megabytes=10).write(name, "", bytes(300_000))
    small = Cache(tmp_path, megabytes=1)
    small.write(f"{'d' * 64}{GRAPH}", "", bytes(300_000))
    assert sorted(path.name for path in tmp_path.glob(f"*{ENGINE}")) == engines
    assert len(list(tmp_path.glob(f"*{GRAPH}"))) == 3
    small.write(f"{'d' * 64}{ENGINE}", "", bytes(900_000))
    assert [path.name for path in tmp_path.glob(f"*{ENGINE}")] == [f"{'d' * 64}{ENGINE}"]
    assert len(list(tmp_path.glob(f"*{GRAPH}"))) == 3


def test_a_full_disk_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    cache = Cache(tmp_path)
    assert not cache.write("one.engine", "", b"engine")
    assert not cache.write("two.engine", "", b"engine")
    assert list(tmp_path.iterdir()) == []
    assert caplog.messages == [
        f"engines cannot be kept in {tmp_path} (No space left on device): they are built anew each time"
    ]


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A folder that only its permissions protect would not stop a test that runs as root.
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file" / "engines")
    with cache.lock():
        assert cache.find(KEY, (1, 1, 8, 8)) is None
        assert not cache.write("one.engine", "", b"engine")
        cache.drop("one.engine")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


BUILDER = """
import os, sys, time
from pathlib import Path
from vsr_plugin.backends.cache import Cache
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
        cache.write("one.engine", "", b"engine")
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

    logger = logging.getLogger("vsr_plugin.backends.cache")
    handler = Patient()
    logger.addHandler(handler)
    try:
        with Cache(tmp_path).lock():
            pass
    finally:
        logger.removeHandler(handler)
        other.communicate()
    assert caplog.messages == [f"another process builds an engine in {tmp_path}: waiting for it"]


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VSR_CACHE_DIR", str(tmp_path / "named"))
    assert default_folder() == tmp_path / "named"
    monkeypatch.delenv("VSR_CACHE_DIR")
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_folder() == tmp_path / "vsr_plugin" / "engines"
    assert default_folder().is_absolute()


def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no entry in /etc/passwd."""
    import pwd

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "VSR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems know a folder otherwise")
def test_without_a_home_directory_one_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vsr_plugin.backends.tensorrt import backend

    homeless(monkeypatch)
    monkeypatch.setattr(backend, "find_flavor", lambda **_: None)
    with pytest.raises(UsageError, match=r"a folder for the cache in VSR_CACHE_DIR.*: use cache_dir='FOLDER'"):
        backend.TensorRTBackend()
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache"))  # of older versions
    with pytest.raises(UsageError, match="a folder for the cache"):
        default_folder()
    assert backend.TensorRTBackend(tmp_path).cache.folder == tmp_path


def test_the_listing_knows_our_files_and_openvinos_and_leaves_others(tmp_path: Path) -> None:
    Cache(tmp_path).write(NAME, "espcn ×3, 8×8", b"engine")
    os.utime(tmp_path / NAME, (1000, 1000))
    Cache(tmp_path).write(f"{KEY}{COMPILED}", "espcn ×3", b"kernels")
    (tmp_path / "1234567890.blob").write_bytes(b"network")
    (tmp_path / "0123456789abcdef.part").write_bytes(b"half")
    strangers = [tmp_path / name for name in ("mine.engine", "holiday.blob", "song.part", "notes.txt", "build.lock")]
    for stranger in strangers:
        stranger.write_text("somebody's")
    listed = entries(tmp_path)
    assert (listed[-1].path.name, listed[-1].what) == (NAME, "espcn ×3, 8×8")  # the oldest
    assert sorted(entry.kind for entry in listed) == [
        "OpenVINO network", "compiled at run time", "engine", "unfinished",
    ]  # fmt: skip
    assert clear(tmp_path) == (4, sum(entry.size for entry in listed))
    assert sorted(tmp_path.iterdir()) == sorted(strangers)
    assert entries(tmp_path / "nowhere") == []
    assert clear(tmp_path / "nowhere") == (0, 0)


def test_files_that_vanish_and_folders_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(tmp_path).write(NAME, "", b"engine")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    (tmp_path / "0123456789abcdef.part").symlink_to(tmp_path / "gone")  # as one that is renamed at this moment
    assert [entry.kind for entry in entries(tmp_path)] == ["engine"]

    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=f"Cannot read {tmp_path}: Permission denied"):
        entries(tmp_path)
