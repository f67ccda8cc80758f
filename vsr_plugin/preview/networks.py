"""Which networks the preview offers, and which of them keeps up with a clip on this machine."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from ..engine import Upscaler
from ..execution import Execution
from ..models import CLEAN, MODELS, find_model
from ..models.guide import usable
from ..stream.choice import Trial, choose
from .pixels import enlarge

if TYPE_CHECKING:
    from pathlib import Path

    from ..sizes import Size
    from ..stream.choice import Chosen
    from . import Clip

_SHARE = 0.8  # part of the time between frames that a frame may take; the rest is for decoding and drawing


class Networks:
    """The models that have weights; see `preview.Choice`.

    Attributes:
        own: The model with the user's own weights; empty if there are none.

    Args:
        weights: A file of weights for the model ``own``.
        own: ″
        tuned_for: The kind of input that shipped weights are for; models without such weights are left out, and
            with precision int8 those without weights in 8 bits.
        execution: As for `Upscaler`; the batch is one frame.
        size: Size of the output, in place of any scale.
    """

    def __init__(
        self,
        *,
        weights: Path | None = None,
        own: str = "",
        tuned_for: str = CLEAN,
        execution: Execution | None = None,
        size: Size | None = None,
    ) -> None:
        self._size = size
        self._weights = weights
        self.own = own if weights is not None else ""
        self._tuned_for = tuned_for
        self._execution = replace(execution or Execution(), batch=1)
        self._quantized = self._execution.precision == "int8"

    def models(self, scale: int | Size) -> tuple[str, ...]:
        """Names of the models with this scale, in the order of `MODELS`."""
        return tuple(name for name in MODELS if scale in self.scales(name))

    def scales(self, model: str) -> tuple[int | Size, ...]:
        """The scales that a model can be opened at, or the size."""
        spec = find_model(model)
        own = model == self.own
        shipped = usable(self._tuned_for, quantized=self._quantized).get(model, ())
        scales = spec.scales if own else shipped
        return scales if self._size is None else (self._size,) * bool(scales)

    def open(self, model: str, scale: int | Size) -> Upscaler:
        """Open a network for one frame at a time.

        Raises:
            VsrError: as `Upscaler` does.
        """
        if model == self.own:
            return Upscaler(model, scale, self._execution, weights=self._weights)
        return Upscaler(model, scale, self._execution, tuned_for=self._tuned_for)

    def best(self, clip: Clip, scale: int | Size) -> Chosen:
        """The model of the highest PSNR that keeps up with the clip here; the one with the least work if none does.

        The time measured is that of a frame as the player makes it.

        Raises:
            UsageError: no model has weights at this scale, or none reaches the size.
        """
        with closing(clip.frames(0.0)) as frames:
            frame, _ = next(frames)

        def make_frame(upscaler: Upscaler) -> float:
            made = enlarge(frame, upscaler, clip.turns)
            return made.network_seconds + made.display_seconds

        limit = _SHARE / (clip.frame_rate or 25.0)
        trial = Trial.of(scale, frame, self._tuned_for, quantized=self._quantized)
        return choose(trial, limit, lambda name: self.open(name, scale), make_frame)
