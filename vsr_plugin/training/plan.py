"""Plans the runs of one command."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..models import find_model
from .recipes import RECIPES, find_recipe
from .settings import BEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import Settings

SHIPPED = Path("shipped")  # weights to start from: those that come with the project


def plan_runs(models: Sequence[str], scales: Sequence[int], settings: Settings, *, named: bool) -> list[Settings]:
    """One run for each model whose weights serve all scales, one for each scale of the others.

    Args:
        models: Names in the catalogue.
        scales: The scales to train; all that a model has if empty.
        settings: The common settings of the runs. ``minutes`` are divided evenly, ``start`` may be `SHIPPED`, and
            ``out`` is the folder that holds the runs' folders.
        named: Whether a single run also gets a folder of its own there.

    Returns:
        The runs in order, each once. If the recipe says so, other scales of a model start from its first scale, and a
        model from another, which is then trained before.

    Raises:
        UsageError: a model, scale or recipe is unknown, or there are no shipped weights to start from.
    """
    if not models:
        raise UsageError("Expected a model to train, got none")
    planned: dict[Path, Settings] = {}
    for model in models:
        spec = find_model(model)
        wanted = list(dict.fromkeys(scales)) or list(spec.scales)
        for scale in wanted:
            find_model(model, scale)
        recipe = find_recipe(model, settings.recipe)
        groups = [tuple(wanted)] if spec.shared else [(scale,) for scale in wanted]
        first: Path | None = None
        for group in groups:
            name = model if spec.shared else f"{model}_x{group[0]}"
            out = settings.out / name
            start = _shipped(model, group[0]) if settings.start == SHIPPED else settings.start or first
            if recipe.parent and start is None:
                parent = _parent_run(recipe.parent, group, settings)
                start = planned.setdefault(parent.out, parent).best
            planned.setdefault(out, replace(settings, model=model, scales=group, out=out, start=start))
            if recipe.chained and first is None:
                first = out / BEST
    runs = list(planned.values())
    if len(runs) == 1 and not named:
        return [replace(runs[0], out=settings.out)]
    minutes = settings.minutes and settings.minutes / len(runs)
    return [replace(run, minutes=minutes) for run in runs]


def _parent_run(model: str, scales: tuple[int, ...], settings: Settings) -> Settings:
    """The run of a model that another starts from, without the settings that are only for the other's recipe."""
    recipe = settings.recipe if (model, settings.recipe) in RECIPES else "fast"
    out = settings.out / f"{model}_x{scales[0]}"
    return replace(settings, model=model, scales=scales, out=out, recipe=recipe, lr=None, vgg=None)


def _shipped(model: str, scale: int) -> Path:
    name = find_model(model, scale).weights(scale)
    if name is None:
        raise UsageError(f"Expected shipped weights of {model} ×{scale} to start from, and there are none", start=None)
    return Path(str(resources.files("vsr_plugin.weights") / name))
