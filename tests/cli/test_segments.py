"""`--resume` and `vsr segments`, with processes that are really killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stream.conftest import frame_times
from tests.stream.test_segments import frames

_CODE = "import sys; from vsr_plugin.cli import {0}; {0}()"
ENCODE = [sys.executable, "-c", _CODE.format("main_encode")]
VSR = [sys.executable, "-c", _CODE.format("main")]
# A network that is slow enough to be killed in the middle, on frames that are small enough to be done soon.
_HOW = ["-m", "espcn", "-x", "2", "--backend", "eager", "--precision", "float32", "-c", "ffv1", "--segment", "1"]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three seconds with a key frame in each, and sound."""
    source = "-f lavfi -i testsrc2=s=64x48:r=25:d=3 -f lavfi -i sine=440:d=3 -c:a aac -c:v libx264 -bf 2 -g 25"
    command = ["ffmpeg", "-v", "error", "-threads", "1", *source.split(), "-preset", "ultrafast", "film.mkv"]
    subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path / "film.mkv"


def say(*words: str, folder: Path, code: int = 0) -> tuple[str, str]:
    """What a command says on standard output and standard error."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def _run_until_parts(folder: Path, parts: int, number: int) -> str:
    """Start, and stop by a signal when so many parts are there; what was said."""
    words = [*ENCODE, "film.mkv", *_HOW, "-o", "out.mkv", "--resume"]
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        while len(list(folder.glob("out.mkv.parts/*.json"))) < parts + 1 and process.poll() is None:  # and the manifest
            time.sleep(0.01)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode in (130, -number)
    return said


def test_a_killed_command_goes_on_where_it_was(film: Path) -> None:
    folder = film.parent
    say(*ENCODE, "film.mkv", *_HOW[:-2], "-o", "whole.mkv", folder=folder)
    _run_until_parts(folder, 1, signal.SIGKILL)
    there = sorted(file.name for file in folder.glob("out.mkv.parts/*.json"))[:-1]  # without the manifest
    assert there
    assert not (folder / "out.mkv").exists()

    listed, said = say(*VSR, "segments", "film.mkv", "--segment", "1", folder=folder)
    assert len(listed.splitlines()) == 3
    assert f"out.mkv.parts: {len(there)} of 3 segments are done" in said
    told = json.loads(say(*VSR, "segments", "film.mkv", "--segment", "1", "--json", folder=folder)[0])
    assert [row["frames"] for row in told["segments"]] == [25] * 3
    assert told["interrupted"][0]["done"] == len(there)

    _, said = say(*ENCODE, "film.mkv", *_HOW, "-o", "out.mkv", "--resume", folder=folder)
    assert f"{len(there)} of 3 segments are there: going on" in said
    assert frames(folder / "out.mkv") == frames(folder / "whole.mkv")
    assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(film: Path) -> None:
    said = _run_until_parts(film.parent, 1, signal.SIGINT).splitlines()
    assert "of 3 segments are kept in out.mkv.parts: the same call goes on from there" in said[-2]
    assert said[-1] == "Stopped: out.mkv was not finished"
    say(*VSR, "segments", "film.mkv", "--clear", folder=film.parent)
    assert [file.name for file in film.parent.iterdir()] == ["film.mkv"]


def test_other_settings_are_said_and_fresh_begins_anew(film: Path) -> None:
    _run_until_parts(film.parent, 1, signal.SIGKILL)
    other = [*ENCODE, "film.mkv", *_HOW, "-o", "out.mkv", "-e", "slices=4"]
    _, said = say(*other, "--resume", folder=film.parent, code=1)
    assert said.splitlines()[-1].startswith("Error: out.mkv.parts has parts of another job: settings, options")
    assert "--fresh" in said.splitlines()[-1]
    say(*other, "--fresh", folder=film.parent)
    assert len(frame_times(film.parent / "out.mkv")) == 75


@pytest.mark.parametrize("words", [["-o", "-"], ["-o", "%04d.png"], ["-o", "out.mkv", "-e", "b=2M", "-c", "libx264"]])
def test_what_cannot_be_resumed_is_refused_before_any_work(words: list[str], film: Path) -> None:
    _, said = say(*ENCODE, "film.mkv", *words, "--resume", folder=film.parent, code=2)
    assert len(said.splitlines()) == 1
    assert [file.name for file in film.parent.iterdir()] == ["film.mkv"]


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_a_film_survives_kills_at_any_moment(film: Path, kills: int) -> None:
    folder = film.parent
    say(*ENCODE, "film.mkv", *_HOW[:-2], "-o", "whole.mkv", folder=folder)
    chance = random.Random(kills)
    words = [*ENCODE, "film.mkv", *_HOW, "-o", "out.mkv", "--resume"]
    for _ in range(kills):
        with subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(2, 8))
            process.kill()
        if (folder / "out.mkv").exists():  # it was done: a killed process may have left the folder alone
            assert frames(folder / "out.mkv") == frames(folder / "whole.mkv")
            say(*words, folder=folder, code=1)
            (folder / "out.mkv").unlink()
    say(*words, folder=folder)
    assert frames(folder / "out.mkv") == frames(folder / "whole.mkv")
    assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}


WITHOUT_RAY = [sys.executable, "-c", "import sys; sys.modules['ray'] = None; " + _CODE.format("main_encode")]


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--workers", "0"], 2, "Expected --workers as a number of 1 or more, or gpus, got '0'"),
        (["--workers", "many"], 2, "Expected --workers as a number of 1 or more, or gpus, got 'many'"),
        (["--cluster", "somewhere"], 2, "Expected --cluster auto, ray://HOST:10001 or HOST:6379, got 'somewhere'"),
        (["--ship"], 2, "Expected --workers or --cluster with --ship, got neither"),
        (["--workers", "2"], 1, "Workers need Ray, which is not installed: pip install 'vsr-plugin[cluster]'"),
        (["--cluster", "auto"], 1, "Workers need Ray, which is not installed: pip install 'vsr-plugin[cluster]'"),
    ],
)
def test_workers_that_cannot_be_are_refused_before_any_work(
    words: list[str], code: int, expected: str, film: Path
) -> None:
    _, said = say(*WITHOUT_RAY, "film.mkv", *words, folder=film.parent, code=code)
    assert said == f"Error: {expected}\n"
    assert [file.name for file in film.parent.iterdir()] == ["film.mkv"]
