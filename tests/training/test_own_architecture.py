"""A network in one file, with one row in the catalogue and one recipe, goes through everything."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import distance
from tests.networks import Mirrored
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError
from vsr_plugin.evaluation import evaluate
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame
from vsr_plugin.images import read_images
from vsr_plugin.models import MODELS, ModelSpec, load_model, read_model
from vsr_plugin.models.cost import macs, parameters, radius
from vsr_plugin.models.layout import Layout, table
from vsr_plugin.models.published import published_psnr
from vsr_plugin.training.initial import initialize
from vsr_plugin.training.recipes import RECIPES, Recipe
from vsr_plugin.training.settings import Settings
from vsr_plugin.training.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path


class Toy(nn.Module):
    def __init__(self, scale: int, features: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, features, 5, padding=2)
        self.conv2 = nn.Conv2d(features, scale * scale, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.shuffle(self.conv2(self.conv1(x).relu()))
        return result


NAMES = {"conv1": "theirs.0", "conv2": "theirs.1"}
LAYOUTS = (Layout(r"theirs\.0\.weight", table((r"theirs\.(\d)\.(.+)", lambda m, _: f"conv{int(m[1]) + 1}.{m[2]}"))),)


def read_options(state: Any) -> dict[str, Any]:
    return {"features": state["conv1.weight"].shape[0]}


ROW = ModelSpec("toy", "Nobody, 2026", f"{__name__}:Toy", {2: (30.0, 28.0)}, overlap={2: 3}, cost={2: (500, 488)})
RECIPE = Recipe(steps=20, batch=4, patch={2: 12}, lr=1e-3, initial="default")


def start_from_bicubic(self: Toy, patches: Tensor, generator: torch.Generator) -> None:
    for parameter in self.parameters():
        parameter.fill_(float(patches.max()) > 0)


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "toy", ROW)
    monkeypatch.setitem(RECIPES, ("toy", "fast"), RECIPE)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Somebody else's, of a wider network."""
    torch.manual_seed(0)
    state = {
        name.replace("conv1", "theirs.0").replace("conv2", "theirs.1"): x for name, x in Toy(2, 12).state_dict().items()
    }
    torch.save({"params": state}, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def test_its_row_is_right() -> None:
    assert radius(Toy(2), 2, 1) == ROW.overlap[2]
    assert (parameters(Toy(2)), macs(Toy(2))) == ROW.cost[2]
    assert published_psnr("toy", 2, "set14") == 28.0


def test_weights_of_others_are_read_in_their_form(weights: Path) -> None:
    spec, module = read_model("toy", 2, weights)
    assert spec.options == {"features": 12}
    assert torch.equal(module.state_dict()["conv1.weight"], torch.load(weights)["params"]["theirs.0.weight"])


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_backends_run_it_whole_and_in_tiles(weights: Path, backend: str) -> None:
    plane = np.random.default_rng(1).integers(0, 256, (50, 70), np.uint8)
    network = Mirrored(load_model("toy", 2, weights), MODELS["toy"].overlap[2], 2)
    expected = (network(torch.from_numpy(plane)[None, None] / 255)[0, 0] * 255).round().clamp(0, 255)
    tiles: tuple[Literal["off"] | int, ...] = ("off", 32)
    for tile in tiles:
        execution = Execution(backend=backend, device="cpu", precision="float32", tile=tile)
        with Upscaler("toy", 2, execution, weights=weights) as upscaler:
            (large,) = upscaler.upscale([Frame((plane,), 0, Fraction(1), color=ColorSpec())])
        assert distance(large.planes[0], expected) <= 1


def test_it_is_trained_and_evaluated(folder: Path, tmp_path: Path) -> None:
    for _ in (trainer := Trainer(Settings("toy", (2,), (folder,), tmp_path / "run", steps=20))).run():
        pass
    best = load_model("toy", 2, tmp_path / "run" / "best.safetensors")
    assert evaluate(best, 2, read_images(folder)).psnr > 5
    assert trainer.recipe == RECIPE


def test_a_start_from_bicubic_that_it_lacks_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, ("toy", "fast"), replace(RECIPE, initial="bicubic"))
    with pytest.raises(UsageError, match="Toy has no start from bicubic: choose another for its recipe"):
        Trainer(Settings("toy", (2,), (folder,), tmp_path / "run", steps=20))


def test_its_own_start_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "start_from_bicubic", start_from_bicubic, raising=False)
    initialize("bicubic", module := Toy(2), torch.ones(1, 1, 8, 8), torch.Generator())
    assert all((parameter == 1).all() for parameter in module.parameters())
