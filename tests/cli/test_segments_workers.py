"""`--workers` and `--cluster`, with a real Ray, and processes that are really killed."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import PATIENCE
from tests.stream.test_segments import frames
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.stream import upscale_file

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_time")]

_RAY = str(Path(sys.executable).with_name("ray"))
_HOW = ["-m", "espcn", "--backend", "eager", "--precision", "float32", "-c", "ffv1"]
ENCODE = [sys.executable, "-c", "from vsr_plugin.cli import main_encode; main_encode()"]
_RESUMED = [*ENCODE, "film.mkv", *_HOW, "-o", "out.mkv", "--segment", "1"]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray has its files, by a short name, for sockets are among them; ``tmp`` there is for all others."""
    with TemporaryDirectory(prefix="ray") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("TMPDIR", f"{folder}/tmp")
        monkeypatch.delenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV")  # which `Cluster` has to set by itself
        (Path(folder) / "tmp").mkdir()
        yield Path(folder)


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve seconds with a key frame in each, and whole.mkv, which becomes of it in one go."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    source = "-f lavfi -i testsrc2=s=160x96:r=25:d=12 -c:v libx264 -bf 2 -g 25 -preset ultrafast film.mkv"
    subprocess.run(["ffmpeg", "-v", "error", "-threads", "1", *source.split()], cwd=tmp_path, check=True)
    with Upscaler("espcn", 2, Execution(backend="eager", device="cpu", precision="float32")) as upscaler:
        upscale_file(tmp_path / "film.mkv", tmp_path / "whole.mkv", upscaler, encoding="ffv1")
    return tmp_path / "film.mkv"


def _check_whole(folder: Path) -> None:
    assert frames(folder / "out.mkv") == frames(folder / "whole.mkv")
    assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}


def _tree(above: int) -> dict[int, str]:
    """A process and all below it, with their commands."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = {above}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: _command(pid) for pid in found}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _are_gone(processes: dict[int, str], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while left := [pid for pid, command in processes.items() if command and _command(pid) == command]:
        if time.monotonic() > until:
            print("still there:", left)
            return False
        time.sleep(0.1)
    return True


def _shared_memory() -> set[Path]:
    return set(Path("/dev/shm").iterdir())


def say(*words: str, folder: Path, code: int = 0) -> tuple[str, str]:
    """What a command says on standard output and standard error."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def _run_until_parts(folder: Path) -> tuple[subprocess.Popen[str], dict[int, str]]:
    """The command when three segments are done and both of its workers are there, and all its processes."""
    words = [*_RESUMED, "--workers", "2"]
    process = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True)
    while True:
        assert process.poll() is None, process.communicate()
        if len(list(folder.glob("out.mkv.parts/0*.part"))) >= 3:
            processes = _tree(process.pid)
            if sum("ray::Worker" in command for command in processes.values()) == 2:
                return process, processes
        time.sleep(0.01)


@pytest.mark.parametrize("whole_tree", [True, False], ids=["all processes", "the command alone"])
def test_killed_with_workers_the_same_command_goes_on(whole_tree: bool, film: Path, place: Path) -> None:
    before = _shared_memory()
    process, processes = _run_until_parts(film.parent)
    workers = [pid for pid, command in processes.items() if "ray::Worker" in command]
    assert len(workers) == 2
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in workers} == {own}, "no less of the processor than one go"
    told = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in workers]
    assert all(b"MALLOC_ARENA_MAX=2" in each for each in told), "they do not grow with the threads of every codec"
    for pid in processes if whole_tree else [process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    assert _are_gone(processes, 90)  # Ray's own agents look now and then whether the others are there
    done = len(list(film.parent.glob("out.mkv.parts/0*.part")))
    assert 3 <= done < 12
    _, said = say(*_RESUMED, "--workers", "2", folder=film.parent)
    assert f"{done} of 12 segments are there: going on" in said
    assert f"300 frames, {25 * done} of them from before" in said
    _check_whole(film.parent)
    assert _shared_memory() <= before
    assert not list((place / "tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_with_workers_all_processes_end(number: signal.Signals, film: Path, place: Path) -> None:
    before = _shared_memory()
    process, processes = _run_until_parts(film.parent)
    process.send_signal(number)
    said = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode == 130
    assert "of 12 segments are kept in out.mkv.parts: run it again to go on" in said[-2]
    assert said[-1] == "Stopped: out.mkv was not finished, and the same command goes on"
    assert _are_gone(processes, 5)
    assert _shared_memory() <= before
    assert not list((place / "tmp").iterdir())
    assert not list(place.glob("ray/session_2*")), "Ray's logs are removed"
    say(*_RESUMED, "--resume", folder=film.parent)  # without workers: who has made a part does not matter
    _check_whole(film.parent)


def test_under_uv_run_the_workers_are_started_as_ever(film: Path, place: Path) -> None:
    """Ray would start them through uv, in a copy of the folder, where nothing is installed."""
    script = film.with_name("run")
    script.write_text(shlex.join([*_RESUMED, "--workers", "1"]) + "\nexit $?\n")
    words = ["uv", "run"]  # Ray looks for a process above its own that is called so
    done = subprocess.run(
        words, executable="/bin/sh", cwd=film.parent, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    script.unlink()
    _check_whole(film.parent)


@pytest.fixture(scope="module")
def _head() -> Iterator[tuple[Path, str, str]]:
    """A cluster that asks for a token: where it has its files, the token, and its address for clients."""
    token = secrets.token_hex(32)
    with TemporaryDirectory(prefix="ray") as folder:
        place = Path(folder)
        environment = {**os.environ, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        environment["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
        environment["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # by which a forked server of clients may abort
        for _ in range(3):  # on a busy machine Ray may not come up within its minute
            with socket.socket() as one, socket.socket() as other:
                for free in (one, other):
                    free.bind(("127.0.0.1", 0))
                ports = one.getsockname()[1], other.getsockname()[1]
            words = f"start --head --block --port={ports[0]} --ray-client-server-port={ports[1]} --num-cpus=2 "
            words += "--object-store-memory=100000000 --include-dashboard=false --disable-usage-stats"
            with (place / "said").open("w") as said:
                process = subprocess.Popen([_RAY, *words.split()], stdout=said, stderr=said, env=environment)
            while "Ray runtime started" not in (text := (place / "said").read_text()) and process.poll() is None:
                time.sleep(0.1)
            if process.poll() is None:
                break
        assert process.poll() is None, text
        try:
            yield place, token, f"ray://127.0.0.1:{ports[1]}"
        finally:
            processes = _tree(process.pid)
            process.terminate()
            process.wait(PATIENCE)
            assert _are_gone(processes, PATIENCE)


@pytest.fixture
def head(_head: tuple[Path, str, str], place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The cluster's address, for a process that knows its token; what its servers log is shown where a test fails."""
    home, token, address = _head
    monkeypatch.setenv("RAY_TMPDIR", str(home))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield address
    for log in sorted(home.glob("ray/session_2*/logs/ray_client_server*")):
        print(f"--- {log.name}\n{log.read_text()}")


@pytest.mark.parametrize("words", [["auto"], ["ray://"], ["ray://", "--ship"]], ids=" ".join)
def test_a_cluster_is_found_by_its_address(words: list[str], film: Path, head: str) -> None:
    address = "auto" if words[0] == "auto" else head
    say(*_RESUMED, "--cluster", address, *words[1:], folder=film.parent)
    _check_whole(film.parent)


@pytest.mark.parametrize(
    ("mode", "token", "words"),
    [
        (None, "unchanged", "); if it asks for a token, "),
        ("token", "0" * 64, "); if it asks for a token, "),
        ("token", None, " (it asks for a token); "),
    ],
    ids=["no mode", "another token", "no token"],
)
def test_a_cluster_that_asks_for_a_token_is_one_line(
    mode: str | None, token: str | None, words: str, film: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(film.parent / "nowhere"))  # where Ray would find another token
    for name, value in (("RAY_AUTH_MODE", mode), ("RAY_AUTH_TOKEN", token)):
        if value is None:
            monkeypatch.delenv(name)
        elif value != "unchanged":
            monkeypatch.setenv(name, value)
    _, said = say(*_RESUMED, "--cluster", head, "-q", folder=film.parent, code=1)
    needs = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its first machine\n"
    assert said.startswith(f"Error: No Ray cluster at {head} (")
    assert said.endswith(words + needs)
    assert len(said.splitlines()) == 1
    assert {file.name for file in film.parent.iterdir()} == {"film.mkv", "whole.mkv"}
