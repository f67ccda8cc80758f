"""Two hundred kills of a command with workers, which take hours, so that the checks of every day leave them out."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.test_segments import _done, begun
from tests.cli.test_segments_workers import _RESUMED, _are_gone, _tree, film, place, say
from tests.stream.test_segments import frames

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.slow
__all__ = ["film", "place"]

_KILLS = 5  # of each of the tests, which are 40
_WORDS = [*_RESUMED, "--workers", "2"]


def _wait(process: subprocess.Popen[bytes], folder: Path, parts: int, seconds: float) -> int | None:
    """Wait until so many parts are there, and then for some seconds, or until the process has ended; its code."""
    while process.poll() is None and len(_done(folder)) < parts:
        time.sleep(0.01)
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("seed", range(40))
def test_a_film_survives_kills_with_workers_at_any_moment(seed: int, film: Path) -> None:
    folder, chance = film.parent, random.Random(seed)
    whole = frames(folder / "whole.mkv")
    began = time.monotonic()
    say(*_WORDS, folder=folder)
    longest = time.monotonic() - began
    (folder / "out.mkv").unlink()
    killed = finished = twice = 0
    while killed < _KILLS:
        before, more = _done(folder), chance.randrange(5)
        process = subprocess.Popen(_WORDS, cwd=folder, stderr=subprocess.DEVNULL)
        code = _wait(process, folder, len(before) + more, chance.uniform(0, 1 if more else longest / 2))
        if code is None:
            processes = _tree(process.pid)
            # Ray's servers look only now and then whether the command is still there.
            for pid in processes if chance.random() < 0.8 else [process.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            killed += 1
            assert _are_gone(processes, 90)
            twice += begun(folder)
            assert begun(folder) <= 2, "a worker makes one at a time"
        if (folder / "out.mkv").exists():
            finished += 1
            assert frames(folder / "out.mkv") == whole
            if code is None:  # the folder may be left; the same command removes it
                known = (folder / "out.mkv.parts" / "result.json").exists()
                say(*_WORDS, folder=folder, code=0 if known else 1)
            assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}
            (folder / "out.mkv").unlink()
        else:
            assert code is None, "it does not fail"
            assert before <= _done(folder), "what is done is never done again"
        there = len(_done(folder))
        print(f"{killed} kills, {finished} films, {there} segments are there, {twice} were begun again", flush=True)
    say(*_WORDS, folder=folder)
    assert frames(folder / "out.mkv") == whole
    assert {file.name for file in folder.iterdir()} == {"film.mkv", "out.mkv", "whole.mkv"}
