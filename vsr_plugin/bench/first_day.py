"""Measure, test and profile the kernels on a GPU in under eight minutes, the most useful first."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import torch

from ..errors import UsageError
from .kernel_cases import timed_cases
from .kernels import measure_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .kernels import KernelReport

_log = logging.getLogger(__name__)

_SECONDS = 450.0  # less than eight minutes, because what has begun is finished
_TEST_SECONDS = 150.0
_PROFILE_SECONDS = 60.0
_GRACE = 15.0  # for a program to end after a signal
_TESTS = Path(__file__).parents[2] / "tests" / "kernels"  # in a checkout
_PROFILED = (
    *("espcn_hopper: ", "espcn_ampere: ", "espcn: ", "fsrcnn_hopper: ", "fsrcnn_ampere: ", "fsrcnn: "),
    *("convolution_hopper: VDSR", "convolution: VDSR 64→64"),
)
_SECTIONS = ("SpeedOfLight", "Occupancy", "WarpStateStats", "MemoryWorkloadAnalysis", "LaunchStats")


def measure_all(device: torch.device, folder: Path, *, batch: int = 8, runs: int = 5) -> Iterator[KernelReport]:
    """Measure everything; each result is written at once, so that it is kept if the GPU is lost.

    ``kernels.json`` has our kernels beside their floors and predictions, ``tests.txt`` the output of tests on a GPU,
    ``profile-….txt`` what Nsight Compute counts, and ``beside-torch.json`` the kernels beside cuDNN and torch.compile,
    as many of them as there is time for.

    Args:
        device: A CUDA device.
        folder: Where to write, new or empty; made if it does not exist.
        batch: Frames of 1920×1080 at once.
        runs: Number of runs of each measurement.

    Yields:
        The two reports.

    Raises:
        UsageError: no CUDA device; a folder that is not empty.
    """
    until = monotonic() + _SECONDS
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"Expected a new or an empty folder, got {folder}")
    report = measure_kernels(device, batch=batch, runs=runs, others=False, predictions=True)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "kernels.json", report)
    yield report
    _test(folder / "tests.txt", _TEST_SECONDS)
    _profile(folder, device, until)
    report = measure_kernels(device, batch=batch, runs=min(runs, 3), until=until)
    _write(folder / "beside-torch.json", report)
    yield report


def _write(path: Path, report: KernelReport) -> None:
    path.write_text(json.dumps(report.as_dict(), indent=1, ensure_ascii=False), encoding="utf-8")


def _test(path: Path, seconds: float) -> None:
    if not _TESTS.is_dir():
        _log.info("the tests are left out: this is no checkout")
        return
    _log.info("tests on the GPU")
    # Each test is printed when it ends, so that failures are known even if the run is cut off.
    how = ["-o", "addopts=", "-m", "cuda", "-n", "8", "-v", "--tb=short"]
    _run([sys.executable, "-m", "pytest", *how, str(_TESTS)], path, seconds)


def _profile(folder: Path, device: torch.device, until: float) -> None:
    profiler = shutil.which("ncu")
    if profiler is None:
        _log.info("the profile is left out: ncu is not on the PATH")
        return
    sections = [word for section in _SECTIONS for word in ("--section", section)]
    for case in timed_cases("", device, torch.float16):
        name = f"{case.kernel}: {case.name}"
        if not name.startswith(_PROFILED):
            continue
        if monotonic() + _PROFILE_SECONDS > until:
            _log.info("the profile of %s is left out: the time is up", name)
            continue
        _log.info("profile of %s", name)
        program = f"from vsr_plugin.bench.kernel_cases import start; start({name!r})"
        command = [profiler, *sections, "--kernel-name", "regex:_kernel$", sys.executable, "-c", program]
        _run(command, folder / f"profile-{case.kernel}.txt", _PROFILE_SECONDS)


def _run(command: Sequence[str], path: Path, seconds: float) -> None:
    """Run a program for at most ``seconds``; its output goes into a file."""
    with (
        path.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process,  # noqa: S603
    ):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # pytest then prints its results so far
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            file.seek(0, os.SEEK_END)
            file.write(f"\nended after {seconds:.0f} s\n")
