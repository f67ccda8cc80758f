"""Images to train on, and networks small enough to be trained in a test."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import av
import pytest
import torch

from tests.networks import SMALL
from vsr_plugin.models import MODELS
from vsr_plugin.training import adversarial, trainer
from vsr_plugin.training.recipes import RECIPES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images with edges in all directions."""
    path = tmp_path_factory.mktemp("images")
    y, x = torch.meshgrid(torch.arange(108.0), torch.arange(120.0), indexing="ij")
    for index in range(12):
        angle = torch.tensor(index * 0.5)
        wave = torch.sin((x * torch.cos(angle) + y * torch.sin(angle)) * (0.1 + 0.03 * index))
        luma = (127.5 + 100 * wave.sign()).byte().numpy()
        av.VideoFrame.from_ndarray(luma, format="gray").save(path / f"{index:02}.png")
    return path


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network of the catalogue small, SRGAN's adversary as well, and trained in batches of 3 small patches."""
    monkeypatch.setattr(adversarial, "_WIDTHS", (4, 4, 8, 8, 8, 8, 8, 8))
    for name, spec in MODELS.items():
        options = {**spec.options, **SMALL.get(spec.architecture, {})}
        monkeypatch.setitem(MODELS, name, replace(spec, options=options))
    for key, recipe in RECIPES.items():
        patch = {scale: 32 // scale if recipe.content else min(side, 12) for scale, side in recipe.patch.items()}
        if recipe.view == "valid":
            patch = dict(recipe.patch)
        small = SMALL.get(MODELS[key[0]].architecture, {})
        stages = tuple(
            replace(
                stage,
                form={option: small[option] // 2 for option in stage.form},
                draws=dict.fromkeys(stage.draws, (1, 2)),
                patch=stage.patch and patch,
            )
            for stage in recipe.stages
        )
        monkeypatch.setitem(RECIPES, key, replace(recipe, batch=3, patch=patch, stages=stages))
    monkeypatch.setattr(trainer, "_VALIDATION_SHARE", 1000.0)  # at every opportunity
