"""Kernels as they are compiled for GPUs compute the truth, on the CPU: their PTX is interpreted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from .ptx.errors import RaceError
from .ptx.program import Instruction, parse
from .ptx.simulation import Compiled, expected_writes, simulate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

pytest.importorskip("triton")

from . import compile_all
from .judging import LAUNCH, judge

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device runs them"),
]


def compile_ptx(architecture: int, names: str) -> dict[str, Compiled]:
    """The small cases of these names, compiled in a process where Triton does not interpret."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = str(Path(__file__).with_name("compile_all.py"))
    command = [sys.executable, "-W", "ignore", program, str(architecture), "ptx", names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = map(json.loads, done.stdout.splitlines())
    return {line["key"]: Compiled(parse(line["ptx"]), tuple(line["parameters"]), line["shared"]) for line in lines}


def check(key: str, work: Any, compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a case: the result is right, and just its bytes are written."""
    written: dict[int, NDArray[np.bool_]] = {}

    def start(self: Any, grid: Any, choices: Any, *args: Any, **_: Any) -> None:
        written.update(simulate(compiled, math.prod(grid(choices[0])), self._kernel.arg_names, args))

    monkeypatch.setattr(LAUNCH.Tuned, "__call__", start)
    dtype = getattr(torch, key.rpartition(", ")[2])
    found, plain, truth = work.kernel(), work.plain(dtype)(), work.plain(torch.float64)()
    if isinstance(found, Tensor):
        found, plain, truth = (found,), (plain,), (truth,)
    for result, expected, exact in zip(found, plain, truth, strict=True):
        judge(result, expected, exact, samples=work.samples, dtype=dtype)
        assert (written[result.untyped_storage().data_ptr()] == expected_writes(result)).all()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [89, 90])
def test_every_kernel_computes_the_truth_writes_its_result_and_does_not_race(
    architecture: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compile_ptx(architecture, "")
    for key, work in compile_all.small_works(architecture):
        try:
            check(key, work, compiled[key], monkeypatch)
        except Exception as error:
            error.add_note(f"{key}, sm_{architecture}")
            raise


def without(compiled: Compiled, name: str) -> Compiled:
    """A program in which some instructions do nothing."""

    def changed(instruction: Instruction) -> Instruction:
        return replace(instruction, parts=("membar",)) if instruction.name.startswith(name) else instruction

    instructions = tuple(map(changed, compiled.program.instructions))
    assert instructions != compiled.program.instructions
    return replace(compiled, program=replace(compiled.program, instructions=instructions))


@pytest.mark.parametrize(
    ("name", "orders"),
    [
        ("convolution: ESPCN 32→9", ("bar.sync", "fence.proxy", "cp.async.wait_group", "wgmma.wait_group")),
        (
            "convolution_hopper: VDSR 64→64 3×3, ReLU, float16",
            ("bar.sync", "fence.proxy", "cp.async.wait_group", "wgmma.fence", "wgmma.wait_group"),
        ),
        ("espcn_hopper: ×3, 8 bits, float16", ("bar.sync", "fence.proxy", "wgmma.fence", "wgmma.wait_group")),
        pytest.param(
            "fsrcnn_hopper: ×3, 8 bits, float16", ("bar.sync", "fence.proxy", "wgmma.fence"), marks=pytest.mark.slow
        ),
        ("espcn_ampere: ×3, 8 bits, float16", ("bar.sync",)),
        pytest.param("fsrcnn_ampere: ×3, 8 bits, float16", ("bar.sync",), marks=pytest.mark.slow),
    ],
)
def test_a_kernel_uses_the_matrix_units_and_needs_every_order_it_keeps(
    name: str, orders: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture, unit = (89, "mma") if "ampere" in name else (90, "wgmma")
    (compiled,) = compile_ptx(architecture, name).values()
    ((key, work),) = compile_all.small_works(architecture, name)
    assert {one.name.split(".")[0] for one in compiled.program.instructions if "mma." in one.name} == {unit}
    check(key, work, compiled, monkeypatch)
    for order in orders:
        with pytest.raises(RaceError):
            check(key, work, without(compiled, order), monkeypatch)
