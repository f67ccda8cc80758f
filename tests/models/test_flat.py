"""Flat areas stay flat up to the border: no shipped network adds a pattern, or moves a level by half a code value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from vsr_plugin.backends import Device, open_backend
from vsr_plugin.backends.openvino import OpenVINOBackend
from vsr_plugin.models import MODELS, TUNINGS, load_model
from vsr_plugin.passes import Pass
from vsr_plugin.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from vsr_plugin.backends import Backend, Precision

LEVELS = range(16, 236)  # code values of 8 bits
FEWER = [*LEVELS[::24], LEVELS[-1]]
LIGHT = 150_000  # multiply-accumulates per input pixel: networks up to here are asked for every level
MOST = 0.5  # code values
CPU = Device("cpu")
SIDE = 12  # samples of a frame: none is farther than six from two borders


def _shipped(*, heavy: bool = True) -> Iterator[Any]:
    for name, spec in MODELS.items():
        for scale in spec.scales:
            for tuned_for in TUNINGS:
                if spec.weights(scale, tuned_for) is None:
                    continue
                light = spec.cost[scale][1] <= LIGHT
                if light or heavy:
                    yield name, scale, tuned_for, LEVELS if light else FEWER
                if not light:
                    yield pytest.param(name, scale, tuned_for, LEVELS, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "scale", "tuned_for", "levels"), list(_shipped()))
def test_flat_areas_stay_flat(name: str, scale: int, tuned_for: str, levels: Any) -> None:
    module = load_model(name, scale, tuned_for=tuned_for)
    assert _worst(module, name, scale, levels, open_backend("eager"), "float32") <= MOST


@pytest.mark.parametrize(("name", "scale", "tuned_for", "levels"), list(_shipped(heavy=False)))
def test_flat_areas_stay_flat_in_the_default_precision(
    name: str, scale: int, tuned_for: str, levels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a processor that is faster in bfloat16; OpenVINO computes in float32 where there is none."""
    monkeypatch.setattr(OpenVINOBackend, "fast_bfloat16", lambda _backend: True)
    backend: Backend = open_backend("openvino")
    module = load_model(name, scale, tuned_for=tuned_for)
    precision = backend.default_precision([Source.of(module)], MODELS[name], CPU)
    assert _worst(module, name, scale, levels, backend, precision) <= MOST


def _worst(module: nn.Module, name: str, scale: int, levels: Any, backend: Backend, precision: Precision) -> float:
    """Code values by which a level moves, or by which the samples that are made of one sample differ."""
    spec = MODELS[name]
    enlarge = Pass(Source.of(module), spec, scale, backend, CPU, precision, self_ensemble=False)
    level = torch.tensor(levels).reshape(-1, 1, 1, 1)
    with torch.inference_mode():
        small = (level / 255).expand(-1, spec.channels, SIDE, SIDE)
        large = 255 * torch.cat([enlarge(some, len(some), None) for some in torch.split(small, 11)])
    phases = large.reshape(*large.shape[:2], SIDE, scale, SIDE, scale).mean((1, 2, 4)).flatten(1)
    return max(float((large - level).abs().max()), float((phases.amax(1) - phases.amin(1)).max()))
