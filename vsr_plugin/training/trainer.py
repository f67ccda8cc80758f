"""The training itself: seeded, resumable to the same numbers, validated on pictures it never sees.

A run is a folder: ``best.safetensors`` (the average of the weights that validated best), ``run.json`` (what was asked
for and what came out), ``checkpoint.pt`` (everything needed to go on), and ``curve.png`` if asked for.
"""

from __future__ import annotations

import json
import math
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import InputError, OutputError, UsageError
from ..evaluation import evaluate
from ..models import build_model, find_model, set_scale
from .adversarial import Adversary, open_features
from .curve import draw_curve
from .data import Patches, Picture, crop_to_multiple, read_pictures, split
from .initial import STARTS
from .losses import LOSSES, VIEWS
from .recipes import Recipe, find_recipe
from .settings import CHECKPOINT
from .soap import SOAP
from .transfer import ancestors, load_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .settings import Settings

VALIDATIONS = 20  # per run
OPTIMIZERS: Mapping[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, betas=(0.9, 0.999)),  # as the papers have it
    "adam 0.99": partial(torch.optim.Adam, betas=(0.9, 0.99)),
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "soap": SOAP,
}
_HELD_OUT = 8  # pictures per folder, of which the middle is measured
_VALIDATION_SIDE = 120


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after a validation.

    Attributes:
        step: Steps done.
        part: Of the whole run, 0 to 1.
        loss: Mean over the steps since the last validation.
        psnr: In dB on the held-out pictures; ``best`` the highest so far.
        seconds: Wall time of training so far.
    """

    step: int
    part: float
    loss: float
    psnr: float
    best: float
    seconds: float


class Trainer:
    """One run; `run` trains it to its end.

    Args:
        settings: What to train, on what.
        resume: Go on from the folder's checkpoint.

    Raises:
        UsageError: settings that are unknown or contradict each other, or those of the run that is resumed.
        InputError: pictures that cannot be read, nothing to resume, or a damaged checkpoint.
        WeightsError: ``start`` does not fit the model.
        OutputError: the folder of the run holds another run already.
    """

    def __init__(self, settings: Settings, *, resume: bool = False) -> None:
        specs = [find_model(settings.model, scale) for scale in settings.scales]
        self.spec = spec = specs[0]
        self.settings = settings
        self.recipe = find_recipe(settings.model, settings.recipe)
        self._checkpoint_path = settings.out / CHECKPOINT
        settings.check_folder(resume=resume)
        self.device = settings.check()
        if len(specs) > 1 and not spec.shared:
            raise UsageError(f"Expected one scale for {spec.name}, whose weights depend on it, got {settings.scales}")
        if self.recipe.parent and settings.start is None:
            raise UsageError(
                f"Expected --from with weights of {self.recipe.parent} ×{settings.scales[0]}, which {spec.name} starts "
                f"from, got none: `vsr train {self.recipe.parent} -x {settings.scales[0]}` makes them"
            )
        self.steps = settings.steps or self.recipe.steps
        self._generator = torch.Generator().manual_seed(settings.seed)
        self.module = build_model(spec, settings.scales[0]).to(self.device)
        self.module.to(memory_format=torch.channels_last)
        folders = [split(read_pictures(folder, spec.channels), _HELD_OUT) for folder in settings.data]
        self.held_out = [_middle(picture, settings.scales) for _, held_out in folders for picture in held_out]
        if not self.held_out:
            raise UsageError("Expected a folder of at least 10 images, so that some can be held out for validation")
        self._view = VIEWS[self.recipe.view]
        self._patches = Patches(
            [kept for kept, _ in folders],
            spec.channels,
            {scale: self.recipe.patch[scale] for scale in settings.scales},
            {divisor for scale in settings.scales for divisor in self._view.divisors(scale)},
            self.recipe.sizes,
            self.device,
        )
        batch, _ = self._patches.draw(64, settings.scales[0], self._generator)
        STARTS[self.recipe.initial](self.module, batch, self._generator)
        self._ancestors = ancestors(settings.start)
        if settings.start is not None:
            load_start(self.module, settings.start, settings.scales, self.recipe.rescaled, batch)
        self.average = deepcopy(self.module)
        self._adversary: Adversary | None = None
        if self.recipe.content:
            features = open_features(self.recipe.content, settings.vgg, self.module)
            side = settings.scales[0] * self.recipe.patch[settings.scales[0]]
            self._adversary = Adversary(features, side, self.device, self._generator)
        elif settings.vgg is not None:
            raise UsageError(f"Expected no --vgg for the recipe {settings.recipe!r}, which compares samples")
        self._optimizer = _optimizer(self.module, self.recipe, settings.lr or self.recipe.lr)
        self.history: list[Progress] = []
        if resume:
            self._restore()

    def run(self) -> Iterator[Progress]:
        """Train to the end, yielding after every validation, when all that is known is on the disk.

        Raises:
            UsageError: the learning rate is so high that the loss is no number any more.
            OutputError: the run's folder cannot be written.
        """
        begun = time.monotonic() - (self.history[-1].seconds if self.history else 0.0)
        step = self.history[-1].step if self.history else 0
        part = self.history[-1].part if self.history else 0.0
        losses: list[Tensor] = []
        while part < 1.0:
            losses.append(self._step(step, part))
            step += 1
            before, part = part, self._part(step, time.monotonic() - begun)
            if part < 1.0 and int(part * VALIDATIONS) == int(before * VALIDATIONS):
                continue
            loss = float(torch.stack(losses).mean())
            losses.clear()
            if not math.isfinite(loss):
                raise UsageError(f"Expected a finite loss, got {loss} by step {step}: lower --lr, and start again")
            psnr = self.validate()
            best = max([psnr, *(progress.best for progress in self.history)])
            self.history.append(Progress(step, part, loss, psnr, best, time.monotonic() - begun))
            # Looking real costs PSNR: against a discriminator, the last weights are the best.
            self._save(improved=psnr == best or self._adversary is not None)
            yield self.history[-1]

    def draw_curve(self) -> str:
        """Draw the loss curve into the run's folder, or say in one line why not; a run is whole without it."""
        path = self.settings.out / "curve.png"
        try:
            scales = ", ".join(f"×{scale}" for scale in self.settings.scales)
            draw_curve(self.history, f"{self.settings.model} {scales}, {self.settings.recipe}", path)
        except OutputError as error:
            return str(error)
        return f"Loss curve: {path}"

    def validate(self) -> float:
        """PSNR in dB of the averaged weights on the held-out pictures, in float32; the mean over the scales."""
        self.average.eval()
        for average, module in zip(self.average.buffers(), self.module.buffers(), strict=True):
            average.copy_(module)
        network = lambda x: self.average(x.to(self.device)).cpu()  # noqa: E731
        psnrs = []
        for scale in self.settings.scales:
            set_scale(self.average, scale)
            psnrs.append(evaluate(network, scale, self.held_out, self.spec.channels).psnr)
        return math.fsum(psnrs) / len(psnrs)

    def _part(self, step: int, seconds: float) -> float:
        minutes = self.settings.minutes
        return min(1.0, step / self.steps if minutes is None else seconds / (60.0 * minutes))

    def _step(self, step: int, part: float) -> Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * _rate(self.recipe, part)
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
        """Add the gradient of one scale's share of a batch; its share of the loss, detached."""
        count = max(1, round(self.recipe.batch * share))
        small, targets = self._patches.draw(count, scale, self._generator, self._view.divisors(scale))
        small = small.contiguous(memory_format=torch.channels_last)
        self.module.train()
        set_scale(self.module, scale)
        bfloat16 = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            comparisons = self._view.compare(self.module, small, targets, part)
        compare = LOSSES[self.recipe.loss]
        if self._adversary:
            compare = self._adversary.loss
        losses = [each.weight * compare(each.output.float(), each.target) for each in comparisons]
        loss = torch.stack(losses).sum() * share
        loss.backward()  # type: ignore[no-untyped-call]
        if self._adversary:
            lr = self._optimizer.param_groups[0]["lr"]
            for each in comparisons:
                self._adversary.learn(each.output.detach().float(), each.target, lr)
        return loss.detach()

    def _save(self, *, improved: bool) -> None:
        try:
            self._write(improved=improved)
        except (OSError, SafetensorError, RuntimeError) as error:  # torch's files raise RuntimeError on a full disk
            raise OutputError(f"Cannot write the run into {str(self.settings.out)!r}: {error}") from error

    def _write(self, *, improved: bool) -> None:
        out, settings = self.settings.out, self.settings
        out.mkdir(parents=True, exist_ok=True)
        if improved:
            state = {key: value.contiguous().cpu() for key, value in self.average.state_dict().items()}
            scales = " ".join(map(str, settings.scales))
            partial = settings.best.with_suffix(".part")
            partial.write_bytes(save(state, {"model": settings.model, "scale": scales}))
            partial.replace(settings.best)
        history = [asdict(progress) for progress in self.history]
        state = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "adversary": self._adversary.state_dict() if self._adversary else {},
            "generator": self._generator.get_state(),
            "identity": json.dumps(settings.identity()),
            "history": history,
        }
        partial = self._checkpoint_path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self._checkpoint_path)
        report = {"settings": settings.identity(), "ancestors": self._ancestors, "history": history}
        (out / "run.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    def _restore(self) -> None:
        try:
            state = torch.load(self._checkpoint_path, weights_only=True, map_location=self.device)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            raise InputError(
                f"Cannot read {str(self._checkpoint_path)!r}, which is damaged: begin the run again, in another --out"
            ) from error
        asked, begun = self.settings.identity(), json.loads(state["identity"])
        changed = ", ".join(
            f"{key}: {begun.get(key)} → {value}" for key, value in asked.items() if begun.get(key) != value
        )
        if changed:
            raise UsageError(
                f"Expected the settings that the run began with, got others ({changed}): resume with those, or go on "
                f"from its weights in another run, with --from {self.settings.best} --out ANOTHER"
            )
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._adversary:
            self._adversary.load_state_dict(state["adversary"])
        self._generator.set_state(state["generator"].cpu())
        self.history = [Progress(**progress) for progress in state["history"]]


def _middle(picture: Picture, scales: tuple[int, ...]) -> Picture:
    """The part of a picture that is measured."""
    luma, rgb = (
        None if samples is None else crop_to_multiple(samples, math.lcm(*scales), _VALIDATION_SIDE)
        for samples in (picture.luma, picture.rgb)
    )
    assert luma is not None
    return replace(picture, luma=luma, rgb=rgb)


def _rate(recipe: Recipe, part: float) -> float:
    """The learning rate at ``part`` of the run, as a factor of the peak."""
    if part < recipe.warmup:
        return (part + 1e-6) / recipe.warmup
    left = (part - recipe.warmup) / (1.0 - recipe.warmup)
    every, factor = recipe.stairs
    rates = {
        "constant": 1.0,
        "cosine": 0.5 + 0.5 * math.cos(math.pi * left),
        "geometric": math.pow(0.01, left),
        "stairs": factor ** int(left / every),
    }
    return rates[recipe.schedule]


def _optimizer(module: nn.Module, recipe: Recipe, lr: float) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = []
    for name, parameter in module.named_parameters():
        if name.startswith(recipe.trained):
            factors = [factor for start, factor in recipe.multipliers.items() if name.startswith(start)]
            groups.append({"params": [parameter], "peak": lr * math.prod(factors)})
        else:
            parameter.requires_grad_(False)
    merged = [
        {"params": [p for group in groups if group["peak"] == peak for p in group["params"]], "peak": peak}
        for peak in sorted({group["peak"] for group in groups})
    ]
    optimizer = OPTIMIZERS[recipe.optimizer](merged, lr)
    if recipe.decay:
        for group in optimizer.param_groups:
            group["weight_decay"] = recipe.decay
    return optimizer
