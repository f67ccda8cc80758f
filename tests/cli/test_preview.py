"""What `vsr-preview` says before it opens anything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from vsr_plugin import cli
from vsr_plugin.cli import values
from vsr_plugin.cli.preview import encode_command
from vsr_plugin.preview import KEYS

CLIP = Path(__file__).parents[2] / "examples/clip.mp4"


def preview(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of ``vsr-preview``."""
    monkeypatch.setattr(sys, "argv", ["vsr-preview", *map(str, words)])
    monkeypatch.setenv("DISPLAY", "")
    with pytest.raises(SystemExit) as stop:
        cli.main_preview()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-"], 2, "Expected a file or a camera, got standard input: write what comes there to a file first"),
        (["nowhere.mp4"], 1, "No such file: nowhere.mp4"),
        ([CLIP, "-m", "espnc"], 2, "Unknown model 'espnc'. Did you mean 'espcn'?"),
        ([CLIP, "-x", "7"], 2, "Model 'espcn' has no scale 7"),
        ([CLIP, "-m", "auto", "--weights", "mine.pth"], 2, "Expected --weights with the model they are for"),
        ([CLIP, "--start", "soon"], 2, "Expected --start"),
        ([CLIP, "--matrix", "bt708"], 2, "Unknown matrix 'bt708'. Expected one of bt709, bt601, "),
        ([CLIP, "--host", "0.0.0.0"], 2, "Expected --host and --port with --serve, got no --serve"),
        ([CLIP, "--port", "80"], 2, "Expected --host and --port with --serve, got no --serve"),
    ],
)
def test_a_wrong_wish_ends_in_one_line(
    words: list[object], code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preview(monkeypatch, *words) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"Error: {message}")
    assert said.err.count("\n") == 1


def test_the_help_has_the_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert preview(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    for key, what in KEYS.items():
        assert f"{key:8}{what}" in said


@pytest.mark.parametrize(
    "given",
    [
        {"scale": 3},
        {"height": 1080},
        {"width": 1920, "square": True},
        {"size": "1920x1080", "fit": "cover"},
        {"width": 1920, "height": 1080},
    ],
    ids=str,
)
def test_the_command_asks_for_the_same_size(given: dict[str, Any]) -> None:
    nothing: dict[str, Any] = {"scale": None, "width": None, "height": None, "size": None, "fit": None, "square": False}
    times = values.enlargement(**{**nothing, **given})
    flags = {name.lstrip("-").replace("-pixels", ""): value for name, value in values.enlargement_flags(times).items()}
    flags["scale"] = flags.pop("x", None)
    assert values.enlargement(**{**nothing, **flags}) == times
    command = encode_command("in.mp4", values.enlargement_flags(times))
    if "fit" in given:
        assert command == "vsr-encode in.mp4 --size 1920x1080 --fit cover"


def test_the_command_has_what_was_given() -> None:
    options = {"-m": "espcn", "-x": 3, "--matrix": "bt709", "--range": None, "--deinterlace": True, "--loop": False}
    assert encode_command("my clip.mp4", options) == (
        "vsr-encode 'my clip.mp4' -m espcn -x 3 --matrix bt709 --deinterlace"
    )
