"""The state of a run: what is reported after a validation, and what is needed to resume between two steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run after a validation.

    Attributes:
        step: Steps done.
        part: Of the whole run, 0 to 1.
        loss: Mean over the steps since the last validation.
        psnr: In dB on the held-out images; ``best`` the highest so far, that before the first step included.
        seconds: Wall time of training so far.
    """

    step: int
    part: float
    loss: float
    psnr: float
    best: float
    seconds: float


@dataclass(slots=True)
class Position:
    """The state of a run between two steps.

    Attributes:
        step: Steps done.
        part: Of the whole run, 0 to 1.
        seconds: Wall time of training so far.
        validating: The part of these seconds that validation took.
        entered: Step at which the network got its present form.
        losses: The losses of the steps since the last validation.
        start: PSNR in dB of the weights before the first step; runs of earlier versions did not measure it.
    """

    step: int = 0
    part: float = 0.0
    seconds: float = 0.0
    validating: float = 0.0
    entered: int = 0
    losses: list[float] = field(default_factory=list)
    start: float = -math.inf
