"""`vsr-encode --model auto`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stream.conftest import Media
from vsr_plugin.cli.networks import Networks
from vsr_plugin.execution import Execution
from vsr_plugin.sizes import Size
from vsr_plugin.stream import Encoding, Selection, choice
from vsr_plugin.stream.choice import Chosen

from .test_encode import Run, run
from .test_first_steps import command

__all__ = ["run"]


@pytest.mark.parametrize(
    ("times", "fps", "told", "height"), [(("-x", 3), 25, 3, 162), (("--height", 110), 24, Size(height=110), 110)]
)
def test_auto_takes_one_model_and_says_which(
    media: Media,
    run: Run,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    times: tuple[Any, ...],
    fps: int,
    told: int | Size,
    height: int,
) -> None:
    asked: list[tuple[int | Size, float, str, str]] = []

    def best_model(_: str, scale: int | Size, fps: float, *, output: str, tuned_for: str, **__: object) -> Chosen:
        asked.append((scale, fps, output, tuned_for))
        return Chosen("fsrcnn", 31.4, enough=True, psnr=33.1, scales=(3,))

    monkeypatch.setattr(choice, "best_model", best_model)
    words = ["-m", "auto", *times, "--fps", fps, "-n", 2, "-o", "out.mkv", "--json", "--tuned-for", "video"]
    assert run(media("plain.mp4"), *words) == 0
    said = capfd.readouterr()
    made = json.loads(said.out)
    assert (made["model"], made["height"], made["tuned_for"]) == ("fsrcnn", height, "video")
    why = f"fsrcnn ×3, about 31.4 fps here: the best of those that make {fps} fps (33.10 dB on Set5 at ×3)"
    assert f"plain.mp4: {why}" in said.err
    assert asked == [(told, fps, "out.mkv", "video")]


def test_parts_go_on_with_the_model_they_were_begun_with(tmp_path: Path) -> None:
    (tmp_path / "out.mkv.parts").mkdir()
    manifest = tmp_path / "out.mkv.parts" / "manifest.json"
    manifest.write_text(json.dumps({"film": "a.mkv", "input": {}, "settings": {"model": "srcnn"}, "versions": {}}))
    networks = Networks("auto", 2, Execution(backend="eager", device="cpu"), None, None, quiet=True)
    opened = networks.open("nothing.mkv", str(tmp_path / "out.mkv"), Selection(), Encoding(), kept=True)
    assert opened.spec.name == "srcnn"
    networks.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fps", "25"), "Expected --fps with --model auto, got --model espcn"),
        (("-m", "auto", "--fps", "0"), "Expected --fps above 0, got 0"),
        (("-m", "auto", "-x", "7"), "Expected a scale that a model has weights for, got 7: use another --scale"),
        (("-m", "auto", "--tuned-for", "film"), "Unknown kind of input 'film'"),
        (("-m", "auto", "--weights", "my.pth"), "Expected --weights with the model they are for, got --model auto"),
    ],
)
def test_what_contradicts_auto_is_said_before_torch_is_loaded(words: tuple[str, ...], message: str) -> None:
    done = command("in.png", "out.png", *words)
    assert f"Error: {message}" in done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    assert done.returncode == 2
