"""The kernel for layers of 64 to 64 channels is taken where it can be trusted; `test_compiled` runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import torch

from vsr_plugin.backends import fusion
from vsr_plugin.backends.triton import TritonNetwork
from vsr_plugin.models import find_model, load_model

pytest.importorskip("triton")

GLUON: Any = import_module("vsr_plugin.kernels.gluon")

pytestmark = pytest.mark.skipif(not GLUON.AVAILABLE, reason="this Triton has another Gluon")

CONVOLUTION: Any = import_module("vsr_plugin.kernels.convolution")
EXAMPLES: Any = import_module("vsr_plugin.kernels.examples")
LAUNCH: Any = import_module("vsr_plugin.kernels.launch")
OPS: Any = import_module("vsr_plugin.kernels.ops")
REFERENCE: Any = import_module("vsr_plugin.kernels.reference")
if GLUON.AVAILABLE:
    ROWS: Any = import_module("vsr_plugin.kernels.convolution_rows")
CPU = torch.device("cpu")


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What would be started on one, in order: the names of kernels."""
    monkeypatch.setattr(ROWS, "architecture_of", lambda _: 90)
    monkeypatch.setattr(ROWS, "proves_itself", lambda *_: True)
    with LAUNCH.recorded() as launches:
        yield lambda: [launch.kernel.__name__ for launch in launches]


def packed(out: int = 64, channels: int = 64, size: int = 3, dtype: torch.dtype = torch.float16, **rest: Any) -> Any:
    return CONVOLUTION.pack(EXAMPLES.random_layer(out, channels, size, **rest), dtype, CPU)


def features(channels: int = 64, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    x: torch.Tensor = CONVOLUTION.empty((1, channels, 8, 70), dtype, CPU)
    return x


@pytest.mark.parametrize(
    ("layer", "fits"),
    [
        ({}, True),
        ({"activation": "relu", "scale": 0.1, "after": "relu"}, True),
        ({"activation": "leaky"}, True),
        ({"activation": "prelu", "bias": False}, True),
        ({"activation": "tanh"}, False),
        ({"channels": 32}, False),
        ({"out": 128}, False),
        ({"size": 5}, False),
        ({"padding": 0}, False),
        ({"edges": "replicate"}, False),
        ({"shuffle": 2}, False),
        ({"dtype": torch.float32}, False),
    ],
)
def test_layers_that_fit_run_on_it_and_others_as_before(layer: dict[str, Any], fits: bool, hopper: Any) -> None:
    layer = {"channels": 64, **layer}
    form = packed(**layer)
    OPS.layer(form)(features(layer["channels"], form.weight.dtype))
    assert hopper() == ["_convolution_rows_kernel" if fits else "_convolution_kernel"]


@pytest.mark.parametrize(
    "other",
    [
        features(dtype=torch.float32),
        torch.empty(1, 64, 8, 70, dtype=torch.float16),  # channel by channel
        features(72)[:, :64],  # pixels are 144 bytes
        features(80)[:, 4:68],  # the first one is not at a multiple of 16 bytes
    ],
)
def test_features_that_lie_otherwise_are_computed_as_before(other: torch.Tensor, hopper: Any) -> None:
    OPS.layer(packed())(other)
    OPS.layer(packed())(features(80)[:, 8:72], residual=features())
    OPS.layer(packed())(features(), residual=torch.empty(1, 64, 8, 70))
    assert hopper() == ["_convolution_kernel", "_convolution_rows_kernel", "_convolution_kernel"]


def test_other_gpus_run_it_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ROWS, "proves_itself", lambda *_: True)
    for architecture in (0, 75, 80, 86, 89, 100, 120):
        monkeypatch.setattr(ROWS, "architecture_of", lambda _, here=architecture: here)
        assert not ROWS.supports(packed())


@pytest.mark.parametrize(("model", "scale", "times"), [("vdsr", 2, 18), ("edsr-baseline", 2, 33)])
def test_networks_run_on_it(model: str, scale: int, times: int, hopper: Any) -> None:
    spec = find_model(model, scale)
    shape = (1, spec.channels, 8, 70)
    network = TritonNetwork(fusion.read(load_model(model, scale), shape), model, torch.float16, CPU)
    network(torch.rand(shape))
    assert hopper().count("_convolution_rows_kernel") == times


def right(x: torch.Tensor, packed: Any, _: Any, *, residual: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = CONVOLUTION.convolution(x, packed, residual=residual)
    return result


def wrong(*args: Any, **rest: Any) -> torch.Tensor:
    return right(*args, **rest).roll(1, -1)


def no_numbers(*args: Any, **rest: Any) -> torch.Tensor:
    return right(*args, **rest) * torch.nan


def broken(*_: Any, **__: Any) -> torch.Tensor:
    raise RuntimeError("no such instruction")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (right, ""),
        (wrong, "computes wrong numbers"),
        (no_numbers, "computes wrong numbers"),
        (broken, "does not run, others do instead: no such instruction"),
    ],
)
def test_it_has_to_prove_itself(
    run: Any, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ROWS.proves_itself.cache_clear()
    monkeypatch.setattr(ROWS, "architecture_of", lambda _: 90)
    monkeypatch.setattr(ROWS, "convolution_rows", run)
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            assert ROWS.supports(packed()) is (said == "")
    assert len(caplog.records) == (said != ""), "tried once"
    assert said in caplog.text
    ROWS.proves_itself.cache_clear()
