"""When a kernel is tuned, and when it only says what it would start."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

LAUNCH: Any = import_module("vsr_plugin.kernels.launch")
CASES: Any = import_module("vsr_plugin.kernels.cases")
CHOICES = [{"BLOCK": 16}, {"BLOCK": 32}]


class Kernel:
    """Stands for a jitted function: collects which configuration it is started in."""

    arg_names = ("x", "n")

    def __init__(self, *, full: bool = False) -> None:
        self.started: list[Any] = []
        self.full = full
        self.tuner = self

    def __getitem__(self, _: Any) -> Any:
        return self.start

    def start(self, *_: Any, **constants: Any) -> None:
        if "BLOCK" not in constants and self.full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 256.00 MiB.")
        self.started.append(constants.get("BLOCK", "tuned"))


def tuned(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(LAUNCH, "INTERPRETED", False)
    one = LAUNCH.Tuned(kernel, key=("SCALE",))
    monkeypatch.setattr(one, "_tuner", lambda _: kernel)
    return one


def start(one: Any, programs: int = 256, scale: int = 2) -> None:
    one(lambda meta: (programs * meta["BLOCK"] // 16,), CHOICES, torch.empty(1), 7, SCALE=scale)


@pytest.mark.parametrize(("programs", "tunes"), [(255, False), (256, True)])
def test_only_large_frames_are_measured(programs: int, tunes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tuned(kernel := Kernel(), monkeypatch)
    with LAUNCH.impatient():
        start(one, programs)
    assert kernel.started == ["tuned" if tunes else 16]


def test_a_kernel_is_tuned_when_it_has_run_often_enough_for_each_key(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tuned(kernel := Kernel(), monkeypatch)
    often = LAUNCH.patience()
    for _ in range(often - 1):
        start(one)
        start(one, programs=3)  # small ones do not count
    start(one, scale=3)  # nor do others
    assert set(kernel.started) == {16}
    start(one)
    start(one)
    start(one, scale=3)
    assert kernel.started[-3:] == ["tuned", "tuned", 16]


def test_what_was_tuned_for_a_measurement_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tuned(kernel := Kernel(), monkeypatch)
    with LAUNCH.impatient():
        start(one)
    start(one)
    assert kernel.started == ["tuned", "tuned"]
    assert LAUNCH.patience() > 1


def test_no_memory_for_tuning_is_no_lack_of_memory_for_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tuned(kernel := Kernel(full=True), monkeypatch)
    with LAUNCH.impatient():
        start(one)
    kernel.full = False
    with LAUNCH.impatient():
        start(one)
    assert kernel.started == [16, 16], "it is not tried again"


def test_other_errors_of_tuning_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such device")

    one = tuned(kernel := Kernel(), monkeypatch)
    monkeypatch.setattr(kernel, "start", fail)
    with LAUNCH.impatient(), pytest.raises(RuntimeError, match="no such device"):
        start(one)


def test_a_launch_is_recorded_and_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tuned(kernel := Kernel(), monkeypatch)
    with LAUNCH.recorded() as launches:
        start(one, programs=5, scale=3)
    assert not kernel.started
    (launch,) = launches
    assert launch.arguments["n"] == 7
    assert launch.constants == {"SCALE": 3}
    assert launch.grid({"BLOCK": 32}) == (10,)
    start(one)
    assert len(launches) == 1
    assert kernel.started == [16]


def test_strips_are_cut_for_the_processors_of_the_gpu_that_is_recorded_for() -> None:
    (case,) = [case for case in CASES.CASES if (case.kernel, case.name) == ("espcn", "×3, 8 bits")]
    segments = []
    for processors in (16, 132):
        with LAUNCH.recorded(processors) as launches:
            # Nothing is computed: no sample of these frames is ever written.
            case.prepare(1, 1080, 1920, torch.float16, torch.device("cpu")).kernel()
        segments.append(launches[0].arguments["segment"])
    assert segments[0] > segments[1]
