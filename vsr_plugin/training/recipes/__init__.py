"""The training of each network, as data: one row per (model, recipe) in `RECIPES`.

``paper`` follows the network's paper as closely as a fixed number of steps allows; ``fast`` is our own and reaches more
in minutes than ``paper`` in days; ``adam`` is ``fast`` without SOAP; ``deconvolution`` trains FSRCNN for another scale
from weights for one (``--from``): everything else is shared between scales and is not changed.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from ...errors import UsageError
from .luma import LUMA
from .recipe import Recipe, Stage
from .rgb import RGB

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RECIPES", "Recipe", "Stage", "find_recipe"]

RECIPES: Mapping[tuple[str, str], Recipe] = {**LUMA, **RGB}


def find_recipe(model: str, name: str) -> Recipe:
    """The recipe of this name for a model.

    Raises:
        UsageError: the model has none of this name; the message lists those it has.
    """
    known = sorted(recipe for owner, recipe in RECIPES if owner == model)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"Unknown recipe {name!r} for {model}.{hint} Its recipes: {', '.join(known) or 'none'}")
    return RECIPES[model, name]
