"""A run: learns, resumes to the same numbers, refuses what contradicts it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vsr_plugin.errors import InputError, OutputError, UsageError, WeightsError
from vsr_plugin.models import MODELS, build_model, load_model, set_scale
from vsr_plugin.training.export import export
from vsr_plugin.training.losses import LOSSES
from vsr_plugin.training.progress import Progress
from vsr_plugin.training.recipes import RECIPES
from vsr_plugin.training.settings import Settings
from vsr_plugin.training.trainer import VALIDATIONS, Trainer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    return Settings("espcn", (2,), (folder,), tmp_path / "run", steps=80)


def finish(trainer: Trainer) -> list[Progress]:
    return list(trainer.run())


def test_a_run_learns_and_keeps_its_best_weights(settings: Settings) -> None:
    trainer = Trainer(replace(settings, steps=160))  # a validation costs as much as seven of them
    bicubic = trainer.validate()
    history = finish(trainer)
    assert len(history) == VALIDATIONS
    assert history[-1].best > bicubic + 0.5
    report = json.loads((settings.out / "run.json").read_text())
    assert max(progress["psnr"] for progress in report["history"]) == history[-1].best
    assert str(settings.data[0].parent) not in json.dumps(report)
    load_model("espcn", 2, settings.out / "best.safetensors")


def beginning(model: str, path: Path) -> Path | None:
    """Weights for SRGAN, which does not start from nothing."""
    if model != "srgan":
        return None
    torch.manual_seed(0)
    save_file(build_model(MODELS["srresnet"], 2).state_dict(), path)
    return path


def test_srgan_starts_from_srresnet(settings: Settings, small_networks: None) -> None:
    with pytest.raises(UsageError, match=r"srresnet for srgan to start from: use start='srresnet_x2\.safetensors'"):
        Trainer(replace(settings, model="srgan"))


@pytest.mark.parametrize(("model", "recipe"), list(RECIPES))
def test_every_recipe_learns(settings: Settings, small_networks: None, model: str, recipe: str) -> None:
    spec = MODELS[model]
    scales = spec.scales if spec.shared else spec.scales[:1]
    start = beginning(model, settings.out.with_name("srresnet.safetensors"))
    trainer = Trainer(replace(settings, model=model, scales=scales, recipe=recipe, steps=None, start=start))
    view, loss = trainer._view, LOSSES[trainer.recipe.loss]
    probe = [trainer._patches.draw(12, scale, torch.Generator(), view.divisors(scale)) for scale in scales]

    def measure() -> float:
        total = 0.0
        for scale, (small, targets) in zip(scales, probe, strict=True):
            set_scale(trainer.module, scale)
            with torch.no_grad():
                comparisons = view.compare(trainer.module, small, targets, 0.0)
            total += sum(each.weight * float(loss(each.output, each.target)) for each in comparisons)
        return total

    before = measure()
    for step in range(40):
        trainer._step(step, step / trainer.steps)
    assert measure() < before


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        ("espcn", "fast"),
        ("fsrcnn-s", "paper"),
        ("vdsr", "paper"),
        ("vdsr", "fast"),
        ("drcn", "fast"),
        ("drrn", "fast"),
        ("lapsrn", "fast"),
        ("mdsr", "fast"),
        ("srresnet", "fast"),
        ("srgan", "paper"),
    ],
)
def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one(
    settings: Settings, small_networks: None, model: str, recipe: str
) -> None:
    spec = MODELS[model]
    scales = spec.scales if spec.shared else spec.scales[:1]
    start = beginning(model, settings.out.with_name("srresnet.safetensors"))
    settings = replace(settings, model=model, scales=scales, recipe=recipe, steps=20, start=start)
    whole = finish(Trainer(settings))
    interrupted = replace(settings, out=settings.out.with_name("interrupted"))
    for _ in zip(range(8), Trainer(interrupted).run(), strict=False):
        pass
    resumed = Trainer(interrupted, resume=True)
    finish(resumed)
    assert [(p.step, p.loss, p.psnr) for p in resumed.history] == [(p.step, p.loss, p.psnr) for p in whole]
    first, second = (load_file(s.out / "best.safetensors") for s in (settings, interrupted))
    assert all(torch.equal(first[name], second[name]) for name in first)


def stop_at(trainer: Trainer, step: int) -> None:
    """Train as far as a step, where Ctrl-C is pressed."""

    def press(now: int, *_: float) -> None:
        if now == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for _ in trainer.run(on_step=press):
            pass


def test_a_run_that_could_not_begin_leaves_its_folder_to_the_next(settings: Settings) -> None:
    """Which has the learning rate that the error asked for."""
    failed = Trainer(settings)
    stop_at(failed, 1)
    assert failed.kept is None
    assert finish(Trainer(replace(settings, lr=1e-5)))


def test_a_long_run_is_saved_between_its_validations(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr_plugin.training.trainer.VALIDATIONS", 1)
    settings = replace(settings, steps=10)
    whole = finish(Trainer(settings))
    assert [progress.step for progress in whole] == [10]
    monkeypatch.setattr("vsr_plugin.training.trainer._SAVING", (0.0, 0))  # always time for it
    interrupted = Trainer(replace(settings, out=settings.out.with_name("interrupted")))
    stop_at(interrupted, 7)
    assert interrupted.kept == 6
    resumed = Trainer(interrupted.settings, resume=True)
    assert resumed.kept == 6
    assert [(p.loss, p.psnr, p.best) for p in finish(resumed)] == [(p.loss, p.psnr, p.best) for p in whole]


def test_saving_takes_little_of_the_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = (2.0 * index for index in count())
    monkeypatch.setattr("vsr_plugin.training.trainer.time.perf_counter", lambda: next(ticks))  # 2 s for each save
    trainer = Trainer(settings)
    stop_at(trainer, 1)
    assert trainer._next_save == pytest.approx(trainer._at.seconds + 100, abs=10)


def test_a_run_of_which_only_the_start_is_there_cannot_be_exported(settings: Settings) -> None:
    stop_at(Trainer(settings), 1)
    with pytest.raises(InputError, match="Expected the folder of a run"):
        export(settings.out, settings.out / "weights", {}, "")


@pytest.mark.parametrize("start", [False, True])
def test_what_a_run_leaves_is_no_worse_than_its_start(settings: Settings, start: bool) -> None:
    if start:
        finish(Trainer(settings))
        settings = replace(settings, start=settings.best, out=settings.out.with_name("b"))
    trainer = Trainer(replace(settings, steps=3, lr=0.3))
    first = trainer.validate()
    history = finish(trainer)
    assert history[-1].psnr < first - 1
    assert history[-1].best == first
    left = load_model("espcn", 2, settings.best)
    assert trainer._validation.psnr(left) == pytest.approx(first, abs=1e-6)
    rival = "the weights they started from" if start else "bicubic enlargement"
    assert f"is no better than {rival}: {first:.2f} dB, and {trainer.baseline:.2f} dB. It holds" in trainer.verdict()
    assert trainer.verdict().endswith("before the first step: 3 steps were too few, or the learning rate too high")


def test_settings_that_an_older_run_did_not_know_are_the_defaults(settings: Settings) -> None:
    for _ in zip(range(3), Trainer(settings).run(), strict=False):
        pass
    file = settings.out / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    identity = json.loads(state["identity"])
    del identity["degradation"]
    torch.save({**state, "identity": json.dumps(identity)}, file)
    Trainer(settings, resume=True)
    with pytest.raises(UsageError, match=r"got others \(degradation: none → video\)"):
        Trainer(replace(settings, degradation="video"), resume=True)


def test_losses_that_a_run_goes_on_from_lie_on_its_device(settings: Settings) -> None:
    trainer = Trainer(settings)
    trainer.device = torch.device("meta")
    trainer._at.losses = [0.5, 0.25]
    assert [loss.device.type for loss in trainer._losses()] == ["meta", "meta"]


def test_minutes_end_a_run(settings: Settings) -> None:
    history = finish(Trainer(replace(settings, steps=None, minutes=0.01)))
    assert history[-1].part == 1.0
    assert 0.6 <= history[-1].seconds < 5


@pytest.mark.parametrize("how", [{"steps": 24}, {"steps": None, "minutes": 0.02}])
def test_a_short_run_stays_near_its_start(
    settings: Settings, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = (0.05 * index for index in count())
    monkeypatch.setattr("vsr_plugin.training.trainer.time.monotonic", lambda: next(ticks))  # 24 steps in 1.2 s
    trainer = Trainer(replace(settings, **how))
    history = finish(trainer)
    assert 15 <= history[-1].step <= 26
    assert history[-1].psnr > trainer.baseline - 0.5


def test_another_scale_keeps_what_is_shared(settings: Settings) -> None:
    first = replace(settings, model="fsrcnn-s", steps=5)
    finish(Trainer(first))
    weights = first.out / "best.safetensors"
    second = replace(
        first, scales=(3,), recipe="deconvolution", start=weights, out=first.out.with_name("x3"), steps=VALIDATIONS
    )
    finish(Trainer(second))
    old, new = load_file(weights), load_file(second.out / "best.safetensors")
    for name in old:
        assert torch.equal(old[name], new[name]) == (not name.startswith("deconvolution")), name


def test_a_rate_that_diverges_says_so(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"Expected a finite loss, got (nan|inf) by step \d+: use lr="):
        finish(Trainer(replace(settings, model="fsrcnn", lr=1e6)))


def test_weights_of_another_model_are_refused(settings: Settings) -> None:
    finish(Trainer(replace(settings, steps=1)))
    start = settings.out / "best.safetensors"
    with pytest.raises(WeightsError, match=r"best.safetensors does not fit this network at ×2: conv1"):
        Trainer(replace(settings, model="fsrcnn", start=start, out=settings.out / "b"))
    start.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="Cannot read weights"):
        Trainer(replace(settings, start=start, out=settings.out / "b"))


def test_a_folder_holds_one_run(settings: Settings) -> None:
    with pytest.raises(InputError, match="Nothing to resume"):
        Trainer(settings, resume=True)
    finish(Trainer(replace(settings, steps=1)))
    with pytest.raises(OutputError, match="already holds a run: use resume=True, or use another out"):
        Trainer(replace(settings, steps=1))
    with pytest.raises(UsageError, match="seed: 0 → 1"):
        Trainer(replace(settings, steps=1, seed=1), resume=True)


def test_a_damaged_checkpoint_is_said(settings: Settings) -> None:
    finish(Trainer(replace(settings, steps=1)))
    checkpoint = settings.out / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"checkpoint\.pt', which is damaged"):
        Trainer(replace(settings, steps=1), resume=True)


def test_a_run_that_cannot_be_written_says_so(settings: Settings) -> None:
    settings.out.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match=r"Cannot write a run into .* is no writable folder"):
        finish(Trainer(replace(settings, steps=1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "espnc"}, "Did you mean 'espcn'"),
        ({"scales": (5,)}, "has no scale 5"),
        ({"recipe": "slow"}, "Unknown recipe 'slow'"),
        ({"minutes": 1.0}, "got both"),
        ({"steps": None, "minutes": float("nan")}, "Expected minutes of training above 0, got nan"),
        ({"steps": None, "minutes": float("inf")}, "Expected minutes of training above 0, got inf"),
        ({"steps": None, "minutes": 0.0}, "Expected minutes of training above 0, got 0.0"),
        ({"lr": -1.0}, "Expected a positive learning rate, got -1.0"),
        ({"lr": float("nan")}, "Expected a positive learning rate, got nan"),
        ({"precision": "float16"}, "Known precisions: float32, bfloat16"),
        ({"device": "tpu"}, "Known devices: cpu, cuda"),
    ],
)
def test_settings_that_make_no_sense_are_usage_errors(
    settings: Settings, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Trainer(replace(settings, **change))  # type: ignore[arg-type]


def test_the_curve_is_drawn_or_its_absence_explained(settings: Settings) -> None:
    trainer = Trainer(replace(settings, steps=2))
    finish(trainer)
    said = trainer.draw_curve()
    curve = settings.out / "curve.png"
    if curve.exists():
        assert curve.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert said == f"Loss curve: {curve}"
    else:
        assert "need matplotlib" in said


def test_bfloat16_trains_float32_weights(settings: Settings) -> None:
    trainer = Trainer(replace(settings, precision="bfloat16", steps=2))
    finish(trainer)
    assert {value.dtype for value in load_file(settings.out / "best.safetensors").values()} == {torch.float32}


def test_one_network_learns_all_scales_at_once(settings: Settings, small_networks: None) -> None:
    trainer = Trainer(replace(settings, model="vdsr", scales=(2, 3, 4), steps=2))
    finish(trainer)
    for scale in (2, 3, 4):
        set_scale(trainer.average, scale)
        assert trainer.average(torch.rand(1, 1, 5, 6)).shape == (1, 1, 5 * scale, 6 * scale)
    with pytest.raises(UsageError, match="Expected one scale for lapsrn"):
        Trainer(replace(settings, model="lapsrn", scales=(2, 4), out=settings.out / "b"))


def test_a_growing_network_is_whole_whenever_it_is_looked_at(settings: Settings, small_networks: None) -> None:
    """What validates, and what an interrupted run leaves, is the model as it will be, and starts as what is smaller."""
    settings = replace(settings, model="srdensenet", steps=20)
    trainer = Trainer(settings)
    forms = []
    for progress in trainer.run():
        forms.append(len(trainer.module.blocks))  # type: ignore[arg-type]
        if progress.psnr == progress.best:
            load_model("srdensenet", 2, settings.best)
    assert forms == [1] * 12 + [2] * 8
    before = Trainer(replace(settings, out=settings.out / "b"))
    first = next(before.run())
    before._enter(2, 5)
    assert before.validate() == pytest.approx(first.psnr, abs=1e-4)


def test_units_are_drawn_while_a_recursive_network_is_young(settings: Settings, small_networks: None) -> None:
    trainer = Trainer(replace(settings, model="drrn-b1u9", scales=(2, 3, 4), steps=40))
    seen = []
    for step in range(20):
        trainer._step(step, step / 40)
        seen.append(trainer.module.units)
    assert set(seen[:16]) == {1, 2}
    assert set(seen[16:]) == {MODELS["drrn-b1u9"].options["units"]}


def test_weights_to_start_from_are_those_of_the_whole_network(settings: Settings, small_networks: None) -> None:
    settings = replace(settings, model="srdensenet", steps=2)
    finish(Trainer(settings))
    again = Trainer(replace(settings, start=settings.best, out=settings.out / "b"))
    assert len(again.module.blocks) == 2  # type: ignore[arg-type]


def test_validation_takes_little_of_the_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small patches: the network of a validation is as much work as 32 steps, and it may be made every 1,920."""
    monkeypatch.setitem(
        RECIPES, ("espcn", "fast"), replace(RECIPES["espcn", "fast"], batch=1, patch={2: 6, 3: 6, 4: 6})
    )
    trainer = Trainer(replace(settings, steps=1000))
    assert trainer._rarely == pytest.approx(3 * 20 * 108 * 120 / (3 * 12 * 12), rel=0.01)
    short = Trainer(replace(settings, steps=20, out=settings.out / "short"))
    assert [progress.step for progress in short.run()] == [20]


def test_folders_are_drawn_from_as_often_as_they_weigh(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Expected a positive weight of a folder, got -1"):
        Trainer(replace(settings, shares=(-1.0,)))
    dark = tmp_path / "dark"
    dark.mkdir()
    for index in range(10):
        av.VideoFrame.from_ndarray(np.zeros((60, 60), np.uint8), format="gray").save(dark / f"{index}.png")
    trainer = Trainer(replace(settings, data=(*settings.data, dark), shares=(1.0, 3.0)))
    _, (large,) = trainer._patches.draw(800, 2, torch.Generator().manual_seed(0))
    assert 0.7 < float((large.amax((1, 2, 3)) < 0.1).float().mean()) < 0.8


def test_a_run_that_helps_nobody_says_so(settings: Settings) -> None:
    trainer = Trainer(replace(settings, steps=1, lr=0.3))
    finish(trainer)
    trainer.history[-1] = replace(trainer.history[-1], best=trainer.baseline - 1)
    assert trainer.verdict().startswith(f"{settings.best} is no better than bicubic enlargement: ")
    trainer.history[-1] = replace(trainer.history[-1], best=trainer.baseline + 0.1)
    assert not trainer.verdict()
    again = Trainer(replace(settings, steps=1, start=settings.best, out=settings.out / "b"))
    assert again.baseline == pytest.approx(trainer.history[-1].psnr, abs=1e-3)
