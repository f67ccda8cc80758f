"""Training in 8 bits brings back a part of what rounding costs."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from torch import Tensor, nn

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


def error(result: QuantizedNetwork, patches: Tensor) -> float:
    with torch.inference_mode():
        return float((result(patches) - network()(patches))[..., 8:-8, 8:-8].square().mean())


def test_the_results_come_nearer_to_those_of_the_float_network() -> None:
    said: list[str] = []
    result = coarse()
    photos, flat = soft_noise(8, 40), torch.linspace(0.1, 0.9, 9).reshape(-1, 1, 1, 1).expand(-1, 1, 24, 24)
    before = error(result, photos), error(result, flat)
    assert distill(result, network(), soft_noise(64, 24), margin=4, minutes=4, say=said.append)
    assert error(result, photos) < 0.2 * before[0]  # biases alone bring 0.6
    assert error(result, flat) < 0.5 * before[1]
    assert all(part.weight.dtype == torch.int8 for part in result.modules() if isinstance(part, QuantizedConvolution))
    assert said[-1].startswith("training in 8 bits: 9")


@pytest.mark.parametrize(("weights", "biases"), [(1000.0, 2e-5), (0.0, 0.05)])
def test_weights_that_come_no_nearer_are_dropped(
    monkeypatch: pytest.MonkeyPatch, weights: float, biases: float
) -> None:
    monkeypatch.setattr(distillation, "_RATE", weights)
    monkeypatch.setattr(distillation, "_BIASES", biases)
    result = quantize(network(), 2, soft_noise(32, 24))
    before = {name: tensor.clone() for name, tensor in result.state_dict().items()}
    assert not distill(result, network(), soft_noise(64, 24), margin=4, minutes=0.2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in result.state_dict().items())


class SpoiledAtTheBorder(nn.Module):
    """Eight samples are too bright."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        large: Tensor = self.inner(x)
        edge = torch.full_like(large, 0.1)
        edge[..., 8:-8, 8:-8] = 0
        return large + edge


def test_what_depends_on_padding_does_not_count() -> None:
    states = []
    for module in (network(), SpoiledAtTheBorder()):
        result = coarse()
        assert distill(result, module, soft_noise(64, 24), margin=8, minutes=0.5)
        states.append(result.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items() if name.endswith("weight"))
