"""A build is seen, and Ctrl-C ends it at its next step."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests import PATIENCE
from tests.networks import seeded
from vsr_plugin.backends.tensorrt import builds
from vsr_plugin.backends.tensorrt.builds import Watch, watched
from vsr_plugin.interruption import interrupt
from vsr_plugin.models import MODELS

if TYPE_CHECKING:
    from pathlib import Path

ESPCN = MODELS["espcn"]


def test_what_is_built_and_for_how_long_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(builds, "monotonic", lambda: now[0])
    with watched("the engine of espcn") as watch:
        watch.start("Building engine", 6)
        for step in range(4):
            now[0] += 2
            assert watch.step("Building engine", step)
        watch.start("Timing tactics", 40)
        watch.step("Timing tactics", 11)
        now[0] += 7.5
        watch.step("Timing tactics", 12)
        watch.finish("Timing tactics")
        now[0] += 6
        watch.step("Building engine", 4)
    assert caplog.messages == [
        "building the engine of espcn, this first time only",
        "still building the engine of espcn after 6 s: building engine 3/6",
        "still building the engine of espcn after 16 s: building engine 4/6, timing tactics 13/40",
        "still building the engine of espcn after 22 s: building engine 5/6",
        "built in 21.5 s",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize("handler", [signal.default_int_handler, interrupt])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_the_builder_to_stop_and_is_raised_when_it_has(number: signal.Signals, handler: Any) -> None:
    reached = []

    def build() -> None:
        with watched("an engine") as watch:
            os.kill(os.getpid(), number)
            reached.append(watch.step("Building engine", 0))

    before = signal.signal(number, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build()
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert reached == [False]


def test_handlers_of_others_are_left_alone() -> None:
    def theirs(*_: Any) -> None: ...

    before = signal.signal(signal.SIGINT, theirs)
    try:
        with watched("an engine"):
            assert signal.getsignal(signal.SIGINT) is theirs
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_may_build() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: watched("an engine").__enter__()).result().stopped is False


IN_A_THREAD = """
import threading, time
from vsr_plugin.backends.tensorrt.builds import watched
from vsr_plugin.interruption import interrupt

def build():
    try:
        with watched("an engine") as watch:
            at_it.set()
            while watch.step("Building engine", 0):
                time.sleep(0.01)
            print("stopped", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)

at_it = threading.Event()
threading.Thread(target=build, daemon=True).start()
at_it.wait()
"""


def test_the_end_of_the_program_stops_a_build_in_a_thread_and_waits_for_it() -> None:
    """Else the library would call a Python that is no more."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_THREAD], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.startswith("stopped\n")


def test_a_build_is_told_when_nobody_has_set_up_logging() -> None:
    program = "from vsr_plugin.backends.tensorrt.builds import watched\nwith watched('an engine'): print('at it')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "at it\n"
    assert re.fullmatch(r"building an engine, .*\nbuilt in \d+\.\d s\n", done.stderr)


def test_ctrl_c_ends_a_real_build_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    pytest.importorskip("onnxscript")
    from vsr_plugin.backends.tensorrt.backend import TensorRTBackend, fixed

    steps = []
    real = Watch.step

    def interrupted(self: Watch, phase: str, step: int) -> bool:
        steps.append(step)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, phase, step)

    monkeypatch.setattr(Watch, "step", interrupted)
    backend = TensorRTBackend(tmp_path, ahead=True)
    wish: Any = (seeded(ESPCN, 2), ESPCN, fixed((1, 1, 16, 16)), "float16", backend.flavor.target_ahead("8.9"))
    with pytest.raises(KeyboardInterrupt):
        backend.build(*wish)
    assert 3 <= len(steps) < 20  # a whole build has 85 of them
    assert list(tmp_path.glob("*.engine")) == []
    monkeypatch.undo()
    path, new = backend.build(*wish)
    assert (path.exists(), new) == (True, True)  # and the lock was given back
