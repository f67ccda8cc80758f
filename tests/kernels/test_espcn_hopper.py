"""The kernel for Hopper is taken where it can be trusted, and only there; `test_compiled` runs it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

GLUON: Any = import_module("vsr_plugin.kernels.gluon")

pytestmark = pytest.mark.skipif(not GLUON.AVAILABLE, reason="this Triton has another Gluon")

CASES: Any = import_module("vsr_plugin.kernels.cases")
CONVOLUTION: Any = import_module("vsr_plugin.kernels.convolution")
OPS: Any = import_module("vsr_plugin.kernels.ops")
HOPPER: Any = import_module("vsr_plugin.kernels.hopper")
REFERENCE: Any = import_module("vsr_plugin.kernels.reference")
CPU = torch.device("cpu")


@pytest.fixture
def hopper() -> Any:
    module: Any = import_module("vsr_plugin.kernels.espcn_hopper")
    HOPPER.proves_itself.cache_clear()
    return module


def forms(layers: tuple[Any, ...]) -> list[Any]:
    return [CONVOLUTION.Form.of(layer) for layer in layers]


@pytest.mark.parametrize(
    ("layers", "fits"),
    [
        (CASES.espcn_layers(2), True),
        (CASES.espcn_layers(4), True),
        (CASES.espcn_layers(3, 32, 16), False),
        (CASES.espcn_layers(3, 64, 64), False),
        ((CASES.random_layer(64, 1, 5, activation="relu"), *CASES.espcn_layers(3)[1:]), False),
        ((CASES.random_layer(64, 1, 3, activation="tanh"), *CASES.espcn_layers(3)[1:]), False),
        (CASES.fsrcnn_layers(3), False),
    ],
)
def test_the_paper_s_network_fits(layers: Any, fits: bool, hopper: Any) -> None:
    assert hopper.fits(forms(layers)) is fits


def test_it_comes_before_the_kernel_for_all_gpus_where_it_is_supported() -> None:
    fitting = [kernel.name for kernel in OPS.WHOLE if kernel.fits(forms(CASES.espcn_layers(3)))]
    assert fitting == ["espcn_hopper", "espcn"]
    assert [kernel.supports(CPU, torch.float16) for kernel in OPS.WHOLE] == [False, True, True]


@pytest.mark.parametrize(
    ("capability", "dtype", "supported"),
    [
        ((9, 0), torch.float16, True),
        ((9, 0), torch.bfloat16, True),
        ((9, 0), torch.float32, False),
        ((8, 9), torch.float16, False),
        ((10, 0), torch.float16, False),
    ],
)
def test_it_is_for_hopper_and_sixteen_bits(
    capability: tuple[int, int], dtype: torch.dtype, supported: bool, hopper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(HOPPER, "proves_itself", lambda *_: True)
    assert hopper.KERNEL.supports(torch.device("cuda"), dtype) is supported


def right(x: Any, *_: Any, source: Any, target: Any) -> Any:
    layers = tuple(CASES.in_dtype(layer, torch.float32) for layer in CASES.espcn_layers(3))
    return REFERENCE.chain(x, layers, source=source, target=target)


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no such instruction")


def proves_itself(hopper: Any, run: Any) -> bool:
    found: bool = HOPPER.proves_itself("espcn_hopper", hopper.pack, run, hopper._example, CPU, torch.bfloat16)
    return found


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (right, ""),
        (lambda *args, **how: right(*args, **how).roll(1, -1), "computes wrong samples"),
        (broken, "The kernel espcn_hopper does not run, the one for all GPUs does instead: no such instruction"),
    ],
)
def test_it_has_to_prove_itself(run: Any, said: str, hopper: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            assert proves_itself(hopper, run) is (said == "")
    assert len(caplog.records) == (said != ""), "tried once"
    assert said in caplog.text


def test_a_lack_of_memory_says_nothing_about_the_kernel(hopper: Any) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        proves_itself(hopper, full)
    assert proves_itself(hopper, right)


def test_another_gluon_leaves_the_kernels_for_all_gpus() -> None:
    program = """
import sys
sys.modules["triton.experimental.gluon"] = None
from vsr_plugin.kernels import ops
from vsr_plugin.kernels.cases import CASES
print([kernel.name for kernel in ops.WHOLE], any(case.architecture for case in CASES))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.strip() == "['espcn', 'fsrcnn'] False", done.stderr[-1000:]
