"""Weights in 8 bits are made so that little is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from vsr_plugin.cli.models import models
from vsr_plugin.errors import InputError, OutputError, UsageError
from vsr_plugin.models import read_model
from vsr_plugin.models.quantized import QuantizedConvolution
from vsr_plugin.training.quantization import export_quantized, quantize

WEIGHTS = Path(__file__).parents[2] / "weights"


def app() -> typer.Typer:
    """An app with the command."""
    found = typer.Typer()
    found.add_typer(models)
    return found


def soft_noise(count: int, side: int) -> Tensor:
    """Soft noise."""
    noise = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False) * 1.6 - 0.3


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2)]
    return nn.Sequential(*layers).eval()


def photos(folder: Path) -> None:
    for index in range(9):
        samples = (255 * soft_noise(1, 100)[0, 0].clamp(0, 1)).numpy().astype(np.uint8)
        Image.fromarray(np.roll(samples, index)).save(folder / f"{index}.png")


def test_a_network_in_8_bits_gives_nearly_the_same() -> None:
    module, patches = network(), soft_noise(40, 24)
    result = quantize(module, 2, patches[:32])
    with torch.inference_mode():
        error = 255 * (result(patches[32:]) - module(patches[32:]))[..., 8:-8, 8:-8]
        nearest = quantize(module, 2, patches[:32])
        for part in nearest.modules():
            if isinstance(part, QuantizedConvolution):
                part.weight.copy_((part.weight.float() / 16).round() * 16)  # what four bits would be
        worse = 255 * (nearest(patches[32:]) - module(patches[32:]))[..., 8:-8, 8:-8]
    assert error.square().mean().sqrt() < 0.5
    assert worse.square().mean() > 4 * error.square().mean()


def test_the_same_patches_make_the_same_weights() -> None:
    one, other = (quantize(network(), 2, soft_noise(32, 24)).state_dict() for _ in range(2))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("minutes", [[], ["--minutes", "0.01"]])
def test_a_command_makes_weights_in_8_bits_of_ones_own(tmp_path: Path, minutes: list[str]) -> None:
    photos(tmp_path)
    target = tmp_path / "mine.safetensors"
    words = ["models", "quantize", "fsrcnn-s", str(target), "-x", "2", "--data", str(tmp_path), *minutes]
    result = CliRunner().invoke(app(), words)
    assert result.exit_code == 0, result.output
    _, module = read_model("fsrcnn-s", 2, target, quantized=True)
    assert sum(isinstance(part, QuantizedConvolution) for part in module.modules()) == 5
    again = CliRunner().invoke(app(), words)
    assert again.exit_code != 0


@pytest.mark.parametrize("target", ["no/such/folder.safetensors", "folder"])
def test_where_it_cannot_write_is_said_before_the_work(target: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="Cannot write"):
        export_quantized("fsrcnn-s", 2, tmp_path / target, [tmp_path / "no images"])


@pytest.mark.parametrize("model", ["edsr-baseline", "srresnet", "lapsrn"])
def test_other_networks_are_refused(model: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app(), ["models", "quantize", model, "o.safetensors", "-x", "2", "--data", str(tmp_path)]
    )
    assert result.exit_code != 0
    assert "Expected SRCNN, FSRCNN or ESPCN" in str(result.exception)


@pytest.mark.parametrize("minutes", [float("nan"), float("inf"), -1.0])
def test_a_time_that_is_none_is_refused(minutes: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Expected minutes of training from 0 on, got (nan|inf|-1\.0)"):
        export_quantized("espcn", 2, tmp_path / "a.safetensors", [tmp_path], minutes=minutes)


def test_what_would_be_lost_or_could_not_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes((WEIGHTS / "espcn_x2.safetensors").read_bytes())
    with pytest.raises(OutputError, match="it holds the weights to convert"):
        export_quantized("espcn", 2, own, [tmp_path], weights=own)
    (tmp_path / "manifest.toml").write_text("not [ toml")
    with pytest.raises(InputError, match=r"Cannot read .*manifest"):
        export_quantized("espcn", 2, tmp_path / "new.safetensors", [tmp_path])
    assert not (tmp_path / "new.safetensors").exists()


def test_training_that_brings_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    photos(tmp_path)
    monkeypatch.setattr("vsr_plugin.training.quantization.distill", lambda *_: False)
    export_quantized("fsrcnn-s", 2, tmp_path / "new.safetensors", [tmp_path], minutes=1)
    assert caplog.messages == ["training brought nothing: the weights are only rounded"]
