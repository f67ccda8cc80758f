"""Kernels of whole networks are taken where they can be trusted, and only there; `test_compiled` runs them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

GLUON: Any = import_module("vsr_plugin.kernels.gluon")

pytestmark = pytest.mark.skipif(not GLUON.AVAILABLE, reason="this Triton has another Gluon")

EXAMPLES: Any = import_module("vsr_plugin.kernels.examples")
CONVOLUTION: Any = import_module("vsr_plugin.kernels.convolution")
OPS: Any = import_module("vsr_plugin.kernels.ops")
REFERENCE: Any = import_module("vsr_plugin.kernels.reference")
WHOLE: Any = import_module("vsr_plugin.kernels.whole")
CPU = torch.device("cpu")


@pytest.fixture(params=["espcn_hopper", "espcn_ampere", "fsrcnn_hopper", "fsrcnn_ampere"])
def kernel(request: pytest.FixtureRequest) -> Any:
    WHOLE.proves_itself.cache_clear()
    return next(kernel for kernel in OPS.WHOLE if kernel.name == request.param)


def forms(layers: tuple[Any, ...]) -> list[Any]:
    return [CONVOLUTION.Form.of(layer) for layer in layers]


@pytest.mark.parametrize(
    ("layers", "fitting"),
    [
        (EXAMPLES.espcn_layers(2), "espcn"),
        (EXAMPLES.espcn_layers(4), "espcn"),
        (EXAMPLES.espcn_layers(3, 32, 16), None),
        (EXAMPLES.espcn_layers(3, 64, 64), None),
        ((EXAMPLES.random_layer(64, 1, 5, activation="relu"), *EXAMPLES.espcn_layers(3)[1:]), None),
        ((EXAMPLES.random_layer(64, 1, 3, activation="tanh"), *EXAMPLES.espcn_layers(3)[1:]), None),
        (EXAMPLES.fsrcnn_layers(3), "fsrcnn"),
        (EXAMPLES.fsrcnn_layers(4, 62, 14), "fsrcnn"),
        (EXAMPLES.fsrcnn_layers(2), "fsrcnn"),  # its deconvolution has 5 × 5 taps
        (EXAMPLES.fsrcnn_layers(3, 63, 12), None),  # no channel is left for the bias
        (EXAMPLES.fsrcnn_layers(3, 56, 15), None),
        (EXAMPLES.fsrcnn_layers(3, 56, 12, 3), None),
    ],
)
def test_the_networks_of_the_papers_fit_and_come_before_the_kernels_for_all_gpus(
    layers: Any, fitting: str | None
) -> None:
    names = [kernel.name for kernel in OPS.WHOLE if kernel.fits(forms(layers))]
    assert names[:-1] == ([] if fitting is None else [f"{fitting}_hopper", f"{fitting}_ampere"])
    assert names[-1] in ("espcn", "fsrcnn")


def test_a_cpu_supports_none_of_them() -> None:
    supported = [kernel.name for kernel in OPS.WHOLE if kernel.supports(CPU, torch.float16)]
    assert supported == ["espcn", "fsrcnn"]


@pytest.mark.parametrize(
    ("capability", "dtype", "on"),
    [
        ((9, 0), torch.float16, ("hopper", "ampere")),
        ((9, 0), torch.bfloat16, ("hopper", "ampere")),
        ((9, 0), torch.float32, ()),
        ((7, 5), torch.float16, ()),
        ((8, 0), torch.float16, ("ampere",)),
        ((8, 9), torch.bfloat16, ("ampere",)),
        ((8, 9), torch.float32, ()),
        ((12, 0), torch.float16, ("ampere",)),
    ],
)
def test_it_is_for_its_gpus_and_sixteen_bits(
    capability: tuple[int, int], dtype: torch.dtype, on: tuple[str, ...], kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(WHOLE, "proves_itself", lambda *_: True)
    assert kernel.supports(torch.device("cuda"), dtype) is kernel.name.endswith(on)


@pytest.mark.parametrize(("capability", "supported"), [((9, 0), False), ((8, 9), True), ((12, 0), True)])
def test_kernels_for_all_gpus_are_left_out_where_their_layers_are_faster(
    capability: tuple[int, int], supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    for kernel in OPS.WHOLE:
        if kernel.gpus is None:
            assert kernel.supports(torch.device("cuda"), torch.float16) is supported


def right(kernel: Any) -> Any:
    layers = tuple(EXAMPLES.in_dtype(layer, torch.float32) for layer in kernel.example())
    return lambda x, _, **formats: REFERENCE.chain(x, layers, **formats)


def shifted(kernel: Any) -> Any:
    return lambda *args, **formats: right(kernel)(*args, **formats).roll(1, -1)


def broken(_: Any) -> Any:
    def run(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such instruction")

    return run


def full(_: Any) -> Any:
    def run(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    return run


def proves_itself(kernel: Any, run: Any) -> bool:
    found: bool = WHOLE.proves_itself(replace(kernel, run=run), CPU, torch.bfloat16)
    return found


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (right, ""),
        (shifted, "computes wrong numbers"),
        (broken, "does not run, others do instead: no such instruction"),
    ],
)
def test_it_has_to_prove_itself(make: Any, said: str, kernel: Any, caplog: pytest.LogCaptureFixture) -> None:
    run = make(kernel)
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            assert proves_itself(kernel, run) is (said == "")
    assert len(caplog.records) == (said != ""), "tried once"
    assert said in caplog.text


def test_a_lack_of_memory_says_nothing_about_the_kernel(kernel: Any) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        proves_itself(kernel, full(kernel))
    assert proves_itself(kernel, right(kernel))


def test_another_gluon_leaves_the_kernels_for_all_gpus() -> None:
    program = """
import sys
sys.modules["triton.experimental.gluon"] = None
from vsr_plugin.kernels import ops
from vsr_plugin.kernels.cases import CASES
print([kernel.name for kernel in ops.WHOLE], any(case.gpus for case in CASES))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.strip() == "['espcn', 'fsrcnn'] False", done.stderr[-1000:]
