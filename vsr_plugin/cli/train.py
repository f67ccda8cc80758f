"""``vsr train``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import printable

if TYPE_CHECKING:
    from ..training.trainer import Trainer
    from .progress import Wait


def train(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Networks; `vsr models --all` lists them.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="FOLDER|FILM[:WEIGHT]",
            help="Folder of ten images or more, or a film; repeatable. All are used equally often, or as often as "
            "WEIGHT says.",
        ),
    ],
    scales: Annotated[
        list[int] | None, typer.Option("-x", "--scale", help="Scale; repeatable. [default: all of the model's]")
    ] = None,
    recipe: Annotated[str, typer.Option(help="fast (ours), paper, or another one of this model.")] = "fast",
    start: Annotated[
        Path | None, typer.Option("--from", help="Weights to start from; `shipped`: those that come with vsr.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Number of steps. [default: the recipe's]")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Train for this long, all runs together, instead of a number of steps."),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate. [default: the recipe's]")] = None,
    degradation: Annotated[
        str,
        typer.Option(
            help="none: images are only shrunk. video: most of them are compressed, too, as parts of short clips "
            "(x264, x265, VP9; quality as of CRF 18 to 32 of x264)."
        ),
    ] = "none",
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and of the order of images.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    vgg: Annotated[
        Path | None,
        typer.Option(
            help="SRGAN with --recipe paper or vgg22: torchvision's VGG19 (.pth), to compare features by. "
            "[default: the features of SRResNet]"
        ),
    ] = None,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of images that the result will be measured on: refuse to train on any of them, "
            "even resized or cropped; repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run, or of several runs. [default: runs/MODEL_xSCALE]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue interrupted runs; finished ones stay as they are.")
    ] = False,
) -> None:
    """Train networks. Progress goes to stderr, the path of the best weights of each run to stdout.

    A model whose weights serve all scales is trained in one run, any other in one run for each scale. A run keeps the
    weights that are best on images that are not trained on.
    """
    from ..errors import InputError
    from ..models import check_weights_file
    from ..training.plan import SHIPPED, plan_runs
    from ..training.settings import Settings
    from .progress import load_optimizers, waiting
    from .stop import tell_if_stopped
    from .terminal import console

    folders = [_weighted(word) for word in data]
    common = Settings(
        models[0],
        (),
        tuple(folder for folder, _ in folders),
        out or Path("runs"),
        recipe=recipe,
        steps=steps,
        minutes=minutes,
        start=start,
        lr=lr,
        seed=seed,
        device=device,
        precision=precision,
        vgg=vgg,
        shares=tuple(weight for _, weight in folders),
        benchmarks=tuple(benchmark or ()),
        degradation=degradation,
    )
    runs = plan_runs(models, scales or (), common, named=out is None)
    begun = [run.begun for run in runs]
    if resume and not any(begun):
        raise InputError(f"Nothing to resume in {str(runs[0].out)!r}: start the run without --resume")
    if not resume:
        for run in runs:
            run.check_folder(resume=False)
    for folder in common.data:
        if not folder.exists():
            raise InputError(f"No such folder or film: {folder}")
    for folder in common.benchmarks:
        if not folder.is_dir():
            raise InputError(f"No such folder: {folder}")
    for file in (start if start != SHIPPED else None, vgg):
        if file is not None:
            check_weights_file(file)
    tell_if_stopped(lambda: "nothing was trained")
    with waiting("loading torch"):
        common.check()
    load_optimizers()
    from ..training.trainer import Trainer

    for run, again in zip(runs, begun, strict=True):
        if len(runs) > 1:
            typer.echo(f"{run.out.name}:", err=True)
        with waiting("reading images") as wait:
            trainer = Trainer(run, resume=again, say=wait.update)
        tell_if_stopped(partial(_kept, trainer, resume=resume))
        with waiting(f"training {run.out.name}") as wait:
            show = partial(_show, wait, run.out.name)
            for now in trainer.run(on_step=show):
                text = f"{now.part:4.0%}  step {now.step}  loss {now.loss:.3e}  validation {now.psnr:.3f} dB"
                console().print(f"{text}  best {now.best:.3f} dB  {now.seconds:.0f} s", markup=False)
        if trainer.verdict():
            typer.echo(f"Warning: {trainer.verdict()}", err=True)
        typer.echo(trainer.draw_curve(), err=True)
        typer.echo(run.best)


def _kept(trainer: Trainer, *, resume: bool) -> str:
    """What is kept of a run that is stopped, and how to continue it."""
    if trainer.kept is None:
        return "nothing was saved yet"
    how = "the same command" if resume else "the same command with --resume"
    where = printable(str(trainer.settings.out))
    return f"{where} holds the run up to step {trainer.kept}, and {how} goes on from there"


def _show(wait: Wait, name: str, step: int, part: float, seconds: float) -> None:
    """Show how far a run is, and how much longer it will take at this speed."""
    from .progress import duration

    left = f", {duration(seconds / part - seconds)} left" if part else ""
    wait.update(f"training {name}: step {step}, {part:.0%}{left}")


def _weighted(word: str) -> tuple[Path, float]:
    """``FOLDER:3`` is a folder and its weight, unless there is a folder of this name."""
    folder, separator, weight = word.rpartition(":")
    if separator and not Path(word).exists():
        try:
            return Path(folder), float(weight)
        except ValueError:
            pass
    return Path(word), 1.0
