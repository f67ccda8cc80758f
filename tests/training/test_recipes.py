"""Recipes are rows of a table, and every row makes sense."""

from __future__ import annotations

import pytest
import torch

from vsr_plugin.errors import UsageError
from vsr_plugin.models import MODELS, build_model
from vsr_plugin.training.initial import initialize
from vsr_plugin.training.losses import LOSSES
from vsr_plugin.training.optimization import OPTIMIZERS, learning_rate
from vsr_plugin.training.recipes import RECIPES, Recipe, find_recipe

ROWS = [pytest.param(*key, recipe, id="-".join(key)) for key, recipe in RECIPES.items()]


def test_every_model_has_its_papers_recipe_and_ours() -> None:
    for model in MODELS:
        assert (model, "paper") in RECIPES
        assert (model, "fast") in RECIPES


@pytest.mark.parametrize(("model", "name", "recipe"), ROWS)
def test_names_in_a_recipe_exist(model: str, name: str, recipe: Recipe, small_networks: None) -> None:
    assert recipe.loss in LOSSES
    assert recipe.optimizer in OPTIMIZERS
    assert set(recipe.patch) == set(MODELS[model].scales), "a patch for each scale that the model has"
    module = build_model(MODELS[model], MODELS[model].scales[0])
    patches = torch.rand(2, MODELS[model].channels, 12, 12, generator=torch.Generator().manual_seed(0))
    initialize(recipe.initial, module, patches, torch.Generator().manual_seed(0))
    parameters = [parameter for parameter, _ in module.named_parameters()]
    for start in (*recipe.multipliers, *recipe.trained, *recipe.rescaled):
        assert any(parameter.startswith(start) for parameter in parameters), (name, start)


def test_deep_networks_under_plain_descent_have_their_gradients_clipped() -> None:
    clipped = {model for (model, name), recipe in RECIPES.items() if recipe.clip}
    assert clipped == {"vdsr", "drcn", "drrn", "drrn-b1u9"}


def test_adam_is_the_papers() -> None:
    """EDSR's, section 4.2; the others leave the second at what it usually is."""
    parameter = torch.zeros(1, requires_grad=True)
    for (_, name), recipe in RECIPES.items():
        if name == "paper" and recipe.optimizer != "sgd":
            optimizer = OPTIMIZERS[recipe.optimizer]([parameter], recipe.lr)
            assert (type(optimizer), optimizer.defaults["betas"]) == (torch.optim.Adam, (0.9, 0.999))


def test_fsrcnn_reaches_another_scale_by_its_deconvolution_alone() -> None:
    assert find_recipe("fsrcnn", "deconvolution").trained == ("deconvolution",)
    assert find_recipe("fsrcnn", "deconvolution").rescaled == ("deconvolution",)


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'fsat' for espcn\. Did you mean 'fast'\? Its recipes: fast, paper"):
        find_recipe("espcn", "fsat")


def test_a_short_run_rises_slowly() -> None:
    """Its whole schedule fits in a few steps, in which no network may be thrown off what it starts from."""
    recipe = find_recipe("vdsr", "fast")
    rates = [learning_rate(recipe, step / 24, step) for step in range(24)]
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert rates[0] < 0.01
    assert learning_rate(recipe, 0.2, 6000) == learning_rate(recipe, 0.2) > 0.9
    assert learning_rate(recipe, 0.2, 20, total=25) == learning_rate(recipe, 0.2) / 4


def test_our_recipes_show_patches_without_detail() -> None:
    assert all(bool(recipe.flat) == (name != "paper") for (_, name), recipe in RECIPES.items() if not recipe.content)
