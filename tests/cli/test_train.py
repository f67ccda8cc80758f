"""``vsr train``, and ``vsr models export`` after it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import av
import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from vsr_plugin.cli import progress, stop
from vsr_plugin.cli.models import models
from vsr_plugin.cli.train import train
from vsr_plugin.errors import InputError, OutputError, UsageError
from vsr_plugin.models import MODELS
from vsr_plugin.training import adversarial
from vsr_plugin.training.recipes import RECIPES
from vsr_plugin.training.settings import Settings
from vsr_plugin.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("train")(train)
    app.add_typer(models)
    return app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "some" / "pictures"
    path.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(10):
        luma = np.kron(rng.integers(0, 256, (10, 12), dtype=np.uint8), np.ones((8, 8), np.uint8))
        av.VideoFrame.from_ndarray(luma, format="gray").save(path / f"{index}.png")
    return path


def test_train_then_export_writes_weights_and_where_they_come_from(
    app: typer.Typer, folder: Path, tmp_path: Path
) -> None:
    run, weights = tmp_path / "run", tmp_path / "weights"
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--steps", "3", "--out", str(run), "--seed", "7"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout == f"{run / 'best.safetensors'}\n"
    assert "100%  step 3  loss" in result.stderr

    words = ["models", "export", str(run), str(weights), "--measure", f"Squares={folder}", "--notice", 'quoted "so"']
    with pytest.raises(UsageError, match="tpu"):
        CliRunner().invoke(app, [*words, "--device", "tpu"], catch_exceptions=False)
    assert not weights.exists()
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, "espcn_x2\n")
    row = tomllib.loads((weights / "manifest.toml").read_text(encoding="utf-8"))["espcn_x2"]
    assert row["sha256"] == hashlib.sha256((weights / "espcn_x2.safetensors").read_bytes()).hexdigest()
    assert row["file"] == "espcn_x2.safetensors"
    assert {value.dtype for value in load_file(weights / "espcn_x2.safetensors").values()} == {torch.float16}
    assert (row["model"], row["scale"], row["notice"]) == ("espcn", 2, 'quoted "so"')
    assert row["trained_on"] == ["pictures"]
    command = "vsr train espcn -x 2 --recipe fast --steps 3 --seed 7 --precision float32 --data pictures"
    assert row["training"] == [{"command": command, "steps": 3}]
    assert row["squares"]["psnr"] > 5
    assert 0 < row["squares"]["ssim"] < 1


def test_weights_are_leveled_on_the_way(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    run, weights = tmp_path / "run", tmp_path / "weights"
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--steps", "2", "--out", str(run)]
    CliRunner().invoke(app, words, catch_exceptions=False)
    words = ["models", "export", str(run), str(weights), "--level-with", str(folder)]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    row = tomllib.loads((weights / "manifest.toml").read_text(encoding="utf-8"))["espcn_x2"]
    assert row["training"][-1]["leveled"] is True
    best, leveled, shipped = (
        load_file(path)["conv3.weight"].float()
        for path in (run / "best.safetensors", run / "leveled.safetensors", weights / "espcn_x2.safetensors")
    )
    assert not torch.equal(best, leveled)
    assert torch.allclose(leveled, shipped, rtol=1e-3, atol=1e-4)


def test_a_list_of_models_is_trained_one_after_another_and_goes_on_where_it_was(
    app: typer.Typer, folder: Path, tmp_path: Path
) -> None:
    words = ["train", "espcn", "fsrcnn-s", "-x", "2", "-x", "3", "--data", str(folder), "--steps", "2"]
    words += ["--out", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    names = ["espcn_x2", "espcn_x3", "fsrcnn-s_x2", "fsrcnn-s_x3"]
    paths = [tmp_path / "runs" / name / "best.safetensors" for name in names]
    assert result.stdout.split() == [str(path) for path in paths]
    command = json.loads((paths[1].parent / "run.json").read_text())["settings"]
    assert command["start"] == "espcn_x2/best.safetensors"
    untouched = paths[0].stat().st_mtime_ns
    for path in paths[2:]:
        shutil.rmtree(path.parent)
    result = CliRunner().invoke(app, [*words, "--resume"], catch_exceptions=False)
    assert result.stdout.split() == [str(path) for path in paths]
    assert all(path.is_file() for path in paths)
    assert paths[0].stat().st_mtime_ns == untouched


def test_weights_of_all_scales_are_one_file_and_a_row_for_each(
    app: typer.Typer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(MODELS["vdsr"], options={"layers": 3, "features": 4})
    monkeypatch.setitem(MODELS, "vdsr", small)
    run, weights = tmp_path / "run", tmp_path / "weights"
    words = ["train", "vdsr", "--data", str(folder), "--steps", "1", "--out", str(run)]
    CliRunner().invoke(app, words, catch_exceptions=False)
    words = ["models", "export", str(run), str(weights), "--measure", f"squares={folder}"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.stdout.split() == ["vdsr_x2", "vdsr_x3", "vdsr_x4"]
    assert sorted(path.name for path in weights.iterdir()) == ["manifest.toml", "vdsr.safetensors"]
    rows = tomllib.loads((weights / "manifest.toml").read_text(encoding="utf-8"))
    assert {row["file"] for row in rows.values()} == {"vdsr.safetensors"}
    assert rows["vdsr_x2"]["squares"]["psnr"] != rows["vdsr_x3"]["squares"]["psnr"]
    some = tmp_path / "some"
    words = ["models", "export", str(run), str(some), "-x", "3", "-x", "4"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).stdout.split() == ["vdsr_x3", "vdsr_x4"]
    assert list(tomllib.loads((some / "manifest.toml").read_text(encoding="utf-8"))) == ["vdsr_x3", "vdsr_x4"]
    with pytest.raises(UsageError, match="out of 2, 3, 4, got 8"):
        CliRunner().invoke(app, [*words, "-x", "8"], catch_exceptions=False)
    one = str(tmp_path / "one")  # for one scale: it does not replace the file of the others
    for words in (["train", "vdsr", "-x", "2", "--data", str(folder), "--steps", "1", "--out", one],
                  ["models", "export", one, str(weights)]):  # fmt: skip
        CliRunner().invoke(app, words, catch_exceptions=False)
    again = tomllib.loads((weights / "manifest.toml").read_text(encoding="utf-8"))
    assert again["vdsr_x2"]["file"] == "vdsr_x2.safetensors"
    assert again["vdsr_x3"] == rows["vdsr_x3"]
    assert hashlib.sha256((weights / "vdsr.safetensors").read_bytes()).hexdigest() == rows["vdsr_x3"]["sha256"]


def test_export_keeps_the_other_rows_and_the_commands_that_led_here(
    app: typer.Typer, folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    for scale, start in (("3", []), ("2", ["--from", str(weights / "fsrcnn-s_x3.safetensors")])):
        run = str(tmp_path / f"x{scale}")
        words = ["train", "fsrcnn-s", "-x", scale, "--data", str(folder), "--steps", "1", "--out", run, *start]
        CliRunner().invoke(app, words, catch_exceptions=False)
        CliRunner().invoke(app, ["models", "export", run, str(weights)], catch_exceptions=False)
    rows = tomllib.loads((weights / "manifest.toml").read_text(encoding="utf-8"))
    assert list(rows) == ["fsrcnn-s_x2", "fsrcnn-s_x3"]
    as_trained = load_file(weights / "fsrcnn-s_x2.safetensors").values()  # what half would cost was not measured
    assert {value.dtype for value in as_trained} == {torch.float32}
    assert rows["fsrcnn-s_x2"]["training"][0] == rows["fsrcnn-s_x3"]["training"][0]
    assert "--from fsrcnn-s_x3.safetensors" in rows["fsrcnn-s_x2"]["training"][1]["command"]


def test_a_folder_may_weigh_more_and_the_manifest_says_so(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    run, weights = tmp_path / "run", tmp_path / "weights"
    twin = folder.with_name("odd:2")  # a folder's own name comes first
    shutil.copytree(folder, twin)
    words = ["train", "espcn", "-x", "2", "--steps", "1", "--out", str(run)]
    words += ["--data", f"{folder}:3", "--data", str(twin)]
    CliRunner().invoke(app, words, catch_exceptions=False)
    CliRunner().invoke(app, ["models", "export", str(run), str(weights)], catch_exceptions=False)
    row = tomllib.loads((weights / "manifest.toml").read_text(encoding="utf-8"))["espcn_x2"]
    assert row["trained_on"] == ["pictures:3", "odd:2"]
    assert row["training"][0]["command"].endswith("--data pictures:3 --data odd:2")
    error = CliRunner().invoke(app, [*words[:4], "--data", f"{folder}:0"]).exception
    assert "Expected a positive weight of a folder, got 0" in str(error)


def test_a_training_that_loses_says_so(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--steps", "3", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*words, "--lr", "0.3"], catch_exceptions=False)
    assert "Warning: " in result.stderr
    assert "is no better than bicubic enlargement" in result.stderr


def test_a_training_that_is_stopped_says_what_it_keeps(
    app: typer.Typer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Callable[[], str]] = []
    monkeypatch.setattr(stop, "tell_if_stopped", outcomes.append)
    out = tmp_path / "run"
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--steps", "4", "--out", str(out)]

    def press(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", press)
        CliRunner().invoke(app, words)
    assert outcomes[-1]() == "nothing was saved yet"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", press)
        CliRunner().invoke(app, words)
    assert outcomes[-1]() == "nothing was saved yet"
    assert not out.exists()
    step = Trainer._step
    with monkeypatch.context() as patch:
        patch.setattr("vsr_plugin.training.trainer._SAVING", (0.0, 0))
        patch.setattr(Trainer, "_step", lambda self, done, part: press() if done == 2 else step(self, done, part))
        CliRunner().invoke(app, words)
    assert outcomes[-1]() == f"{out} holds the run up to step 2, and the same command with --resume goes on from there"
    assert CliRunner().invoke(app, [*words, "--resume"]).exit_code == 0
    assert outcomes[-1]() == f"{out} holds the run up to step 4, and the same command goes on from there"


def test_a_run_that_cannot_be_written_does_not_begin(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--out", str(tmp_path / "file/run")]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, OutputError)
    assert "file' is no writable folder" in str(error)


def test_what_takes_seconds_to_load_is_loaded_where_ctrl_c_is_heard(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").touch()
    slow = "import os, time; os.kill(os.getpid(), 2); time.sleep(60)"
    (tmp_path / "torch/_dynamo.py").write_text(slow)
    code = (
        "from vsr_plugin.cli.stop import leave, listen; from vsr_plugin.cli.progress import load_optimizers; listen()"
    )
    code += "\ntry: load_optimizers()\nexcept KeyboardInterrupt: leave()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (130, "Stopped: nothing was written\n")


def test_an_optimizer_finds_all_that_it_needs_loaded(
    app: typer.Typer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(progress, "load_optimizers", lambda: order.append("load"))
    monkeypatch.setattr(Trainer, "_open_optimizer", lambda self: order.append("make"))
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--steps", "1", "--out", str(tmp_path / "run")]
    CliRunner().invoke(app, words)
    assert order == ["load", "make"]


def test_nothing_to_resume_is_said_before_torch_is_loaded(
    app: typer.Typer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "check", lambda self: pytest.fail("torch is loaded"))
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--out", str(tmp_path / "run"), "--resume"]
    assert "Nothing to resume in" in str(CliRunner().invoke(app, words).exception)


def test_every_step_is_shown(app: typer.Typer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress.Wait, "update", lambda _, what: said.append(what))
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--steps", "4", "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [line.split(",")[:2] for line in said if line.startswith("training")] == [
        [f"training run: step {step}", f" {25 * step}%"] for step in range(1, 5)
    ]
    assert said[-1].endswith(", 0 s left")


def test_every_image_that_is_read_is_counted(
    app: typer.Typer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress.Wait, "update", lambda self, what: said.append(what))
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--steps", "1", "--out", str(tmp_path / "run")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [line for line in said if "reading" in line] == [f"reading pictures: {n} of 10 images" for n in range(1, 11)]
    assert "shrinking images: 27 made" in said  # 9, at three sizes


def test_a_run_says_how_long_validation_took(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", "espcn", "-x", "2", "--data", str(folder), "--steps", "2", "--out", str(run)]
    assert CliRunner().invoke(app, words).exit_code == 0
    found = json.loads((run / "run.json").read_text())
    assert 0 < found["validation_seconds"] < found["history"][-1]["seconds"]


def test_a_run_in_the_way_is_found_before_anything_is_trained(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    (out / "fsrcnn-s_x2").mkdir(parents=True)
    (out / "fsrcnn-s_x2" / "checkpoint.pt").write_text("of another day")
    words = ["train", "espcn", "fsrcnn-s", "-x", "2", "--data", str(folder), "--steps", "1", "--out", str(out)]
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, OutputError)
    assert "fsrcnn-s_x2' already holds a run" in str(error)
    assert not (out / "espcn_x2").exists()


def test_srgan_is_shipped_as_it_was_in_the_end(
    app: typer.Typer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its SRResNet is trained before; what only counts batches is no number to be halved."""
    for name in ("srresnet", "srgan"):
        monkeypatch.setitem(MODELS, name, replace(MODELS[name], options={"blocks": 1, "features": 4}))
    for key in (("srresnet", "fast"), ("srgan", "fast")):
        monkeypatch.setitem(RECIPES, key, replace(RECIPES[key], batch=2, patch={2: 16, 4: 8}))
    monkeypatch.setattr(adversarial, "_WIDTHS", (4,) * 8)
    words = ["train", "srgan", "-x", "2", "--data", str(folder), "--steps", "3", "--out", str(tmp_path / "runs")]
    CliRunner().invoke(app, words, catch_exceptions=False)
    run, weights = tmp_path / "runs" / "srgan_x2", tmp_path / "weights"
    report = json.loads((run / "run.json").read_text())
    assert report["settings"]["start"] == "srresnet_x2/best.safetensors"
    report["history"][0]["psnr"] = 99.0
    (run / "run.json").write_text(json.dumps(report))
    CliRunner().invoke(app, ["models", "export", str(run), str(weights)], catch_exceptions=False)
    row = tomllib.loads((weights / "manifest.toml").read_text(encoding="utf-8"))["srgan_x2"]
    assert row["validation_psnr"] == round(report["history"][-1]["psnr"], 3)
    state = load_file(weights / "srgan_x2.safetensors")
    assert {value.dtype for name, value in state.items() if name.endswith("num_batches_tracked")} == {torch.int64}


def test_mistakes_travel_as_errors_of_ours(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    def error(*words: str) -> BaseException | None:
        return CliRunner().invoke(app, words).exception

    assert isinstance(error("train", "espnc", "-x", "2", "--data", str(folder)), UsageError)
    assert isinstance(error("train", "espcn", "-x", "2", "--data", str(tmp_path / "absent")), InputError)
    assert isinstance(error("models", "export", str(folder), str(tmp_path / "w")), InputError)
    assert isinstance(error("models", "export", "run", "w", "--measure", "Set5"), UsageError)
