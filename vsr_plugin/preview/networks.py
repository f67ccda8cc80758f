"""Which networks can be looked through, and which of them keeps up with a clip on this machine."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from ..engine import Upscaler
from ..errors import UsageError, VsrError
from ..execution import Execution
from ..models import MODELS, build_model, find_model, manifest
from ..models.cost import macs
from .pixels import enlarge

if TYPE_CHECKING:
    from pathlib import Path

    from . import Clip

_log = logging.getLogger(__name__)

_TRIAL = 1.0  # seconds for all models that are tried, besides the first frame of each
_HOPELESS = 3.0  # times too slow, after which what has more work to do is not tried
_SHARE = 0.8  # of the time until the next frame that a frame may take; the rest is for decoding and drawing


class Networks:
    """The models that have weights; see `preview.Choice`.

    Attributes:
        own: The model that has weights of the user's own; empty if there are none.

    Args:
        weights: A file of weights for the model ``own``.
        own: ″
        execution: As for `Upscaler`; the batch is one frame.
    """

    def __init__(
        self,
        *,
        weights: Path | None = None,
        own: str = "",
        execution: Execution | None = None,
    ) -> None:
        self._weights = weights
        self.own = own if weights is not None else ""
        self._execution = replace(execution or Execution(), batch=1)

    def models(self, scale: int) -> tuple[str, ...]:
        """Names, in the order of the catalogue."""
        return tuple(name for name in MODELS if scale in self.scales(name))

    def scales(self, model: str) -> tuple[int, ...]:
        """What a model can be opened at."""
        spec = find_model(model)
        if model == self.own:
            return tuple(spec.scales)
        return tuple(scale for scale in spec.scales if spec.weights(scale) is not None)

    def open(self, model: str, scale: int) -> Upscaler:
        """Open one, for one frame at a time.

        Raises:
            VsrError: as `Upscaler` does.
        """
        return Upscaler(model, scale, self._execution, weights=self._weights if model == self.own else None)

    def best(self, clip: Clip, scale: int) -> str:
        """The model of the highest PSNR that keeps up with the clip here; the cheapest if none does.

        From the cheapest on, each is tried on the first frame, for its share of a second, up to the first that is far
        too slow. What counts is a frame as the player makes it.

        Raises:
            UsageError: no model has weights at this scale.
        """
        models = self.models(scale)
        if not models:
            raise UsageError(f"Expected a scale that a model has weights for, got {scale}", scale=...)
        with closing(clip.frames(0.0)) as frames:
            frame, _ = next(frames)
        time_for_one = _SHARE / (clip.frame_rate or 25.0)
        able: dict[str, float] = {}
        by_work = sorted(models, key=lambda name: macs(build_model(MODELS[name], scale)))
        share = _TRIAL / len(models)
        for model in by_work:
            try:
                with self.open(model, scale) as upscaler:
                    enlarge(frame, upscaler, clip.turns)  # compiles
                    taken: list[float] = []
                    while sum(taken) < share:
                        made = enlarge(frame, upscaler, clip.turns)
                        taken.append(made.network_seconds + made.display_seconds)
            except VsrError as error:
                _log.info("%s: %s", model, error)
                continue
            seconds = median(taken)
            limit = 1e3 * time_for_one
            _log.info("%s: %.1f ms a frame, of %.1f at most; %.1f dB", model, 1e3 * seconds, limit, _psnr(model, scale))
            if seconds <= time_for_one:
                able[model] = _psnr(model, scale)
            elif seconds > _HOPELESS * time_for_one:
                rest = by_work[by_work.index(model) + 1 :]
                if rest:
                    _log.info("%s: more work, not tried", ", ".join(rest))
                break
        if not able:
            _log.info("none keeps up with %.4g frames per second here: the cheapest is taken", clip.frame_rate or 25.0)
            return by_work[0]
        return max(able, key=lambda name: able[name])


def _psnr(model: str, scale: int) -> float:
    return float(manifest().get(f"{model}_x{scale}", {}).get("set5", {}).get("psnr", 0.0))
