"""``vsr eval``."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.networks import seeded
from vsr_plugin.backends.ensemble import mean_of_eight
from vsr_plugin.bench.compressed import flicker
from vsr_plugin.cli import progress
from vsr_plugin.cli.eval import evaluate
from vsr_plugin.errors import OutputError, UsageError
from vsr_plugin.evaluation import bicubic
from vsr_plugin.evaluation import evaluate as measure
from vsr_plugin.images import read_images
from vsr_plugin.models import MODELS, build_model, load_model


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(evaluate)
    return app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "bb"):
        luma = np.kron(rng.integers(0, 256, (10, 12), dtype=np.uint8), np.ones((4, 4), np.uint8))
        av.VideoFrame.from_ndarray(luma, format="gray").save(path / f"{name}.png")
    return path


def test_a_table_ends_with_the_mean(app: typer.Typer, folder: Path) -> None:
    result = CliRunner().invoke(app, ["bicubic", "-x", "2", "--data", str(folder)], catch_exceptions=False)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == ["a.png", "bb.png", "mean"]
    psnrs = [float(line[1]) for line in lines]
    assert psnrs[2] == pytest.approx((psnrs[0] + psnrs[1]) / 2, abs=0.001)


def test_it_says_what_is_measured(app: typer.Typer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress.Wait, "say", lambda _, what: said.append(what))
    assert CliRunner().invoke(app, ["espcn", "-x", "2", "--data", str(folder)]).exit_code == 0
    assert said[0] == "measuring espcn ×2"
    count = len(said) - 1
    assert [line.split(", ")[-1] for line in said[1:]] == [f"{number} of {count}" for number in range(1, count + 1)]


def test_json_holds_every_image(app: typer.Typer, folder: Path) -> None:
    result = CliRunner().invoke(app, ["bicubic", "-x", "3", "--data", str(folder), "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert (report["model"], report["scale"]) == ("bicubic", 3)
    assert [image["name"] for image in report["images"]] == ["a.png", "bb.png"]
    assert report["psnr"] == pytest.approx(sum(image["psnr"] for image in report["images"]) / 2)


def test_a_backend_measures_what_the_module_does(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    save_file(build_model(MODELS["espcn"], 2).state_dict(), tmp_path / "w.safetensors")
    words = ["espcn", "-x", "2", "--data", str(folder), "--weights", str(tmp_path / "w.safetensors"), "--json"]
    plain = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    eager = json.loads(CliRunner().invoke(app, [*words, "--backend", "eager"], catch_exceptions=False).stdout)
    rough = [*words, "--backend", "eager", "--precision", "bfloat16"]
    bfloat16 = json.loads(CliRunner().invoke(app, rough, catch_exceptions=False).stdout)
    assert eager["psnr"] == pytest.approx(plain["psnr"], abs=0.01)
    assert bfloat16["psnr"] != plain["psnr"]


def test_a_network_of_rgb_is_measured_in_rgb(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    spec = MODELS["edsr-baseline"]
    module = seeded(spec, 2)
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    words = ["edsr-baseline", "-x", "2", "--data", str(folder), "--weights", str(tmp_path / "w.safetensors"), "--json"]
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert found["psnr"] == pytest.approx(measure(module, 2, read_images(folder, 3), 3).psnr, abs=1e-6)


def test_the_self_ensemble_is_measured(app: typer.Typer, folder: Path) -> None:
    words = ["espcn", "-x", "2", "--data", str(folder), "--json", "--self-ensemble"]
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    network = load_model("espcn", 2)
    expected = measure(lambda x: mean_of_eight(x, network, network), 2, read_images(folder))
    assert found["psnr"] == pytest.approx(expected.psnr)
    assert found["psnr"] != pytest.approx(measure(network, 2, read_images(folder)).psnr)


@pytest.fixture
def survey(app: typer.Typer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What --all writes of bicubic and ESPCN ×3, of images in a folder that is named like a benchmark."""
    folder = folder.rename(tmp_path / "Set5")
    monkeypatch.setattr("vsr_plugin.bench.survey.MODELS", {"espcn": MODELS["espcn"]})
    words = ["--all", "-x", "3", "--data", str(folder), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert [line.split()[:2] for line in result.stdout.splitlines()[:3]] == [
        ["model", "scale"],
        ["bicubic", "×3"],
        ["espcn", "×3"],
    ]
    return tmp_path / "out"


def test_all_writes_what_it_measures_beside_the_papers_figures(survey: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = json.loads((survey / "models.json").read_text(encoding="utf-8"))
    assert (data["benchmark"], data["images"]) == ("Set5", 2)
    by_name = {row["model"]: row for row in data["rows"]}
    assert by_name["bicubic"]["psnr"] == pytest.approx(measure(bicubic(3), 3, read_images(tmp_path / "Set5")).psnr)
    espcn = by_name["espcn"]
    assert espcn["psnr"] == pytest.approx(measure(load_model("espcn", 3), 3, read_images(tmp_path / "Set5")).psnr)
    assert espcn["published"] == 33.13
    assert espcn["difference"] == pytest.approx(espcn["psnr"] - 33.13)
    assert espcn["fps"] > 0
    text = (survey / "models.md").read_text(encoding="utf-8")
    assert f"| espcn | {espcn['psnr']:.2f} | {espcn['ssim']:.4f} | 33.13 | " in text
    with av.open(str(survey / "models.png")) as container:
        assert next(container.decode(video=0)).width > 500


def test_all_overwrites_nothing_unasked(app: typer.Typer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models.md").write_text("precious")
    error = CliRunner().invoke(app, ["--all", "--data", str(folder), "--out", str(tmp_path)]).exception
    assert isinstance(error, OutputError)
    assert "overwrite=True" in str(error)
    assert (tmp_path / "models.md").read_text() == "precious"


CLIP = Path(__file__).resolve().parents[2] / "examples" / "clip.mp4"


def test_video_measures_what_compression_leaves(app: typer.Typer, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ["espcn", "-x", "2", "--video", str(CLIP), "--crf", "20,35", "--frames", "2", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    lines = [line.split() for line in result.stdout.splitlines() if line]
    assert lines[0] == ["CRF", "kb/s", "enlarged", "by", "PSNR", "SSIM", "VMAF", "flicker"]
    data = json.loads((tmp_path / "o" / "video.json").read_text(encoding="utf-8"))
    assert (data["frames"], data["scale"], data["codec"]) == (2, 2, "libx264")
    labels = [(row["method"], row["tuned_for"]) for row in data["rows"]]
    assert labels == [("bicubic", None), ("lanczos", None), ("espcn", "clean"), ("espcn", "video")] * 3
    rows = {(row["crf"], row["method"], row["tuned_for"]): row for row in data["rows"]}
    for key in (("bicubic", None), ("espcn", "clean")):
        clean, good, poor = (rows[crf, *key] for crf in (None, 20.0, 35.0))
        assert clean["psnr"] > good["psnr"] > poor["psnr"]
        assert clean["ssim"] > good["ssim"] > poor["ssim"]
        assert clean["flicker"] < poor["flicker"]
        assert clean["kbps"] is None
        assert good["kbps"] > poor["kbps"]
    assert rows[None, "espcn", "clean"]["psnr"] > rows[None, "bicubic", None]["psnr"] + 0.5
    with av.open(str(tmp_path / "o" / "video.png")) as container:
        assert next(container.decode(video=0)).width > 500
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, OutputError)


def test_flicker_is_the_change_that_the_original_does_not_have() -> None:
    rng = np.random.default_rng(0)
    truth = [rng.integers(0, 200, (16, 16), dtype=np.uint8) for _ in range(4)]
    assert flicker(truth, [frame + 9 for frame in truth]) == 0  # wrong, but steady
    assert flicker(truth, [frame + 2 * (index % 2) for index, frame in enumerate(truth)]) == 2


@pytest.mark.parametrize("where", [(False, False), (True, True)])
def test_either_images_or_a_video(app: typer.Typer, folder: Path, where: tuple[bool, bool]) -> None:
    data, video = (["--data", str(folder)] if where[0] else []), (["--video", str(CLIP)] if where[1] else [])
    error = CliRunner().invoke(app, ["espcn", "-x", "2", *data, *video]).exception
    assert isinstance(error, UsageError)
    assert "Expected either --data or --video" in str(error)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-x", "2"], "Expected a model and its scale"),
        (["espcn", "-x", "2", "--crf", "low"], "Expected --crf as numbers"),
        (["espcn", "-x", "2", "--crf", "18,99"], "got 99"),
        (
            ["espcn", "-x", "2", "--codec", "libvpx-vp9", "--preset", "slow"],
            "Encoder libvpx-vp9 has no option 'preset'",
        ),
        (["espcn", "-x", "2", "--codec", "libvpx-vp9", "--crf", "23.5"], "Expected --crf in whole numbers"),
        (["bicubic", "-x", "2"], "Expected networks with --video"),
        (["espcn", "-x", "2", "--codec", "mpeg2video"], "Unknown encoder 'mpeg2video'. Known encoders: libx264,"),
        (["espcn", "-x", "2", "--preset", "hurried"], "hurried"),
        (["espcn", "fsrcnn", "-x", "2", "--weights", "mine.pth"], "Expected --weights with one model"),
        (["--all", "-x", "2"], "Expected --video without --all"),
    ],
)
def test_mistakes_with_a_video_are_usage_errors(app: typer.Typer, words: list[str], message: str) -> None:
    error = CliRunner().invoke(app, [*words, "--video", str(CLIP)]).exception
    assert isinstance(error, UsageError)
    assert message in str(error)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["espcn", "fsrcnn", "-x", "2"], "Expected one model with --data"),
        (["espnc", "-x", "2"], "Unknown model"),
        (["espcn", "-x", "2", "--precision", "float16"], "together with --backend"),
        (["espcn"], "Expected a model and its scale"),
        (["--all", "espcn"], "Expected --all without a model"),
        (["--all", "-x", "5"], "Expected a scale that there are weights for (2, 3, 4, 8), got 5"),
        (["espcn", "-x", "2", "--backend", "eager", "--device", "tpu"], "Unknown device 'tpu'"),
        (["espcn", "-x", "2", "--out", "there"], "Expected --out together with --all"),
        (["espcn", "-x", "2", "--device", "cpu"], "together with --backend"),
        (["espcn", "-x", "2", "--crf", "23"], "Expected --video with --crf, got --data"),
        (["--all", "--frames", "5"], "Expected --video with --frames, got --data"),
        (["bicubic", "-x", "2", "--backend", "eager"], "neither --weights nor --backend"),
    ],
)
def test_mistakes_are_usage_errors(app: typer.Typer, folder: Path, words: list[str], message: str) -> None:
    error = CliRunner().invoke(app, [*words, "--data", str(folder)]).exception
    assert isinstance(error, UsageError)
    assert message in str(error)
