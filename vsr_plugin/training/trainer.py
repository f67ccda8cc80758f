"""The training loop: seeded, resumable to the same numbers, validated on images that it does not train on.

A run is a folder: ``best.safetensors`` (the average of the weights that validated best; the initial ones until training
has made better ones), ``run.json`` (the settings and the results), ``checkpoint.pt`` (everything needed to resume), and
``curve.png`` if requested.
"""

from __future__ import annotations

import json
import math
import time
from copy import deepcopy
from dataclasses import asdict
from functools import cached_property
from pickle import UnpicklingError
from statistics import mean
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import BackendError, InputError, OutputError, UsageError
from ..models import find_model, set_scale
from .adversarial import Adversary, open_features
from .curve import draw_curve
from .data import Patches, shrunk_pairs, split
from .films import read_training_images
from .flat import emphasize, flatten_some
from .growth import Forms
from .losses import LOSSES, VIEWS
from .matches import refuse_matches
from .optimization import learning_rate, make_optimizer
from .progress import Position, Progress
from .recipes import find_recipe
from .settings import CHECKPOINT
from .transfer import ancestors, load_start
from .validation import Validation
from .video import VideoPairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .settings import Settings

VALIDATIONS = 20  # per run, at most
_HELD_OUT = 8  # images per folder
_VALIDATION_SHARE = 0.05  # of the time, at most
_SAVING = 30.0, 50  # at least so many seconds between two saves, and so many times the time of a save
_MEASURING = 3  # a validation costs at most so many times the network's work: images are compared, too


class Trainer:
    """One run; `run` trains it to its end.

    Attributes:
        kept: The step that an interrupted run would resume from; None if nothing is saved yet.

    Args:
        settings: The settings of the run.
        resume: Resume from the folder's checkpoint.
        say: Called before the first step with a line on what is being done.

    Raises:
        UsageError: settings are unknown, contradict each other, or contradict those of the run to resume.
        InputError: images cannot be read, there is nothing to resume, or the checkpoint is damaged.
        WeightsError: ``start`` does not fit the model.
        OutputError: the folder of the run already holds another run.
    """

    def __init__(
        self, settings: Settings, *, resume: bool = False, say: Callable[[str], object] = lambda what: None
    ) -> None:
        specs = [find_model(settings.model, scale) for scale in settings.scales]
        self.spec = spec = specs[0]
        self.settings = settings
        recipe = find_recipe(settings.model, settings.recipe)
        self.recipe = recipe if settings.start is None else recipe.as_grown()
        self._checkpoint_path = settings.out / CHECKPOINT
        settings.check_folder(resume=resume)
        self.device = settings.check()
        if len(specs) > 1 and not spec.shared:
            raise UsageError(f"Expected one scale for {spec.name}, whose weights depend on it, got {settings.scales}")
        if self.recipe.parent and settings.start is None:
            parent = f"{self.recipe.parent}_x{settings.scales[0]}.safetensors"
            raise UsageError(f"Expected weights of {self.recipe.parent} for {spec.name} to start from", start=parent)
        self.steps = settings.steps or self.recipe.steps
        self._generator = torch.Generator().manual_seed(settings.seed)
        read = [read_training_images(path, spec.channels, say) for path in settings.data]
        if not resume:
            refuse_matches(read, settings.benchmarks)
        folders = [split(images, _HELD_OUT) for images in read]
        held_out = [image for _, images in folders for image in images]
        degraded = settings.degradation == "video"
        self._validation = Validation(held_out, settings.scales, spec.channels, self.device, degraded=degraded)
        self._view = VIEWS[self.recipe.view]
        stages = range(len(self.recipe.stages))
        self._patches = Patches(
            [kept for kept, _ in folders],
            spec.channels,
            {scale: max(self.recipe.side(scale, stage) for stage in stages) for scale in settings.scales},
            {divisor for scale in settings.scales for divisor in self._view.divisors(scale)},
            self.recipe.sizes,
            self.device,
            settings.shares,
            VideoPairs(settings.scales, len(folders), settings.seed) if degraded else shrunk_pairs,
            lambda made: say(f"shrinking images: {made} made"),
        )
        self._first, _ = self._patches.draw(64, settings.scales[0], self._generator)
        self._stage = 0
        self._forms = Forms(spec, settings.scales[0], self.recipe.initial, self._first, self.device)
        self.module = self._forms.build(self.recipe.stages[0].form, self._generator)
        self._ancestors = ancestors(settings.start)
        if settings.start is not None:
            load_start(self.module, settings.start, settings.scales, self.recipe.rescaled, self._first)
        self.average = deepcopy(self.module)
        self._adversary: Adversary | None = None
        if self.recipe.content:
            features = open_features(self.recipe.content, settings.vgg, self.module)
            scale = settings.scales[0]
            side = scale * self.recipe.patch[scale]
            self._adversary = Adversary(
                features, side, scale, self.recipe.grid, self.device, self._generator, settings.precision
            )
        elif settings.vgg is not None:
            raise UsageError(f"Expected no weights of VGG19 for the recipe {settings.recipe!r}", vgg=None)
        self._optimizer = self._open_optimizer()
        self._at = Position()
        self.kept: int | None = None
        self._unsaved = b""  # the best weights, until they are written
        self._next_save = 0.0  # in seconds of the run, unless a validation comes before
        self.history: list[Progress] = []
        if resume:
            self._restore()

    @cached_property
    def baseline(self) -> float:
        """PSNR in dB that training must exceed to be of use: that of the weights it starts from, or of bicubic."""
        start = self.settings.start
        if start is None:
            return self._validation.bicubic()
        fresh = self._forms.build({})
        load_start(fresh, start, self.settings.scales, self.recipe.rescaled, self._first)
        return self._validation.psnr(fresh)

    def run(self, on_step: Callable[[int, float, float], object] | None = None) -> Iterator[Progress]:
        """Train to the end; yields after every validation, when the state is saved.

        Args:
            on_step: Called after every step with the number of steps done, the part of the run that is done, and the
                seconds it has taken so far.

        Raises:
            UsageError: the learning rate is so high that the loss becomes NaN or infinite.
            OutputError: the run's folder cannot be written.
        """
        at = self._at
        begun = time.monotonic() - at.seconds
        if not at.step:
            start = self.validate()
            at.start = start if math.isfinite(start) else -math.inf
            at.seconds = at.validating = time.monotonic() - begun
            self._save(improved=True)
        losses = self._losses()
        while at.part < 1.0:
            losses.append(self._step(at.step, at.part))
            at.step += 1
            at.seconds = time.monotonic() - begun
            before, at.part = at.part, self._part(at.step, at.seconds)
            if on_step is not None:
                on_step(at.step, at.part, at.seconds)
            due = at.part == 1.0 or int(at.part * VALIDATIONS) > int(before * VALIDATIONS)
            if not due and at.seconds < self._next_save:
                continue
            at.losses = torch.stack(losses).tolist()
            losses = self._losses()
            if not all(map(math.isfinite, at.losses)):
                lower = float(f"{(self.settings.lr or self.recipe.lr) / 3:.1g}")
                raise UsageError(f"Expected a finite loss, got {at.losses[-1]} by step {at.step}", lr=lower)
            validated = self.history[-1].step if self.history else 0
            if not due or (at.part < 1.0 and at.step - validated < self._rarely):
                self._save(improved=False)
                continue
            loss, at.losses = math.fsum(at.losses) / len(at.losses), []
            losses.clear()
            psnr = self.validate()
            best = max([at.start, psnr, *(progress.best for progress in self.history)])
            before_it, at.seconds = at.seconds, time.monotonic() - begun
            at.validating += at.seconds - before_it
            self.history.append(Progress(at.step, at.part, loss, psnr, best, at.seconds))
            # A discriminator makes PSNR lower: with one, the last weights are the best.
            self._save(improved=psnr == best or self._adversary is not None)
            yield self.history[-1]

    def _losses(self) -> list[Tensor]:
        """The losses since the last validation, as tensors on the device."""
        return list(torch.tensor(self._at.losses, device=self.device))

    def verdict(self) -> str:
        """One line on what is wrong with the weights of a finished run; empty if they are of use."""
        best = self.history[-1].best
        if self._adversary is not None or best > max(self.baseline, self._at.start):
            return ""
        rival = "bicubic enlargement" if self.settings.start is None else "the weights they started from"
        if self.baseline < self._at.start:
            rival = "before the first step"
        kept = "It holds the weights from before the first step: " if best == self._at.start else ""
        return (
            f"{self.settings.best} is no better than {rival}: {best:.2f} dB, and "
            f"{max(self.baseline, self._at.start):.2f} dB. {kept}{self.history[-1].step} steps were too few, "
            "or the learning rate too high"
        )

    def draw_curve(self) -> str:
        """Draw the loss curve into the run's folder; returns one line with its path, or why it could not be drawn."""
        path = self.settings.out / "curve.png"
        try:
            scales = ", ".join(f"×{scale}" for scale in self.settings.scales)
            draw_curve(self.history, f"{self.settings.model} {scales}, {self.settings.recipe}", path)
        except (BackendError, OutputError) as error:
            return str(error)
        return f"Loss curve: {path}"

    def validate(self) -> float:
        """PSNR in dB of the averaged weights on the held-out images, in float32; the mean over the scales.

        A network that has still to grow is validated in its final form, grown from its present weights.
        """
        for average, module in zip(self.average.buffers(), self.module.buffers(), strict=True):
            average.copy_(module)
        return self._validation.psnr(self._grown(self.average, {}))

    @cached_property
    def _rarely(self) -> int:
        """The fewest steps between two validations, so that these take at most 5 % of the time."""
        stage, scales = self.recipe.stages[self._stage], self.settings.scales
        form = {**stage.form, **{name: round(mean(values)) for name, values in stage.draws.items()}}
        validation = sum(self._validation.samples / scale**2 * self._forms.macs({}, scale) for scale in scales)
        areas = {scale: self.recipe.side(scale, self._stage) ** 2 for scale in scales}
        forward = self.recipe.batch * mean(areas[scale] * self._forms.macs(form, scale) for scale in scales)
        step = 3 * forward  # backward is twice as much
        if self.settings.precision == "bfloat16":
            step /= 2
        return math.ceil(_MEASURING * validation / step / _VALIDATION_SHARE)

    def _grown(self, module: nn.Module, form: Mapping[str, int]) -> nn.Module:
        """A network of the present stage, grown into another form; itself if there is nothing to grow."""
        present = self.recipe.stages[self._stage]
        return module if present.form == form and not present.draws else self._forms.grown(module, form)

    def _enter(self, stage: int, step: int) -> None:
        """Continue with the network of another stage."""
        form = self.recipe.stages[stage].form
        shapes = [parameter.shape for parameter in self.module.parameters()]
        self.module, self.average = self._grown(self.module, form), self._grown(self.average, form)
        state = self._optimizer.state_dict()
        self._optimizer = self._open_optimizer()
        if shapes == [parameter.shape for parameter in self.module.parameters()]:
            self._optimizer.load_state_dict(state)
        else:
            self._at.entered = step
        self._stage = stage
        self.__dict__.pop("_rarely", None)

    def _open_optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.module, self.recipe, self.settings.lr or self.recipe.lr)

    def _part(self, step: int, seconds: float) -> float:
        minutes = self.settings.minutes
        return min(1.0, step / self.steps if minutes is None else seconds / (60.0 * minutes))

    def _step(self, step: int, part: float) -> Tensor:
        stage = self.recipe.stage_at(part)
        if stage != self._stage:
            self._enter(stage, step)
        for name, values in self.recipe.stages[stage].draws.items():
            setattr(self.module, name, values[int(torch.randint(len(values), (1,), generator=self._generator))])
        total = self.steps if self.settings.minutes is None else step / part if part else math.inf
        rate = learning_rate(self.recipe, part, step - self._at.entered, total)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self._optimizer.zero_grad()
        scales = self.settings.scales
        if self.recipe.mixed == "turns":
            scales = (scales[int(torch.randint(len(scales), (1,), generator=self._generator))],)
        losses = [self._backward(scale, part, 1 / len(scales)) for scale in scales]
        if self.recipe.clip:
            for group in self._optimizer.param_groups:
                nn.utils.clip_grad_value_(group["params"], self.recipe.clip / max(group["lr"], 1e-12))
        self._optimizer.step()
        decay = min(self.recipe.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.module.parameters()), 1.0 - decay)
        return torch.stack(losses).sum()

    def _backward(self, scale: int, part: float, share: float) -> Tensor:
        """Add the gradient of one scale's share of a batch; returns its share of the loss, detached."""
        count = max(1, round(self.recipe.batch * share))
        side = self.recipe.side(scale, self._stage)
        small, targets = self._patches.draw(count, scale, self._generator, self._view.divisors(scale), side)
        flat = 0
        if self.recipe.flat:
            small, targets, flat = flatten_some(small, targets, self.recipe.flat, self._generator)
        small = small.contiguous(memory_format=torch.channels_last)
        self.module.train()
        set_scale(self.module, scale)
        bfloat16 = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            comparisons = self._view.compare(self.module, small, targets, part)
        compare = LOSSES[self.recipe.loss]
        if self._adversary:
            compare = self._adversary.loss
        pairs = [(emphasize(each.output.float(), each.target, flat, count), each.target) for each in comparisons]
        losses = [each.weight * compare(*pair) for each, pair in zip(comparisons, pairs, strict=True)]
        loss = torch.stack(losses).sum() * share
        loss.backward()  # type: ignore[no-untyped-call]
        if self._adversary:
            lr = self._optimizer.param_groups[0]["lr"]
            for each in comparisons:
                self._adversary.learn(each.output.detach().float(), each.target, lr)
        return loss.detach()

    def _save(self, *, improved: bool) -> None:
        begun = time.perf_counter()
        try:
            self._write(improved=improved)
        except (OSError, SafetensorError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
            raise OutputError(f"Cannot write the run into {str(self.settings.out)!r}: {error}") from error
        least, times = _SAVING
        self._next_save = self._at.seconds + max(least, times * (time.perf_counter() - begun))

    def _write(self, *, improved: bool) -> None:
        out, settings = self.settings.out, self.settings
        if improved:
            whole = self._grown(self.average, {})
            state = {key: value.contiguous().cpu() for key, value in whole.state_dict().items()}
            scales = " ".join(map(str, settings.scales))
            self._unsaved = save(state, {"model": settings.model, "scale": scales})
        if not self._at.step:  # initial weights alone, which cannot be resumed, would look like a result
            return
        out.mkdir(parents=True, exist_ok=True)
        if self._unsaved:
            partial = settings.best.with_suffix(".part")
            partial.write_bytes(self._unsaved)
            partial.replace(settings.best)
            self._unsaved = b""
        history = [asdict(progress) for progress in self.history]
        state = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "adversary": self._adversary.state_dict() if self._adversary else {},
            "generator": self._generator.get_state(),
            "identity": json.dumps(settings.identity()),
            "history": history,
            "stage": self._stage,
            "at": asdict(self._at),
        }
        partial = self._checkpoint_path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self._checkpoint_path)
        self.kept = self._at.step
        if not history:
            return
        report = {
            "settings": settings.identity(),
            "ancestors": self._ancestors,
            "baseline": self.baseline,
            "validation_seconds": self._at.validating,
            "history": history,
        }
        (out / "run.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def _restore(self) -> None:
        try:
            state = torch.load(self._checkpoint_path, weights_only=True, map_location=self.device)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            raise InputError(f"Cannot read {str(self._checkpoint_path)!r}, which is damaged", out=...) from error
        asked, begun = self.settings.identity(), json.loads(state["identity"])
        begun = self.settings.defaults() | begun
        changed = ", ".join(f"{key}: {begun[key]} → {value}" for key, value in asked.items() if begun[key] != value)
        if changed:
            raise UsageError(f"Expected the settings that the run began with, got others ({changed})", out=...)
        self._at = Position(**state["at"])
        entered = self._at.entered
        if state["stage"]:
            self._enter(state["stage"], entered)
            self._at.entered = entered
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._adversary:
            self._adversary.load_state_dict(state["adversary"])
        self._generator.set_state(state["generator"].cpu())
        self.history = [Progress(**progress) for progress in state["history"]]
        self.kept = self._at.step
        self._next_save = self._at.seconds + _SAVING[0]
