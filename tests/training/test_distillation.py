"""Training in 8 bits brings back a part of what rounding costs."""

from __future__ import annotations

from itertools import count

import pytest
import torch

from vsr_plugin.models.quantized import QuantizedConvolution, QuantizedNetwork
from vsr_plugin.training import distillation
from vsr_plugin.training.distillation import distill
from vsr_plugin.training.quantization import quantize

from .test_quantization import network, soft_noise


@pytest.fixture(autouse=True)
def a_second_passes_whenever_the_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = count()
    monkeypatch.setattr("vsr_plugin.training.distillation.time.monotonic", lambda: float(next(seconds)))


def coarse() -> QuantizedNetwork:
    """A network whose weights are rounded to five bits."""
    result = quantize(network(), 2, soft_noise(32, 24))
    for part in result.modules():
        if isinstance(part, QuantizedConvolution):
            part.weight.copy_((part.weight.float() / 8).round().clamp(-15, 15) * 8)
    return result


def error(result: QuantizedNetwork) -> float:
    patches = soft_noise(8, 40)
    with torch.inference_mode():
        return float((result(patches) - network()(patches))[..., 8:-8, 8:-8].square().mean())


def test_the_results_come_nearer_to_those_of_the_float_network() -> None:
    said: list[str] = []
    result = coarse()
    before = error(result)
    assert distill(result, network(), soft_noise(64, 24), minutes=4, say=said.append)
    assert error(result) < 0.7 * before
    assert all(part.weight.dtype == torch.int8 for part in result.modules() if isinstance(part, QuantizedConvolution))
    assert said[-1].startswith("training in 8 bits: 9")


def test_weights_that_come_no_nearer_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_RATE", 1000.0)
    result = coarse()
    before = {name: tensor.clone() for name, tensor in result.state_dict().items()}
    assert not distill(result, network(), soft_noise(64, 24), minutes=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in result.state_dict().items())
