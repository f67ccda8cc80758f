"""A command that is stopped or killed at any moment: what it says, and that nothing of it stays."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from torch import Tensor

from tests import PATIENCE
from tests.cli.test_encode import ENCODE, Run, run
from tests.cli.warm import Command
from tests.stream.conftest import Media, frame_times
from vsr_plugin.backends.eager import EagerNetwork
from vsr_plugin.cli.jobs import if_stopped
from vsr_plugin.stream.output import identities

__all__ = ["run"]
_SIGNALS = [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL]


def _compute_for_minutes(*, odd: bool) -> None:
    """Let frames, or those of an odd width, take minutes, so that no machine is too fast to be stopped."""
    run_batch = EagerNetwork.__call__

    def slow(network: EagerNetwork, x: Tensor) -> Tensor:
        if x.shape[-1] % 2 or not odd:
            time.sleep(300)
        return run_batch(network, x)

    EagerNetwork.__call__ = slow  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_runs_that_are_killed_at_any_moment_leave_nothing_after_the_next(
    media: Media, run: Run, tmp_path: Path, kills: int
) -> None:
    film = media("two_audio.mp4")
    (tmp_path / "there").mkdir()
    chance = random.Random(kills)
    words = (*ENCODE, str(film), "-y", "-o", "there/out.mp4", "-m", "srresnet", "-x", "4", "--backend", "eager")
    codes = set()
    for number in range(kills):
        with subprocess.Popen(
            words,
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # also where the tests run under nohup
        ) as process:
            time.sleep(chance.uniform(0.1, 4))
            process.send_signal(_SIGNALS[number % len(_SIGNALS)])
            codes.add(process.wait(PATIENCE))
    assert codes <= {0, 130, *(-number for number in _SIGNALS)}  # it may be done, or not listen yet
    assert run(film, "-o", "there/other.mkv", "-n", 1) == 0
    assert {file.name for file in (tmp_path / "there").iterdir()} <= {"other.mkv", "out.mp4"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("older", [False, True])
def test_a_stopped_command_says_what_there_is(media: Media, tmp_path: Path, number: int, *, older: bool) -> None:
    (tmp_path / "all").mkdir()
    shutil.copy(media("lossless.mkv"), tmp_path / "a.mkv")
    shutil.copy(media("odd.mkv"), tmp_path / "b.mkv")  # which is 95 samples wide
    if older:
        (tmp_path / "all/b_srresnet_x4.mkv").write_text("older")
    words = ("a.mkv", "b.mkv", "-y", "-o", "all", "-n", "6", "-m", "srresnet", "-x", "4", "--backend", "eager")
    with Command("vsr-encode", *words, folder=tmp_path, prepare=partial(_compute_for_minutes, odd=True)) as command:
        first: set[Path] = set()
        for _ in range(1200):
            hidden = set((tmp_path / "all").glob(".vsr-*"))
            if not (tmp_path / "all/a_srresnet_x4.mkv").exists():
                first |= hidden
            elif hidden - first:
                break
            time.sleep(0.05)
        command.send(number)
        assert command.wait() == 130, command.stderr
        said = command.stderr
    assert "Traceback" not in said
    rest = (
        "stays as it was"
        if older
        else "was not finished, and nothing of it is left; with --skip-existing, the same command goes on"
    )
    assert said.splitlines()[-1] == f"Stopped: 1 of 2 files are done; all/b_srresnet_x4.mkv {rest}"
    assert len(frame_times(tmp_path / "all/a_srresnet_x4.mkv")) == 6
    assert {file.name for file in (tmp_path / "all").iterdir()} == {"a_srresnet_x4.mkv"} | (
        {"b_srresnet_x4.mkv"} if older else set()
    )


def test_what_is_not_there_is_told_with_how_to_keep_it(tmp_path: Path) -> None:
    target = str(tmp_path / "out.mkv")
    nothing = f"{target} was not finished, and nothing of it is left; with "
    assert if_stopped(target, 0, 1, older=set()) == f"{nothing}--resume, what is done of a film is kept"
    rest = f"{nothing}--skip-existing, the same command goes on"
    assert if_stopped(target, 2, 3, older=set()) == f"2 of 3 files are done; {rest}"
    again = "the same command"
    nothing = f"{target} was not finished, and nothing was done yet that could be kept"
    assert if_stopped(target, 0, 1, older=set(), again=again) == nothing
    (tmp_path / "out.mkv.parts").mkdir()
    assert if_stopped(target, 0, 1, older=set(), again=again) == f"{target} was not finished, and {again} goes on"


@pytest.mark.parametrize(
    "words",
    [
        ("export", "espcn", "--to", "onnx"),
        ("eval", "espcn", "-x", "3", "--data", "."),
        ("bench", "job"),
        ("models", "quantize", "espcn", "out.safetensors", "-x", "2", "--data", "."),
    ],
)
def test_a_command_that_keeps_nothing_says_so(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("import os, time; os.kill(os.getpid(), 2); time.sleep(5)")
    command = [sys.executable, "-c", "from vsr_plugin.cli import main; main()", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Stopped: nothing was written\n")


def test_a_result_that_is_placed_when_the_command_is_stopped_is_finished(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    target.write_text("older")
    older = identities([target])
    assert if_stopped(str(target), 0, 2, older=older).endswith("out.mkv stays as it was")
    (tmp_path / "new").write_text("newer")
    (tmp_path / "new").replace(target)
    said = if_stopped(str(target), 0, 2, older=older)
    assert said.startswith("1 of 2 files are done; ")
    assert said.endswith("out.mkv is finished")


_PLACING = """
from pathlib import Path
from vsr_plugin.cli.stop import listen
from vsr_plugin.stream.output import Part
listen()
print("begun", flush=True)
while True:
    with Part(Path("there/out.mkv"), sequence=False, overwrite=True) as part:
        part.file.write_bytes(b"x")
"""


def test_a_hidden_folder_is_removed_however_early_the_command_stops(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    chance = random.Random(0)
    for _ in range(12):
        words = [sys.executable, "-c", _PLACING]
        with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.02))
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        assert [file for file in (tmp_path / "there").iterdir() if file.name != "out.mkv"] == []


_IMPORTING = """
import os, signal, sys
from vsr_plugin.cli.stop import listen
listen()
sys.path.insert(0, "")
try:
    try:
        import slow
    except KeyboardInterrupt:
        print("within the import")
    while True:
        pass
except KeyboardInterrupt:
    print("after", slow.whole)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_import_is_finished_before_a_command_stops(tmp_path: Path, number: int) -> None:
    (tmp_path / "slow.py").write_text(f"import os, time; os.kill(os.getpid(), {number}); time.sleep(0.3); whole = True")
    command = [sys.executable, "-c", _IMPORTING]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ("after True\n", "")


_LOADING = """
import os, signal, sys
sys.path.insert(0, "")
from vsr_plugin.cli.stop import listen, tell_if_stopped
listen()
tell_if_stopped(lambda: "nothing was begun")
try:
    import torch
finally:
    print("went on")
"""


@pytest.mark.parametrize("name", ["page.html", "page.mkv"])
def test_a_comparison_that_is_stopped_says_what_is_not_finished(media: Media, tmp_path: Path, name: str) -> None:
    words = (str(media("lossless.mkv")), "-m", "srresnet", "-x", "4", "--backend", "eager", "-o", name)
    with Command(
        "vsr", "compare", *words, folder=tmp_path, prepare=partial(_compute_for_minutes, odd=False)
    ) as command:
        for _ in range(600):
            if "…" in command.stderr:  # it says what it does
                break
            time.sleep(0.05)
        command.send(signal.SIGINT)
        assert command.wait() == 130, command.stderr
        assert command.stderr.splitlines()[-1] == f"Stopped: {name} was not finished, and nothing of it is left"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_torch_is_not_loaded_to_its_end_for_a_command_that_stops(tmp_path: Path, number: int) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("import torch.part")
    (tmp_path / "torch/part.py").write_text(f"import os, time; os.kill(os.getpid(), {number}); time.sleep(5)")
    command = [sys.executable, "-c", _LOADING]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Stopped: nothing was begun\n")


_STARTING = """
import os, signal, threading, time
from vsr_plugin.cli import main
def stop():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0)
    time.sleep({moment})
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=stop, daemon=True).start()
main()
"""


def test_a_command_that_is_stopped_while_it_starts_says_so(tmp_path: Path) -> None:
    for moment in (0.0, 0.02, 0.1):
        command = [sys.executable, "-c", _STARTING.format(moment=moment), "encode", "none.mkv"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert "Traceback" not in done.stderr
        assert done.returncode in (1, 130)


_DONE = """
import os, signal, sys, threading, time
from vsr_plugin.cli import main_encode
def stop():
    time.sleep(0.5)
    os.kill(os.getpid(), {number})
    time.sleep(60)
sys.argv = ["vsr-encode", {word!r}]
try:
    main_encode()
finally:
    threading.Thread(target=stop).start()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("word", "code", "said"), [("--version", 0, ""), ("none", 1, "Error: No such file: none\n")])
def test_a_command_that_is_stopped_when_it_is_done_ends_with_its_code(
    number: int, word: str, code: int, said: str
) -> None:
    script = _DONE.format(number=int(number), word=word)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # also where the tests run under nohup
    ) as process:
        out, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (code, said)
    assert out.startswith("vsr_plugin ") == (code == 0)


_LEAVING = """
import os, signal
from vsr_plugin.cli.stop import leave, listen, tell_if_stopped
listen()
tell_if_stopped(lambda: (os.kill(os.getpid(), signal.SIGINT), "it is put away")[1])
leave()
"""


def test_a_second_ctrl_c_disturbs_nothing() -> None:
    command = [sys.executable, "-c", _LEAVING]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (130, "Stopped: it is put away\n")


_LOGGING = """
import logging, threading
import av.logging
from vsr_plugin.cli.terminal import speak
speak(quiet=False, verbose={verbose})
av.logging.set_level(av.logging.WARNING)
with av.logging.Capture():
    other = threading.Thread(target=av.logging.log, args=(av.logging.WARNING, "h264", "said elsewhere"))
    other.start()
    other.join()
"""


@pytest.mark.parametrize("verbose", [False, True])
def test_lines_of_ffmpeg_from_other_threads_are_heard_when_asked_for(*, verbose: bool) -> None:
    command = [sys.executable, "-c", _LOGGING.format(verbose=verbose)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stderr == ("said elsewhere\n" if verbose else "")


def _read_by_nobody() -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    os.close(reading)


@pytest.mark.parametrize(
    ("streams", "prepare"),
    [({2: Path("/dev/full")}, None), ({2: None}, None), ({}, _read_by_nobody)],
    ids=["full", "closed", "read by nobody"],
)
def test_a_standard_error_that_nobody_reads_stops_no_work(
    media: Media, tmp_path: Path, streams: dict[int, Path | None], prepare: Callable[[], None] | None
) -> None:
    words = (str(media("all.mkv")), "-o", "out.mp4", "--verbose", "--backend", "eager")
    with Command("vsr-encode", *words, folder=tmp_path, streams=streams, prepare=prepare) as command:
        assert command.wait() == 0
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_a_folder_that_was_made_as_the_command_stopped_is_removed(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from vsr_plugin.stream.output import Part
Part(Path(sys.argv[1]), sequence=False, overwrite=False)
assert list(Path(sys.argv[1]).parent.iterdir())
raise KeyboardInterrupt
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out.mkv")], capture_output=True, check=False)
    assert b"KeyboardInterrupt" in done.stderr
    assert list(tmp_path.iterdir()) == []


def _stop_at(place: str) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    mock.patch(place, stop).start()


@pytest.mark.parametrize("place", ["typer.main.get_command", "vsr_plugin.stream.output.Part.__enter__"])
def test_a_stop_at_a_bad_moment_is_a_stop(media: Media, tmp_path: Path, place: str) -> None:
    words = (str(media("plain.mp4")), "-o", "out.mkv", "-n", "1", "--backend", "eager")
    with Command("vsr-encode", *words, folder=tmp_path, prepare=partial(_stop_at, place)) as command:
        assert command.wait() == 130, command.stderr
        said = command.stderr
    assert said.splitlines()[-1][:7] == "Stopped"
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_thread_that_still_computes_is_not_there_when_python_ends() -> None:
    """As the network of a preview that is too slow: it would crash the process."""
    script = """
import atexit, sys, threading, time
from vsr_plugin import cli
from vsr_plugin.cli import program
def run(name):
    atexit.register(print, "Python ends")
    threading.Thread(target=time.sleep, args=(600,), name=sys.argv[1], daemon=True).start()
    print("done")
    return 3
program.run = run
cli.main()
"""
    for name, said in (("vsr preview network", "done\n"), ("of another library", "done\nPython ends\n")):
        done = subprocess.run([sys.executable, "-c", script, name], capture_output=True, text=True, timeout=PATIENCE)
        assert (done.returncode, done.stdout, done.stderr) == (3, said, "")
