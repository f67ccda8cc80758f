"""The settings that make up a training recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run in which the network is smaller, or the patches are others.

    Attributes:
        share: Of the run.
        form: Options of the network's class in place of the model's own: the network grows from stage to stage, and
            what it computes stays as it is (see `growth`).
        draws: Attribute of the network → values, one of which is drawn at each step.
        patch: In place of the recipe's.
    """

    share: float
    form: Mapping[str, int] = field(default_factory=dict)
    draws: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    patch: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything about a training but the images, the scale, and the seed.

    Attributes:
        steps: How many, unless the user says otherwise.
        batch: Patches per step.
        patch: Rows and columns of a small patch, per scale.
        lr: Peak learning rate.
        view: What is compared, by name in `losses.VIEWS`.
        loss: How, by name in `losses.LOSSES`.
        optimizer: By name in `optimization.OPTIMIZERS`.
        schedule: The learning rate after warm-up: ``constant``, ``cosine`` down to 0, ``geometric`` down to lr/100, or
            ``stairs``.
        stairs: (part of the run, factor): after each such part, the learning rate is multiplied by the factor.
        warmup: Part of the steps in which the learning rate rises from 0.
        multipliers: Start of a parameter's name → factor of its learning rate.
        trained: Starts of the names of the parameters that are trained.
        rescaled: Starts of the names of those that depend on the scale: new when ``--from`` has another scale.
        ema: Decay of the average of the weights that is kept and validated; 0 keeps the last weights.
        decay: Of the weights: what of them is added to their gradient.
        clip: θ of adjustable gradient clipping: each gradient stays within ±θ/learning rate; 0 does without.
        mixed: Of a model that serves all scales, whether each step sees all of them in its batch, or takes turns.
        parent: Model whose weights of the same scale are the first ones; it is trained before, if none are given.
        content: For training against a discriminator: what it is added to, ``vgg54``, ``vgg22`` or ``mse``.
        grid: What `adversarial.unequal_phases` counts beside that.
        chained: Whether, of several scales that are trained one after another, the others start from the first.
        initial: First weights, by name; see `initial.initialize`.
        sizes: Each image is there at each of these sizes; its eight orientations are always there.
        flat: Share of the patches that have no detail (see `flat`).
        stages: Parts of the run, whose shares add up to 1; given weights to start from, all have the model's own form.
    """

    steps: int
    batch: int
    patch: Mapping[int, int]
    lr: float
    view: str = "whole"
    loss: str = "mse"
    optimizer: str = "adam"
    schedule: Literal["constant", "cosine", "geometric", "stairs"] = "cosine"
    stairs: tuple[float, float] = (1.0, 1.0)
    warmup: float = 0.02
    multipliers: Mapping[str, float] = field(default_factory=dict)
    trained: tuple[str, ...] = ("",)
    rescaled: tuple[str, ...] = ()
    ema: float = 0.999
    decay: float = 0.0
    clip: float = 0.0
    mixed: Literal["batch", "turns"] = "batch"
    parent: str = ""
    content: Literal["", "vgg54", "vgg22", "mse"] = ""
    grid: float = 0.0
    chained: bool = True
    initial: str = "bicubic"
    sizes: tuple[float, ...] = (1.0, 0.8, 0.6)
    flat: float = 0.0
    stages: tuple[Stage, ...] = (Stage(1.0),)

    def stage_at(self, part: float) -> int:
        """Which stage a run is in when ``part`` of it is over."""
        ends = accumulate(stage.share for stage in self.stages[:-1])
        return sum(part >= end for end in ends)

    def as_grown(self) -> Recipe:
        """The same for weights that are those of the whole network already."""
        return replace(self, stages=tuple(replace(stage, form={}, draws={}) for stage in self.stages))

    def side(self, scale: int, stage: int) -> int:
        """Rows and columns of a small patch."""
        return (self.stages[stage].patch or self.patch)[scale]
