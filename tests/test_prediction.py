"""What kernels would take on GPUs that are not here is counted from their machine code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from vsr_plugin.bench.machine_code import Demand, read
from vsr_plugin.bench.prediction import GPUS, Prediction, _clocks_of_a_program
from vsr_plugin.cli.bench import bench as app
from vsr_plugin.errors import UsageError

LISTING = """
        Function : _kernel
        /*0000*/                   LDC R1, c[0x0][0x28] ;                       /* 0x00000a00ff017b82 */
                                                                                /* 0x000ff00000000800 */
        /*0010*/              @!P0 LDG.E.U8 R9, desc[UR4][R2.64] ;              /* 0x0 */
        /*0020*/                   LDG.E.LTC128B.128 R12, desc[UR4][R2.64] ;    /* 0x0 */
        /*0030*/                   LDSM.16.MT88.4 R4, [R3] ;                    /* 0x0 */
        /*0040*/                   HMMA.16816.F32 R4, R4, R8, R12 ;             /* 0x0 */
        /*0050*/                   HGMMA.64x32x16.F32 R24, gdesc[UR12].tnspB, RZ, !UPT ;  /* 0x0 */
        /*0060*/                   HGMMA.64x32x16.F32 R24, R56, gdesc[UR32], R24, gsb0 ;  /* 0x0 */
        /*0070*/                   MUFU.TANH R4, R4 ;                           /* 0x0 */
        /*0080*/              @!P3 BRA 0x40 ;                                   /* 0x0 */
        /*0090*/               @P0 BRA 0xa0 ;                                   /* 0x0 */
        /*00a0*/                   BRA 0xa0;                                    /* 0x0 */
"""


def test_machine_code_is_counted_inside_and_outside_of_loops() -> None:
    code = read(LISTING, 4)
    outside = 4 * (1 + 1 + 4 + 4)  # clocks: none for a constant; a byte a lane takes one, 16 bytes take four
    assert code.outside == Demand(instructions=4 * 6, data=outside - 4)
    left, right = 64 * 16 * 2 // 128, 32 * 16 * 2 // 128
    products = 4 * 16 * 8 * 16 + 2 * 64 * 32 * 16
    assert code.inside == Demand(instructions=4 * 5, data=left + 2 * right, products=products, special=4 * 2)


def test_what_is_no_machine_code_is_refused() -> None:
    with pytest.raises(ValueError, match="expected disassembled machine code"):
        read("cuobjdump info : nothing", 4)


@pytest.mark.parametrize(
    ("architecture", "warps", "registers", "shared", "resident"),
    [
        (90, 8, 128, 20_480, 2),  # by registers
        (90, 4, 164, 69_632, 3),  # by registers and by shared memory
        (90, 4, 28, 0, 16),  # by threads
        (86, 4, 28, 0, 12),
        (86, 4, 64, 49_152, 2),  # by shared memory
        (86, 1, 16, 0, 16),  # by programs
        (89, 1, 16, 0, 24),
    ],
)
def test_programs_share_a_processor(architecture: int, warps: int, registers: int, shared: int, resident: int) -> None:
    (gpu,) = [gpu for gpu in GPUS if gpu.architecture == architecture]
    assert gpu.resident(warps, registers, shared) == resident


def test_more_programs_fill_the_pauses_of_each_other() -> None:
    assert _clocks_of_a_program(800, 1600, 1) == 2400
    found = [_clocks_of_a_program(800, 1600, programs) for programs in (2, 3, 10)]
    assert found == sorted(found, reverse=True)
    assert found[0] < 2400
    assert _clocks_of_a_program(800, 1600, 200) == pytest.approx(800, rel=1e-3)
    assert _clocks_of_a_program(800, 0, 1) == _clocks_of_a_program(800, 0, 5) == 800


def run(*words: str) -> Any:
    """What ``vsr bench kernels --predict --json`` says, in a process where Triton does not interpret."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-m", "vsr_plugin", "bench", "kernels", "--predict", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_a_kernel_is_compiled_and_counted_for_three_gpus() -> None:
    pytest.importorskip("triton")
    rows = run("--only", "r 3, one channel", "--batch", "2")
    assert [row["architecture"] for row in rows] == [90, 89, 86]
    moved = 2 * 2 * 9 * 1080 * 1920 * 2
    for row, gpu in zip(rows, GPUS, strict=True):
        assert row["case"] == "r 3, one channel"
        assert row["floor"] == row["least"] == row["most"] == pytest.approx(moved / gpu.bandwidth)
        assert row["busiest"] == "issue"
        assert row["clocks"]["data"] > 0


def test_predictions_are_printed_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"issue": 3.0, "data": 1234.0, "matrix": 0.0, "special": 0.0}
    one = Prediction(
        "espcn", "×3", "H200", 90, 7, 12.0, clocks, 128, 16, 0, 2, 0.0, least=0.004, most=0.008, floor=0.002
    )
    other = replace(one, gpu="RTX 3090", architecture=86, spilled=0, most=0.004)
    module = import_module("vsr_plugin.bench.prediction")
    monkeypatch.setattr(module, "predict_kernels", lambda *_, **__: iter([one, other]))
    result = CliRunner().invoke(app, ["kernels", "--predict", "--batch", "2"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "H200 (sm_90)" in lines
    assert "RTX 3090 (sm_86)" in lines
    first, second = (" ".join(line.split()) for line in lines if line.startswith("espcn"))
    assert first == "espcn ×3 128 + 16 B 2 7 3 1,234 0 0 2–4 1 25%–50%"
    assert second == "espcn ×3 128 2 7 3 1,234 0 0 2 1 50%"


@pytest.mark.slow
def test_every_product_of_a_network_is_in_its_machine_code() -> None:
    """So loops are found, and counted as often as they are gone through."""
    cases = import_module("vsr_plugin.kernels.cases").CASES
    flops = {}
    with import_module("vsr_plugin.kernels.launch").recorded():
        for case in cases:
            if case.timed:
                flops[case.kernel, case.name] = case.prepare(8, 1080, 1920, torch.float16, torch.device("cpu")).flops
    rows = run()
    assert len(rows) >= 3 * (len(flops) - 1)
    for row in rows:
        needed = flops[row["kernel"], row["case"]] // 2
        assert needed <= row["products"] <= 17 * needed, row  # one channel of sixteen is the most padding
        assert row["floor"] <= 1.01 * row["least"], row
        assert row["least"] <= row["most"], row


def test_predictions_need_a_compiler_and_take_no_device() -> None:
    pytest.importorskip("triton")
    for words, said in (
        (["--predict"], "TRITON_INTERPRET is set"),
        (["--predict", "--device", "cpu"], "leave out --device and --precision"),
        (["--predict", "--precision", "float32"], "leave out --device and --precision"),
        (["--only", "nothing"], "No kernel and no case has 'nothing' in its name. Kernels: pixel_shuffle, "),
    ):
        result = CliRunner().invoke(app, ["kernels", *words])
        assert isinstance(result.exception, UsageError)
        assert said in str(result.exception)
