"""Weights for compressed video: which there are, how they are asked for, and that they are what they are said to be."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from vsr_plugin import Frame, Upscaler, load_model
from vsr_plugin.cli.encode import encode
from vsr_plugin.cli.models import models
from vsr_plugin.errors import UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.export import export_file
from vsr_plugin.models import CLEAN, MODELS, TUNINGS, manifest
from vsr_plugin.models.specs import weights_key
from vsr_plugin.sizes import Target
from vsr_plugin.stream.segments.manifest import network

CLIP = Path(__file__).resolve().parents[2] / "examples" / "clip.mp4"
EAGER = Execution(backend="eager", device="cpu")
app = typer.Typer()
app.command("encode")(encode)
app.add_typer(models)
TUNED = [row for row in manifest().values() if row.get("tuned_for", CLEAN) != CLEAN]


def test_there_are_weights_for_video() -> None:
    there = {(row["model"], row["scale"]) for row in TUNED}
    assert {(model, scale) for model in ("espcn", "fsrcnn") for scale in (2, 3, 4)} <= there
    assert {row["tuned_for"] for row in TUNED} <= set(TUNINGS)


@pytest.mark.parametrize("row", TUNED, ids=lambda row: weights_key(row["model"], row["scale"], row["tuned_for"]))
def test_they_are_better_where_they_should_be(row: dict[str, dict[str, dict[str, dict[str, float]]]]) -> None:
    """On real clips at CRF 23 and 28, on average; what they lose on clean input is written down, too."""
    for crf in ("crf23", "crf28"):
        gains = [clip[crf]["video"] - clip[crf]["clean"] for clip in row["compressed"].values()]
        assert len(gains) >= 3
        assert sum(gains) / len(gains) > 0.04
    assert all("none" in clip for clip in row["compressed"].values())


def test_they_are_others_than_those_for_clean_input() -> None:
    clean, video = (load_model("espcn", 2, tuned_for=kind).state_dict() for kind in TUNINGS)
    assert clean.keys() == video.keys()
    assert not torch.equal(clean["conv1.weight"], video["conv1.weight"])
    frame = Frame((np.random.default_rng(0).integers(16, 236, (12, 16), np.uint8),), 0, Fraction(1, 25))
    with Upscaler("espcn", 2, EAGER) as plain, Upscaler("espcn", 2, EAGER, tuned_for="video") as tuned:
        assert (plain.tuned_for, tuned.tuned_for) == ("clean", "video")
        assert not np.array_equal(plain.upscale([frame])[0].planes[0], tuned.upscale([frame])[0].planes[0])


@pytest.mark.parametrize(
    ("model", "scale", "tuned_for", "message"),
    [
        ("srcnn", 2, "video", r"^No weights of srcnn ×2 are tuned for video. Those there are: .*espcn ×2"),
        ("espcn", 2, "film", r"^Unknown kind of input 'film'. Weights are tuned for clean or video$"),
    ],
)
def test_what_there_is_not_is_one_line(model: str, scale: int, tuned_for: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(model, scale, tuned_for=tuned_for)
    result = CliRunner().invoke(app, ["encode", str(CLIP), "-m", model, "-x", str(scale), "--tuned-for", tuned_for])
    assert isinstance(result.exception, UsageError)


def test_own_weights_are_not_tuned_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Expected weights of your own or shipped ones that are tuned, got both"):
        load_model("espcn", 2, tmp_path / "mine.safetensors", tuned_for="video")


def test_files_say_which_weights_made_them(tmp_path: Path) -> None:
    words = ["encode", str(CLIP), "-n", "2", "--tuned-for", "video", "--json", "--backend", "eager"]
    words += ["-o", str(tmp_path / "a.mp4"), "--device", "cpu"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(result.stdout)["tuned_for"] == "video"
    shader = {kind: export_file("espcn", 2, "glsl", tmp_path / f"{kind}.glsl", tuned_for=kind) for kind in TUNINGS}
    assert shader["clean"].read_bytes() != shader["video"].read_bytes()


def test_segments_tell_them_apart() -> None:
    target = Target(32, 24, (2,))
    found = []
    for kind in TUNINGS:
        with Upscaler("espcn", 2, EAGER, tuned_for=kind) as upscaler:
            found.append(network(upscaler, target))
    assert [each["tuned for"] for each in found] == list(TUNINGS)
    assert found[0]["weights"] != found[1]["weights"]


def test_the_preview_leaves_out_what_has_no_such_weights() -> None:
    pytest.importorskip("cv2")
    from vsr_plugin.preview.networks import Networks

    networks = Networks(tuned_for="video", execution=EAGER)
    assert "espcn" in networks.models(2)
    assert "srcnn" not in networks.models(2)
    with networks.open("espcn", 2) as upscaler:
        assert upscaler.tuned_for == "video"


def test_the_filter_takes_them() -> None:
    vs = pytest.importorskip("vapoursynth")
    from vsr_plugin.vapoursynth import upscale

    clip = vs.core.std.BlankClip(format=vs.GRAY8, width=16, height=12, length=1, color=90)
    clip = vs.core.std.StackHorizontal([clip, vs.core.std.BlankClip(clip, color=150)])
    made = [
        np.asarray(upscale(clip, "espcn", 2, tuned_for=kind, backend="eager", device="cpu").get_frame(0)[0])
        for kind in TUNINGS
    ]
    assert not np.array_equal(made[0], made[1])
    with pytest.raises(vs.Error, match="no weights of srcnn ×2 are tuned for video"):
        upscale(clip, "srcnn", 2, tuned_for="video")


def test_models_lists_what_weights_are_tuned_for() -> None:
    rows = json.loads(CliRunner().invoke(app, ["models", "--json"], catch_exceptions=False).stdout)
    by_key = {(row["model"], row["scale"]): row["tuned_for"] for row in rows}
    assert by_key["espcn", 2] == ["clean", "video"]
    assert by_key["srcnn", 2] == ["clean"]
    listed = CliRunner().invoke(app, ["models", "espcn"], catch_exceptions=False)
    assert "--tuned-for video: espcn ×2" in listed.stderr
    assert "\n--precision int8: espcn ×2 ×3 ×4, fsrcnn ×2 ×3 ×4\n" in CliRunner().invoke(app, ["models"]).stderr
    assert MODELS["espcn"].weights(2, "video") == "espcn_x2_video.safetensors"
