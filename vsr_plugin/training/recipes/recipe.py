"""The settings that make up a training recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run in which the network is smaller, or the patches have another size.

    Attributes:
        share: Share of the run.
        form: Options of the network's class in place of the model's own: the network grows from stage to stage, and
            its results stay the same (see `growth`).
        draws: Attribute of the network → values, one of which is drawn at each step.
        patch: Sizes in place of the recipe's.
    """

    share: float
    form: Mapping[str, int] = field(default_factory=dict)
    draws: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    patch: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """All settings of a training except the images, the scale, and the seed.

    Attributes:
        steps: The number of steps, unless the user gives another.
        batch: Patches per step.
        patch: Rows and columns of a small patch, per scale.
        lr: Peak learning rate.
        view: The comparison, by name in `losses.VIEWS`.
        loss: The loss, by name in `losses.LOSSES`.
        optimizer: The optimizer, by name in `optimization.OPTIMIZERS`.
        schedule: The learning rate after warm-up: ``constant``, ``cosine`` down to 0, ``geometric`` down to lr/100, or
            ``stairs``.
        stairs: (part of the run, factor): after each such part, the learning rate is multiplied by the factor.
        warmup: Part of the steps in which the learning rate rises from 0.
        multipliers: Prefix of a parameter's name → factor of its learning rate.
        trained: Prefixes of the names of the parameters that are trained.
        rescaled: Prefixes of the names of those that depend on the scale: initialized if ``--from`` has another scale.
        ema: Decay of the average of the weights that is kept and validated; 0 keeps the last weights.
        decay: Weight decay: the share of the weights that is added to their gradient.
        clip: θ of adjustable gradient clipping: each gradient stays within ±θ/learning rate; 0 is no clipping.
        mixed: For a model that serves all scales: whether each batch has all of them; otherwise steps take turns.
        parent: Model whose weights of the same scale are the initial ones; it is trained before, if none are given.
        content: For training with a discriminator: the content loss, ``vgg54``, ``vgg22`` or ``mse``.
        grid: Weight of `adversarial.unequal_phases` relative to the content loss.
        chained: Whether, of several scales that are trained one after another, the others start from the first.
        initial: Name of the initial weights; see `initial.initialize`.
        sizes: Each image is used at each of these sizes, and always in its eight orientations.
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
        """The index of a run's stage when ``part`` of the run is done."""
        ends = accumulate(stage.share for stage in self.stages[:-1])
        return sum(part >= end for end in ends)

    def as_grown(self) -> Recipe:
        """The same recipe for initial weights of the whole network."""
        return replace(self, stages=tuple(replace(stage, form={}, draws={}) for stage in self.stages))

    def side(self, scale: int, stage: int) -> int:
        """Rows and columns of a small patch."""
        return (self.stages[stage].patch or self.patch)[scale]
