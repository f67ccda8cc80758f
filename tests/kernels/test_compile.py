"""Every kernel assembles for every architecture, where the code differs in every configuration; no GPU is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

# Turing to Blackwell, and the shared memory that a program may have there, in bytes.
SHARED = {75: 65_536, 80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}
MATRIX_KERNELS = {"_convolution_kernel", "_espcn_kernel", "_fsrcnn_kernel"}
GLUON = import_module("vsr_plugin.kernels.gluon").AVAILABLE
if GLUON:
    MATRIX_KERNELS |= {"_convolution_rows_kernel", "_espcn_rows_kernel", "_fsrcnn_rows_kernel"}


def compiled(architectures: list[int], how: str) -> list[dict[str, Any]]:
    """In a process where Triton does not interpret."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = Path(__file__).with_name("compile_all.py")
    command = [sys.executable, "-W", "ignore", str(program), ",".join(map(str, architectures)), how]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_defaults(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if line["default"]:
            assert line["shared"] <= SHARED[line["architecture"]], line
            for_these = (86, 89) if "_ampere" in line["case"] else (90,)
            if line["dtype"] == "torch.float16" and line["architecture"] in for_these:
                assert (line["stack"], line["local"]) == (0, 0), f"registers are spilled: {line}"


@pytest.mark.slow
def test_the_default_of_every_case_fits_hopper_and_spills_nothing() -> None:
    lines = compiled([90], "default")
    check_defaults(lines)
    matrix = [line for line in lines if line["kernel"] in MATRIX_KERNELS]
    assert {line["kernel"] for line in matrix} == MATRIX_KERNELS
    assert all(line["matrix"] == ["mma.sync" if "_ampere" in line["case"] else "wgmma.mma_async"] for line in matrix)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SHARED)
def test_every_kernel_assembles_in_every_configuration(architecture: int) -> None:
    lines = compiled([architecture], "everything")
    check_defaults(lines)
    # On Hopper `…_hopper` and `…_ampere` are one kernel with other products; everywhere two cases share another one.
    both = 2 if architecture == 90 and GLUON else 0
    assert len({line["case"] for line in lines}) == len({line["kernel"] for line in lines}) + 2 + both
    if architecture >= 80:  # on Turing Triton multiplies without the matrix units
        for line in lines:
            if line["kernel"] in MATRIX_KERNELS and line["dtype"] != "torch.float32":
                assert line["matrix"], line
