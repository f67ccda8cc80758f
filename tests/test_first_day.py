"""The first day with a GPU: everything is measured in eight minutes, and what is done is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from vsr_plugin.bench import Ceiling, first_day
from vsr_plugin.bench.kernels import KernelReport, KernelTiming, measure_kernels
from vsr_plugin.cli.bench import bench as app
from vsr_plugin.errors import UsageError

pytest.importorskip("triton")

CPU = torch.device("cpu")
TIMING = KernelTiming("espcn", "×3, 8 bits", 0.002, 10, 20, 0.001, {}, predicted=(0.0015, 0.0025))
REPORT = KernelReport("a GPU", {}, (8, 1080, 1920), "float16", Ceiling(1.0, 2.0), (TIMING,))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What is asked of `measure_kernels`, which stands still; no tests, no profiler."""
    asked: list[dict[str, Any]] = []

    def measure(_: torch.device, **how: Any) -> KernelReport:
        asked.append(how)
        return REPORT

    monkeypatch.setattr(first_day, "measure_kernels", measure)
    monkeypatch.setattr(first_day, "_TESTS", tmp_path / "none")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    return asked


def test_our_own_kernels_come_first_and_torch_has_what_time_is_left(
    measured: list[dict[str, Any]], tmp_path: Path
) -> None:
    folder = tmp_path / "day" / "one"
    reports = first_day.measure_all(CPU, folder)
    assert next(reports) is REPORT
    assert [path.name for path in folder.iterdir()] == ["kernels.json"]
    assert json.loads((folder / "kernels.json").read_text())["timings"][0]["predicted"] == [0.0015, 0.0025]
    assert next(reports) is REPORT
    assert sorted(path.name for path in folder.iterdir()) == ["beside-torch.json", "kernels.json"]
    ours, others = measured
    assert ours["predictions"]
    assert not ours["others"]
    assert others["until"] < monotonic() + 8 * 60


def test_a_folder_is_made_when_there_is_something_for_it_and_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Expected a CUDA device"):
        next(first_day.measure_all(torch.device("meta"), tmp_path / "day"))
    assert not (tmp_path / "day").exists()
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UsageError, match="Expected a new or an empty folder"):
            next(first_day.measure_all(CPU, path))


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_of_tests_that_are_cut_off_what_failed_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_gpu.py").write_text(
        "import pytest, time\n"
        "@pytest.mark.cuda\ndef test_wrong(): assert 1 == 2\n"
        "@pytest.mark.cuda\ndef test_that_hangs(): time.sleep(600)\n"
    )
    monkeypatch.setattr(first_day, "_TESTS", tests)
    said_so_far = tmp_path / "tests.txt"

    class Process(subprocess.Popen[bytes]):
        """Its time is up when the test that fails is over; the grace after that is as long as ever."""

        def wait(self, timeout: float | None = None) -> int:
            if timeout != 25.0:
                return super().wait(timeout)
            while "FAILED" not in said_so_far.read_text():
                time.sleep(0.05)
            raise subprocess.TimeoutExpired(self.args, timeout)

    monkeypatch.setattr(subprocess, "Popen", Process)
    first_day._test(said_so_far, 25.0)
    said = said_so_far.read_text()
    assert "FAILED" in said
    assert "test_wrong" in said
    assert said.endswith("ended after 25 s\n")


def test_profiles_are_kept_as_they_are_said(
    measured: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiler = script(tmp_path / "ncu", 'echo "$@"; exit 1')
    monkeypatch.setattr(shutil, "which", lambda _: profiler)
    list(first_day.measure_all(CPU, tmp_path / "day"))
    assert len(measured) == 2, "what fails in between ends nothing"
    names = sorted(path.stem for path in (tmp_path / "day").glob("profile-*"))
    assert names == ["profile-convolution", "profile-espcn", "profile-fsrcnn"]  # a CPU is no Hopper
    said = (tmp_path / "day" / "profile-fsrcnn.txt").read_text()
    assert "--section Occupancy" in said
    assert "start('fsrcnn: ×3, 8 bits')" in said


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    first_day._run([script(tmp_path / "slow", "echo begun; exec sleep 20")], tmp_path / "said.txt", 0.5)
    assert (tmp_path / "said.txt").read_text() == "begun\n\nended after 0 s\n"


def test_when_the_time_is_up_nothing_more_is_begun(
    measured: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: script(tmp_path / "ncu", "echo profiled"))
    monkeypatch.setattr(first_day, "_SECONDS", 0.0)
    list(first_day.measure_all(CPU, tmp_path / "day"))
    assert not list((tmp_path / "day").glob("profile-*"))
    assert measured[1]["until"] <= monotonic()


def test_kernels_that_there_is_no_time_for_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    how: dict[str, Any] = {"batch": 1, "height": 2, "width": 3, "runs": 1, "only": "r 3, one channel"}
    assert measure_kernels(CPU, **how, until=0.0).timings == ()
    (timing,) = measure_kernels(CPU, **how, others=False, predictions=True).timings
    assert timing.rivals == {}
    assert timing.speedup is None
    assert timing.predicted is None  # the CPU is none of the GPUs that are known


def test_the_command_prints_both_reports(measured: list[dict[str, Any]], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["kernels", "--all", str(tmp_path / "day"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    rows = [" ".join(line.split()) for line in result.stdout.splitlines() if line.startswith("espcn")]
    assert rows == ["espcn ×3, 8 bits 2 0 0.0 1 50% 1.5–2.5"] * 2
    for words in (["--only", "espcn"], ["--precision", "float32"], ["--json"]):
        refused = CliRunner().invoke(app, ["kernels", "--all", str(tmp_path / "other"), *words])
        assert isinstance(refused.exception, UsageError)
        assert not (tmp_path / "other").exists()


def test_every_kernel_that_is_profiled_is_there() -> None:
    cases = import_module("vsr_plugin.kernels.cases").CASES
    names = [f"{case.kernel}: {case.name}" for case in cases if case.timed]
    missing = [part for part in first_day._PROFILED if not any(name.startswith(part) for name in names)]
    in_gluon = [part for part in first_day._PROFILED if "hopper" in part or "ampere" in part]
    assert missing == ([] if import_module("vsr_plugin.kernels.gluon").AVAILABLE else in_gluon)
