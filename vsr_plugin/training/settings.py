"""The settings of a run."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..driver import check_device_here
from ..errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    import torch

BEST = "best.safetensors"  # of every run
CHECKPOINT = "checkpoint.pt"
DEGRADATIONS = ("none", "video")
_PRECISIONS = ("float32", "bfloat16")
_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run, as requested by the user.

    Attributes:
        model: Name in the catalogue.
        scales: One scale of the model; or several, of a model whose weights serve all of them.
        data: Folders of images, and films.
        out: Folder of the run.
        recipe: Name in the recipes of the model.
        steps: The number of steps; None for the recipe's.
        minutes: Wall time of training instead of a number of steps.
        start: Weights to start from, of this model or a sibling, at this scale or another.
        lr: Peak learning rate; None for the recipe's.
        seed: Seed of the initial weights and of the random draws.
        device: ``cpu`` or ``cuda``.
        precision: ``float32`` or ``bfloat16``: the networks' arithmetic; everything else is float32.
        vgg: torchvision's weights of VGG19, for a recipe that compares its features.
        shares: How often each folder is drawn from, relative to the others; all equally often if empty.
        benchmarks: Folders of images that must not be trained on.
        degradation: Degradation of small images after shrinking: ``none``, or ``video``, which compresses them.
    """

    model: str
    scales: tuple[int, ...]
    data: tuple[Path, ...]
    out: Path
    recipe: str = "fast"
    steps: int | None = None
    minutes: float | None = None
    start: Path | None = None
    lr: float | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    vgg: Path | None = None
    shares: tuple[float, ...] = ()
    benchmarks: tuple[Path, ...] = ()
    degradation: str = "none"

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the interrupted one, without the machine's folders."""
        folders = [folder.resolve() for folder in self.data]
        above = Path(os.path.commonpath([folder.parent for folder in folders]))
        names = {
            "scales": list(self.scales),
            "data": [
                folder.relative_to(above).as_posix() + (f":{share:g}" if share != 1 else "")
                for folder, share in zip(folders, self.shares or (1.0,) * len(folders), strict=True)
            ],
            "start": self.start and _name(self.start),
            "vgg": self.vgg and self.vgg.name,
        }
        return {
            key: value
            for key, value in (asdict(self) | names).items()
            if key not in ("out", "device", "shares", "benchmarks")
        }

    def defaults(self) -> dict[str, Any]:
        """The values of settings that runs of earlier versions did not have; as in `identity`."""
        plain = Settings(self.model, self.scales, self.data, self.out)
        return plain.identity()

    @property
    def best(self) -> Path:
        """The file of the weights that validated best."""
        return self.out / BEST

    @property
    def begun(self) -> bool:
        """Whether there is a run to resume."""
        return (self.out / CHECKPOINT).exists()

    def check_folder(self, *, resume: bool) -> None:
        """Check that the folder holds a run to resume, or none if a new one begins.

        Raises:
            InputError: there is nothing to resume.
            OutputError: the folder already holds a run, or cannot be written.
        """
        if resume and not self.begun:
            raise InputError(f"Nothing to resume in {str(self.out)!r}", resume=None)
        if self.begun and not resume:
            raise OutputError(f"{str(self.out)!r} already holds a run", resume=True, out=...)
        there = next(folder for folder in (self.out, *self.out.parents) if folder.exists())
        if not (there.is_dir() and os.access(there, os.W_OK)):  # else the first save would fail
            why = f"{str(there)!r} is no writable folder"
            raise OutputError(f"Cannot write a run into {str(self.out)!r}: {why}", out=...)

    def check(self) -> torch.device:
        """Check the settings that are not names in a table; return the device.

        Raises:
            UsageError: a setting is wrong.
        """
        if self.steps is not None and self.minutes is not None:
            raise UsageError("Expected a number of steps or minutes, got both: leave one out")
        if self.minutes is not None and not (math.isfinite(self.minutes) and self.minutes > 0):
            raise UsageError(f"Expected minutes of training above 0, got {self.minutes}")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"Expected a positive learning rate, got {self.lr}", lr=None)
        for share in self.shares:
            if not (math.isfinite(share) and share > 0):
                raise UsageError(f"Expected a positive weight of a folder, got {share:g}")
        if self.precision not in _PRECISIONS:
            raise UsageError(f"Unknown precision {self.precision!r}. Known precisions: {', '.join(_PRECISIONS)}")
        if self.degradation not in DEGRADATIONS:
            known = ", ".join(DEGRADATIONS)
            raise UsageError(f"Unknown degradation {self.degradation!r}. Known degradations: {known}")
        if self.device not in _DEVICES:
            raise UsageError(f"Unknown device {self.device!r}. Known devices: {', '.join(_DEVICES)}")
        check_device_here(self.device)
        import torch  # importing it takes seconds, and planning runs does not need it

        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("Expected a CUDA device, and torch sees none", device=None)
        return torch.device(self.device)


def _name(weights: Path) -> str:
    """All runs give their weights the same file name, so the folder's name is added."""
    return f"{weights.parent.name}/{weights.name}" if weights.name == BEST else weights.name
