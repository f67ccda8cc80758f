"""Convolutions before a pixel shuffle are computed in blocks, borders are left out, and nothing else changes."""

from __future__ import annotations

import platform

import pytest
import torch
from torch import nn

from tests.networks import seeded, small
from vsr_plugin.backends import Device, Precision, openvino, tracing
from vsr_plugin.backends.packing import with_packed_shuffle, without_padding
from vsr_plugin.models import NetworkSpec, find_model, load_model
from vsr_plugin.models.deconvolution import with_subpixel_deconvolutions
from vsr_plugin.sources import Source


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies 16 channels at once."""
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")


def convolutions(module: nn.Module) -> list[tuple[int, tuple[int, ...]]]:
    return [(part.out_channels, part.stride) for part in module.modules() if isinstance(part, nn.Conv2d)]


@pytest.mark.parametrize("model", ["espcn", "fsrcnn", "fsrcnn-s"])
@torch.no_grad()
def test_a_packed_network_makes_the_same_numbers(model: str) -> None:
    module = with_subpixel_deconvolutions(load_model(model, 2)).double()
    before = convolutions(module)
    x = torch.rand(2, 1, 12, 18, dtype=torch.float64)
    packed = with_packed_shuffle(module, x)
    torch.testing.assert_close(packed(x), module(x), rtol=0, atol=1e-13)
    assert convolutions(packed)[-1] == (16, (2, 2))
    assert convolutions(module) == before  # which shares its other layers


@pytest.mark.parametrize("shape", [(11, 18), (12, 17)])
@torch.no_grad()
def test_an_odd_number_of_rows_or_columns_is_left_as_it_is(shape: tuple[int, int]) -> None:
    module = load_model("espcn", 2)
    assert with_packed_shuffle(module, torch.rand(1, 1, *shape)) is module


@torch.no_grad()
def test_an_arm_processor_gets_the_network_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    module = load_model("espcn", 2)
    assert with_packed_shuffle(module, torch.rand(1, 1, 12, 18)) is module


class Twice(nn.Module):
    """The result of a convolution goes to a shuffle not alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        large: torch.Tensor = self.shuffle(y + y.mean(1, keepdim=True))
        return large


class Shared(nn.Module):
    """The convolution before a shuffle is used elsewhere, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large: torch.Tensor = self.shuffle(self.layer(x * self.layer(x)[:, :1]))
        return large


class Decides(nn.Module):
    """What `torch.fx` cannot trace."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    "module", [Twice(), Shared(), Decides(), nn.Sequential(nn.Conv2d(1, 9, 3, padding=1), nn.PixelShuffle(3))]
)
@torch.no_grad()
def test_what_cannot_be_packed_is_left_as_it_is(module: nn.Module) -> None:
    assert with_packed_shuffle(module, torch.rand(1, 1, 12, 16)) is module


@pytest.mark.parametrize(("model", "scale"), [("espcn", 2), ("espcn", 3), ("fsrcnn", 4), ("fsrcnn-s", 2)])
@torch.no_grad()
def test_a_chain_of_layers_needs_no_padding(model: str, scale: int) -> None:
    module, spec = with_subpixel_deconvolutions(load_model(model, scale)).double(), find_model(model)
    before = str(module)
    x = torch.rand(2, 1, 32, 33, dtype=torch.float64)
    bare, rim = without_padding(module, x, spec, 1)
    assert 0 < rim <= spec.overlap[scale] * scale
    assert str(module) == before
    large = module(x)
    torch.testing.assert_close(bare(x), large[..., rim:-rim, rim:-rim], rtol=0, atol=1e-13)


# Layers whose input is added to their output, and one that reaches farther than frames are extended.
@pytest.mark.parametrize("model", ["vdsr", "drcn", "edsr-baseline"])
def test_other_networks_keep_their_padding(model: str) -> None:
    spec = small(model, 2)
    module, x = seeded(spec, 2), torch.rand(1, spec.channels, 32, 32)
    assert without_padding(module, x, spec, 1) == (module, 0)


@torch.no_grad()
def test_a_network_that_reaches_beyond_the_extension_keeps_its_padding() -> None:
    module, x = nn.Sequential(nn.Conv2d(1, 1, 19, padding=9), nn.Conv2d(1, 1, 3, padding=1)), torch.rand(1, 1, 40, 40)
    assert without_padding(module, x, NetworkSpec(overlap={1: 10}), 1) == (module, 0)
    narrow = nn.Sequential(nn.Conv2d(1, 1, 13, padding=6), nn.Conv2d(1, 1, 3, padding=1))
    assert without_padding(narrow, x, NetworkSpec(overlap={1: 7}), 1)[1] == 7


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(28, 40), (27, 40), (28, 41)])
@pytest.mark.parametrize("model", ["espcn", "fsrcnn-s"])
def test_in_openvino_packing_changes_no_bit(
    model: str, shape: tuple[int, int], precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, spec, x = load_model(model, 2), find_model(model), torch.rand(1, 1, *shape)
    results = []
    for _ in range(2):
        backend = openvino.OpenVINOBackend(threads=1)
        if precision == "bfloat16":
            source = Source.of(load_model("espcn", 2))
            if backend.default_precision([source], spec, Device("cpu")) != precision:
                pytest.skip("no fast bfloat16")
        results.append(backend.compile(module, spec, (1, 1, *shape), precision, Device("cpu"))(x))
        monkeypatch.setattr(tracing, "with_packed_shuffle", lambda module, _: module)
    assert results[0].shape == (1, 1, 2 * shape[0], 2 * shape[1])
    assert torch.equal(*results)


def test_one_backend_compiles_even_and_odd_sizes_in_any_order() -> None:
    module, spec, backend = load_model("espcn", 2), find_model("espcn"), openvino.OpenVINOBackend(threads=1)
    for height, width in [(28, 40), (27, 40), (30, 41), (28, 42), (27, 41)]:
        x = torch.rand(1, 1, height, width)
        large = backend.compile(module, spec, (1, 1, height, width), "float32", Device("cpu"))(x)
        torch.testing.assert_close(large, module(x), rtol=0, atol=1e-5)
