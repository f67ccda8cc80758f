"""`--resume` and `vsr segments`, with processes that are really killed."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import filelock
import pytest

from tests.cli.warm import Command
from tests.stream.conftest import Nearest, frame_times, packets
from tests.stream.test_segments import frames
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.models import NetworkSpec
from vsr_plugin.stream import Progress, Selection, upscale_file

# A network that is slow enough to be killed in the middle, on frames that are small enough to be done soon.
_HOW = ["-m", "espcn", "-x", "2", "--backend", "eager", "--precision", "float32", "-c", "ffv1", "--segment", "1"]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three seconds with a key frame in each, and sound."""
    return _make_film(tmp_path, 25)


def _make_film(folder: Path, rate: int) -> Path:
    source = f"-f lavfi -i testsrc2=s=64x48:r={rate}:d=3 -f lavfi -i sine=440:d=3 -c:a aac -c:v libx264 -bf 2 -g {rate}"
    command = ["ffmpeg", "-v", "error", "-threads", "1", *source.split(), "-preset", "ultrafast", "film.mkv"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "film.mkv"


def say(*words: str, folder: Path, code: int = 0, **how: Any) -> tuple[str, str]:
    """What a command says on standard output and standard error."""
    with Command(*words, folder=folder, **how) as command:
        assert command.wait() == code, command.stderr
        return command.stdout, command.stderr


def _wait_at_part(number: int) -> None:
    """Let a command wait for minutes before it puts a part in its place: no machine is too fast for it to be killed."""

    def wait(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(arguments[1]).match(f"{number:05}-*.part"):
            time.sleep(300)

    sys.addaudithook(wait)


def _run_until_parts(folder: Path, parts: int, number: int) -> str:
    """Start, and stop by a signal when so many parts are there; what was said."""
    words = ["vsr-encode", "film.mkv", *_HOW, "-o", "out.mkv", "--resume"]
    with Command(*words, folder=folder, prepare=partial(_wait_at_part, parts)) as command:
        while len(list(folder.glob("out.mkv.parts/0*.part"))) < parts and command.code is None:
            time.sleep(0.01)
        command.send(number)
        assert command.wait() in (130, -number)
        return command.stderr


def test_a_killed_command_goes_on_where_it_was(film: Path) -> None:
    folder = film.parent
    say("vsr-encode", "film.mkv", *_HOW[:-2], "-o", "whole.mkv", folder=folder)
    _run_until_parts(folder, 1, signal.SIGKILL)
    there = list(folder.glob("out.mkv.parts/0*.part"))
    assert there
    assert not (folder / "out.mkv").exists()

    listed, said = say("vsr", "segments", "film.mkv", folder=folder)
    assert len(listed.splitlines()) == 3, "cut as the interrupted job has cut it"
    assert sum(line.endswith("done") for line in listed.splitlines()) == len(there)
    assert len(say("vsr", "segments", "film.mkv", "--segment", "2", folder=folder)[0].splitlines()) < 3
    assert f"out.mkv.parts: {len(there)} of 3 segments are done" in said
    told = json.loads(say("vsr", "segments", "film.mkv", "--segment", "1", "--json", folder=folder)[0])
    assert [row["frames"] for row in told["segments"]] == [25] * 3
    assert told["interrupted"][0]["done"] == len(there)

    _, said = say("vsr-encode", "film.mkv", *_HOW, "-o", "out.mkv", "--resume", folder=folder)
    assert f"{len(there)} of 3 segments are there: going on" in said
    assert "film.mkv: joining 3 segments" in said
    assert f"75 frames, {25 * len(there)} of them from before" in said
    assert frames(folder / "out.mkv") == frames(folder / "whole.mkv")
    assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(film: Path) -> None:
    said = _run_until_parts(film.parent, 1, signal.SIGINT).splitlines()
    assert "of 3 segments are kept in out.mkv.parts: run it again to go on" in said[-2]
    assert said[-1] == "Stopped: out.mkv was not finished, and the same command goes on"
    say("vsr", "segments", "film.mkv", "--clear", folder=film.parent)
    assert [file.name for file in film.parent.iterdir()] == ["film.mkv"]


def test_other_settings_are_said_and_fresh_begins_anew(film: Path) -> None:
    _run_until_parts(film.parent, 1, signal.SIGKILL)
    other = ["vsr-encode", "film.mkv", *_HOW, "-o", "out.mkv", "-e", "slices=4"]
    _, said = say(*other, "--resume", folder=film.parent, code=1)
    assert said.splitlines()[-1].startswith("Error: out.mkv.parts has parts of another job: options")
    assert said.endswith(": add --fresh to start over\n")
    say(*other, "--fresh", folder=film.parent)
    assert len(frame_times(film.parent / "out.mkv")) == 75


@pytest.mark.parametrize("words", [["-o", "-"], ["-o", "%04d.png"], ["-o", "out.mkv", "-e", "b=2M", "-c", "libx264"]])
def test_what_cannot_be_resumed_is_refused_before_any_work(words: list[str], film: Path) -> None:
    _, said = say("vsr-encode", "film.mkv", *words, "--resume", folder=film.parent, code=2)
    assert len(said.splitlines()) == 1
    assert [file.name for file in film.parent.iterdir()] == ["film.mkv"]


def test_a_job_of_other_frames_is_listed_with_what_it_has_done(tmp_path: Path) -> None:
    fields = "-f lavfi -i testsrc2=s=64x48:r=50:d=3 -vf tinterlace=interleave_top -flags +ilme+ildct -g 12 film.mkv"
    subprocess.run(["ffmpeg", "-v", "error", *fields.split()], cwd=tmp_path, check=True)

    def stop(done: Progress) -> None:
        if done.frame == 60:
            raise InterruptedError

    spec = NetworkSpec(name="nearest", overlap={2: 0})
    with (
        Upscaler.from_module(Nearest(2), spec, 2, Execution(backend="eager", device="cpu")) as nearest,
        pytest.raises(InterruptedError),
    ):
        upscale_file(
            tmp_path / "film.mkv",
            tmp_path / "out.mkv",
            nearest,
            Selection(start=Fraction(1, 2), deinterlace=True),
            encoding="ffv1",
            resume=True,
            segment_length=Fraction(1),
            on_progress=stop,
        )
    listed, said = say("vsr", "segments", "film.mkv", folder=tmp_path)
    assert listed.splitlines()[0].endswith("done")
    assert sum(line.endswith("done") for line in listed.splitlines()) == 2
    assert "2 of 3 segments are done" in said
    whole = ["vsr-encode", "film.mkv", "-o", "out.mkv", "--deinterlace", "-n", "1", "--backend", "eager"]
    assert "out.mkv.parts is left of an interrupted job: --resume goes on" in say(*whole, folder=tmp_path)[1]
    assert list(tmp_path.glob("out.mkv.parts/*.part"))
    (tmp_path / "other.mkv.parts").mkdir()
    for part in tmp_path.glob("out.mkv.parts/*"):
        (tmp_path / "other.mkv.parts" / part.name).write_bytes(part.read_bytes())
    say("vsr", "segments", "film.mkv", "-o", "other.mkv", "--clear", folder=tmp_path)
    assert [folder.name for folder in tmp_path.glob("*.parts")] == ["out.mkv.parts"], "of another output"
    say(*whole, "-y", "--fresh", folder=tmp_path)
    assert not list(tmp_path.glob("*.parts")), "what is too short to be cut begins anew, too"


@pytest.mark.parametrize(
    ("words", "segments", "why"),
    [
        (["-n", "45"], 2, None),
        (["-n", "30"], 1, "what is taken of it is too short for two segments"),
        (["-o", "out.avi", "-c", "ffv1"], 3, "ffv1 in avi counts its frames"),
        (["-c", "mpeg4"], 3, "mpeg4 in matroska counts its frames"),
    ],
)
def test_a_film_is_listed_as_it_would_be_cut(words: list[str], segments: int, why: str | None, film: Path) -> None:
    words = ["vsr", "segments", "film.mkv", "--segment", "1", "--json", *words]
    told = json.loads(say(*words, folder=film.parent)[0])
    assert len(told["segments"]) == segments
    assert told["one_because"] == why


def test_images_have_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    images = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:d=2", "%02d.png"]
    subprocess.run(images, cwd=tmp_path, check=True)
    words = ["vsr", "segments", "%02d.png", "--segment", "1", "--frame-rate", "10", "--json"]
    told = json.loads(say(*words, folder=tmp_path)[0])
    assert [row["start"] for row in told["segments"][:4]] == [0, 1, 2, 3]
    assert told["one_because"] is None


def test_images_are_listed_as_a_film(tmp_path: Path) -> None:
    images = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:d=2", "%02d.png"]
    subprocess.run(images, cwd=tmp_path, check=True)
    listed, _ = say("vsr", "segments", "%02d.png", "--segment", "1", folder=tmp_path)
    assert sum(int(line.split()[-2]) for line in listed.splitlines()) == 50
    assert len(listed.splitlines()) > 1


def _done(folder: Path) -> set[tuple[str, int, int]]:
    """The parts that are whole, and when they were made."""
    found = set()
    for file in folder.glob("out.mkv.parts/0*.part"):
        with suppress(FileNotFoundError):
            status = file.stat()
            found.add((file.name, status.st_ino, status.st_mtime_ns))
    return found


def begun(folder: Path) -> int:
    """How many parts were being made when a process was killed: they are made a second time."""
    return len(list(folder.glob("out.mkv.parts/.0*.part.*.tmp")))


def _die_when_placed() -> None:
    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "os.remove" or not Path(arguments[0]).match("00001-*.part"):
            return
        if Path(arguments[0]).with_name("result.json").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        ([], 0, "out.mkv was whole already when an earlier call was stopped"),
        (["-y"], 0, "out.mkv was whole already when an earlier call was stopped"),
        (["--fresh"], 1, "Error: out.mkv exists: add -y to overwrite it"),
        (["--skip-existing"], 0, "1 of 1 outputs exist and are skipped"),
        (["-e", "slices=4"], 1, "Error: out.mkv exists: add -y to overwrite it"),
        (["-n", "5"], 1, "Error: out.mkv exists: add -y to overwrite it"),
    ],
)
def test_a_film_that_is_whole_but_for_its_segments_is_seen_to_be(
    more: list[str], code: int, told: str, film: Path
) -> None:
    folder = film.parent
    words = ["vsr-encode", "film.mkv", *_HOW, "-o", "out.mkv", "--resume"]
    say(*words, folder=folder, code=-signal.SIGKILL, prepare=_die_when_placed)
    placed = (folder / "out.mkv").stat()
    _, said = say(*words, *more, "--json", folder=folder, code=code)
    assert told in said
    assert ("75 frames, 75 of them from before" in said) == ("whole already" in told)
    assert (folder / "out.mkv").stat().st_mtime_ns == placed.st_mtime_ns
    assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv"}


_KILLS = 10  # of each of the tests, which are 21


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 21))])
def test_a_film_survives_kills_at_any_moment(seed: int, tmp_path: Path) -> None:
    folder = _make_film(tmp_path, 8).parent
    say("vsr-encode", "film.mkv", *_HOW[:-2], "-o", "whole.mkv", folder=folder)
    whole = frames(folder / "whole.mkv"), packets(folder / "whole.mkv", "a:0")
    words = ["vsr-encode", "film.mkv", *_HOW, "-o", "out.mkv", "--resume"]

    def run(seconds: float) -> int | None:
        with Command(*words, folder=folder) as command:
            return command.wait(seconds)

    began = time.monotonic()
    say(*words, folder=folder)
    longest = time.monotonic() - began
    (folder / "out.mkv").unlink()
    chance = random.Random(seed)
    killed = finished = twice = 0
    while killed < _KILLS:
        before = _done(folder)
        code = run(chance.uniform(0, longest * 1.1))
        killed += code is None
        twice += begun(folder)
        assert begun(folder) <= 2, "one is decoded and enlarged, and the encoder of the one before ends"
        if (folder / "out.mkv").exists():
            finished += 1
            assert (frames(folder / "out.mkv"), packets(folder / "out.mkv", "a:0")) == whole
            assert code is None or code == 0
            if code is None:  # the folder may be left; the same command removes it
                known = (folder / "out.mkv.parts" / "result.json").exists()
                say(*words, folder=folder, code=0 if known else 1)
            assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}
            (folder / "out.mkv").unlink()
        else:
            assert before <= _done(folder), "what is done is never done again"
    say(*words, folder=folder)
    assert (frames(folder / "out.mkv"), packets(folder / "out.mkv", "a:0")) == whole
    assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}
    print(f"{killed} kills, {finished} films, {twice} segments were begun again, {longest:.2f} s a film")


@pytest.mark.parametrize(("share", "kept"), [(0.7, 3), (0.1, 0)], ids=["when they are joined", "at the first part"])
def test_a_full_disk_loses_nothing(share: float, kept: int, film: Path) -> None:
    folder = film.parent
    words = ["vsr-encode", "film.mkv", *_HOW, "-o", "out.mkv"]
    say("vsr-encode", "film.mkv", *_HOW[:-2], "-o", "whole.mkv", folder=folder)
    size = int((folder / "whole.mkv").stat().st_size * share)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    _, said = say(*words, "--resume", folder=folder, code=1, prepare=limit)
    lines = [line for line in said.splitlines() if "out.mkv" in line and "rounded" not in line]
    assert lines[-1].startswith("Error: Cannot write ")
    assert "File too large" in lines[-1]
    assert len(lines) == (2 if kept else 1)
    assert not (folder / "out.mkv").exists()
    assert len(list(folder.glob("out.mkv.parts/*.part"))) == kept
    _, said = say(*words, "--resume", folder=folder)
    assert ("3 of 3 segments are there" in said) == bool(kept)
    assert frames(folder / "out.mkv") == frames(folder / "whole.mkv")
    assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}


def test_redirected_input_is_one_segment(film: Path) -> None:
    _, said = say("vsr-encode", "-", "-o", "out.mkv", *_HOW, "--resume", folder=film.parent, streams={0: film})
    assert "standard input is not cut, because it can be read only once: nothing is kept" in said
    assert len(frame_times(film.parent / "out.mkv")) == 75


def test_an_address_is_one_segment(film: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=film.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/film.mkv"
        _, said = say("vsr-encode", address, "-o", "out.mkv", *_HOW, "--resume", folder=film.parent)
        server.shutdown()
    assert "film.mkv is not cut, because nothing tells whether an address has changed" in said
    assert len(frame_times(film.parent / "out.mkv")) == 75


def test_a_folder_that_cannot_be_written_is_one_line(film: Path) -> None:
    _, said = say("vsr-encode", "film.mkv", *_HOW, "-o", "/proc/out.mkv", "--resume", folder=film.parent, code=1)
    assert [line for line in said.splitlines() if "/proc" in line] == said.splitlines()[-1:]
    assert said.splitlines()[-1].startswith("Error: Cannot write to /proc")


def test_what_is_left_of_a_removed_folder_is_removed(film: Path) -> None:
    folder = film.parent
    words = ["vsr-encode", "film.mkv", *_HOW, "-o", "out.mkv", "--resume"]
    say(*words, folder=folder)
    parts = folder / "out.mkv.parts"
    for left in ((), ("lock",)):
        parts.mkdir()
        for name in left:
            (parts / name).touch()
        say(*words, folder=folder, code=1)
        assert not parts.exists()


def test_folders_keep_their_tree_and_what_is_done_is_skipped(film: Path) -> None:
    folder = film.parent
    (folder / "in" / "sub").mkdir(parents=True)
    for name in ("in/a.mkv", "in/sub/b.mkv"):
        (folder / name).write_bytes(film.read_bytes())
    words = ["vsr-encode", "-o", "out", "in", *_HOW, "--resume", "--skip-existing"]
    with Command(*words, folder=folder, prepare=partial(_wait_at_part, 1)) as command:
        while not list(folder.glob("out/**/*.parts/0*.part")) and command.code is None:
            time.sleep(0.01)
        command.send(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
    say(*words, folder=folder)
    results = {Path("out/a_espcn_x2.mkv"), Path("out/sub/b_espcn_x2.mkv")}

    def found() -> set[Path]:
        return {file.relative_to(folder) for file in folder.glob("out/**/*") if file.name != "sub"}

    assert found() == results
    for file in results:
        assert len(frame_times(folder / file)) == 75
    (folder / "out/a_espcn_x2.mkv").unlink()
    say(*words, folder=folder, code=-signal.SIGKILL, prepare=_die_when_placed)
    assert len(list(folder.glob("out/**/*.parts"))) == 1
    _, said = say(*words, folder=folder)
    assert said == "2 of 2 outputs exist and are skipped\n"
    assert found() == results, "what a kill has left of a film that is whole is removed"


def test_a_job_that_runs_is_not_cleared(film: Path) -> None:
    folder = film.parent
    _run_until_parts(folder, 1, signal.SIGKILL)
    with filelock.FileLock(folder / "out.mkv.parts" / "lock"):
        _, said = say("vsr", "segments", "film.mkv", "--clear", folder=folder, code=1)
    assert said == "Error: out.mkv.parts is in use: another process makes the file\n"
    assert list(folder.glob("out.mkv.parts/*.part"))


def _keep_parts() -> None:
    unlink = Path.unlink

    def fail(file: Path, **how: Any) -> None:
        if file.parent.name == "a.mkv.parts" and file.suffix == ".part":
            raise OSError(errno.EIO, "Input/output error", str(file))
        unlink(file, **how)

    setattr(Path, "unlink", fail)  # noqa: B010 - as types have it, a method stays


def test_what_cannot_be_removed_is_said_and_the_rest_is_removed(film: Path) -> None:
    folder = film.parent
    _run_until_parts(folder, 1, signal.SIGKILL)
    for name in ("a", "b"):
        shutil.copytree(folder / "out.mkv.parts", folder / f"{name}.mkv.parts")
    (folder / "b.mkv.parts" / "notes.txt").touch()
    _, said = say("vsr", "segments", "film.mkv", "--clear", folder=folder, code=1, prepare=_keep_parts)
    assert said.splitlines() == [
        "Removed out.mkv.parts",
        "Error: Cannot remove a.mkv.parts (Input/output error), b.mkv.parts (Directory not empty)",
    ]
    say("vsr", "segments", "film.mkv", "--clear", folder=folder)  # it still knows whose they are
    assert [file.name for file in folder.glob("*.parts/*")] == ["notes.txt"]


def _hide_ray() -> None:
    sys.modules["ray"] = None  # type: ignore[assignment] # as the import system has it


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--workers", "0"], 2, "Expected --workers as a number of 1 or more, or gpus, got '0'"),
        (["--workers", "many"], 2, "Expected --workers as a number of 1 or more, or gpus, got 'many'"),
        (["--cluster", "somewhere"], 2, "Expected --cluster auto, ray://HOST:10001 or HOST:6379, got 'somewhere'"),
        (["--ship"], 2, "Expected --workers or --cluster with --ship, got neither"),
        (["--workers", "2"], 1, "Workers need Ray, which is not installed: "),
        (["--cluster", "auto"], 1, "Workers need Ray, which is not installed: "),
    ],
)
def test_workers_that_cannot_be_are_refused_before_any_work(
    words: list[str], code: int, expected: str, film: Path
) -> None:
    _, said = say("vsr-encode", "film.mkv", *words, folder=film.parent, code=code, prepare=_hide_ray)
    assert said.startswith(f"Error: {expected}")
    assert len(said.splitlines()) == 1
    assert [file.name for file in film.parent.iterdir()] == ["film.mkv"]
