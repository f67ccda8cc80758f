"""The network of each job of ``vsr encode``: the named one, or with ``auto`` the best one that is fast enough."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..models import CLEAN, MODELS, check_tuning, check_weights_file, find_model, shipped_weights
from ..models.guide import usable
from ..sizes import Size

if TYPE_CHECKING:
    from ..engine import Upscaler
    from ..execution import Execution
    from ..stream import Encoding, Selection

_log = logging.getLogger(__name__)

AUTO = "auto"


def check_model(
    model: str, scale: int | Size, weights: Path | None, tuned_for: str, fps: float | None, *, quantized: bool
) -> None:
    """Check the choice of a model before torch is loaded.

    Raises:
        UsageError: an unknown model, or one without this scale; options that contradict each other.
        WeightsError: no weights are shipped, or there is no such file.
    """
    if fps is not None and model != AUTO:
        raise UsageError(f"Expected --fps with --model auto, got --model {model}")
    if fps is not None and not fps > 0:
        raise UsageError(f"Expected --fps above 0, got {fps:g}")
    if model == AUTO:
        if weights is not None:
            raise UsageError("Expected --weights with the model they are for, got --model auto")
        check_tuning(tuned_for)
        if isinstance(scale, int) and not any(
            scale in scales for scales in usable(tuned_for, quantized=quantized).values()
        ):
            kind = " in 8 bits" if quantized else ""
            raise UsageError(f"Expected a scale that a model has weights{kind} for, got {scale}", scale=...)
        return
    spec = find_model(model, scale if isinstance(scale, int) else None)
    check_tuning(tuned_for, weights)
    if weights is None:
        there = sorted(spec.scales, key=lambda one: spec.weights(one, tuned_for, quantized=quantized) is None)
        scale = scale if isinstance(scale, int) else there[0]  # for a size, any will do
        shipped_weights(spec, scale, tuned_for, quantized=quantized)
    else:
        check_weights_file(weights)


class Networks:
    """Opens the network of one job after another, one at a time; `close` closes the last one.

    Args:
        model: A name, or auto.
        scale: The scale, or the size of the output.
        execution: As for `Upscaler`.
        weights: ″
        fps: Frames per second that the network chosen by auto must reach.
        tuned_for: As for `Upscaler`.
        quiet: Say nothing.
    """

    def __init__(
        self,
        model: str,
        scale: int | Size,
        execution: Execution,
        weights: Path | None,
        fps: float | None,
        *,
        tuned_for: str = CLEAN,
        quiet: bool,
    ) -> None:
        self._model, self._scale, self._weights, self._execution = model, scale, weights, execution
        self._tuned_for = tuned_for
        self._fps = fps
        self._quiet = quiet
        self._opened: tuple[str, Upscaler] | None = None

    @property
    def size(self) -> tuple[Size | None, tuple[int, ...]]:
        """The requested size, and the scales available for it; ``(None, ())`` if a scale was requested."""
        specs = MODELS.values() if self._model == AUTO else [find_model(self._model)]
        scales = tuple({scale for spec in specs for scale in spec.scales})
        return (self._scale, scales) if isinstance(self._scale, Size) else (None, ())

    def open(self, source: str, target: str, selection: Selection, encoding: Encoding, *, kept: bool) -> Upscaler:
        """The network for a job; it is closed when a later job needs another one.

        Args:
            source: The input.
            target: The output.
            selection: As for `upscale_file`.
            encoding: ″
            kept: Whether the parts of an interrupted job are used, which needs the same network.
        """
        from ..stream.segments.manifest import model_of
        from .progress import waiting

        model = self._model
        if model == AUTO:
            model = (model_of(Path(target)) if kept else None) or self._best(source, target, selection, encoding)
        if self._opened is None or self._opened[0] != model:
            self.close()
            with waiting(f"loading {model}", quiet=self._quiet):
                from ..engine import Upscaler

                kind = {"weights": self._weights, "tuned_for": self._tuned_for}
                self._opened = model, Upscaler(model, self._scale, self._execution, **kind)  # type: ignore[arg-type]
        return self._opened[1]

    def close(self) -> None:
        """Close the network; harmless when called again."""
        if self._opened is not None:
            self._opened[1].close()
        self._opened = None

    def _best(self, source: str, target: str, selection: Selection, encoding: Encoding) -> str:
        from .progress import waiting

        name = Path(source).name
        with waiting(f"{name}: trying which network is fast enough", quiet=self._quiet):
            from ..stream.choice import LEAST_FPS, best_model

            self.close()
            fps = self._fps or LEAST_FPS
            chosen = best_model(
                source,
                self._scale,
                fps,
                output=target,
                selection=selection,
                encoding=encoding,
                execution=self._execution,
                tuned_for=self._tuned_for,
            )
        _log.info("%s: %s", name, chosen.reason(fps))
        return chosen.model
