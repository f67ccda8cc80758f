"""What the parser of the command line refuses is said in our words, with what is meant."""

from __future__ import annotations

import sys

import pytest

from vsr_plugin import __version__
from vsr_plugin.cli import program

COMMANDS = [
    "encode", "preview", "compare", "models", "models convert", "models names", "doctor", "bench", "bench job",
    "bench kernels", "segments", "eval", "train", "export", "engine", "engine build", "cache", "cache ls",
]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, line: str) -> int:
    """Run ``vsr`` in this process, and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["vsr", *line.split()])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # else its path is that of pytest
    return program.run("vsr")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("encode a.mp4 --batch-size 4", "No such option: --batch-size. Did you mean --batch?"),
        ("encode a.mp4 --gpu 0", "No such option: --gpu. Did you mean --device?"),
        ("encode a.mp4 --model_path x", "No such option: --model_path. Did you mean --weights?"),
        ("encode a.mp4 --vcodec x", "No such option: --vcodec. Did you mean --codec?"),
        ("encode a.mp4 --pix_fmt x", "No such option: --pix_fmt. Did you mean --pix-fmt?"),
        ("encode a.mp4 --color-range full", "No such option: --color-range. Did you mean --range?"),
        ("encode a.mp4 --foo", "No such option: --foo. `vsr encode --help` lists them"),
        ("encode -i a.mp4", "No such option: -i. The input is named without an option"),
        ("encode a.mp4 --res 3", "No such option: --res. Use --size 1920x1080, --height 1080 or --width 1920"),
        ("encode a.mp4 --crf good", "Expected --crf to be a number, got 'good'"),
        ("encode a.mp4 -n x", "Expected --frames to be a whole number, got 'x'"),
        ("preview a.mp4 --devise cpu", "No such option: --devise. Did you mean --device?"),
        ("train espcn --epochs 3", "No such option: --epochs. Did you mean --steps?"),
        ("bench job --presicion float32", "No such option: --presicion. Did you mean --precision?"),
        ("models --scal 2", "No such option: --scal. Did you mean --scale?"),
        ("train", "Missing MODEL. `vsr train --help` says more"),
        ("export", "Missing MODEL. `vsr export --help` says more"),
        ("export espcn", "Missing --to. `vsr export --help` says more"),
        ("compare", "Missing CLIP. `vsr compare --help` says more"),
        ("benc", "No such command 'benc'. Did you mean 'bench', 'encode'?"),
        ("in.mp4", "No such command 'in.mp4'. `vsr --help` lists them"),
        ("bench in.mp4", "No such command 'in.mp4'. `vsr bench --help` lists them"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    assert run(monkeypatch, line) == 2
    assert capsys.readouterr() == ("", f"Error: {said}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_the_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(monkeypatch, f"{command} --version") == 0
    assert capsys.readouterr() == (f"vsr_plugin {__version__}\n", "")


@pytest.mark.parametrize("group", ["bench", "cache", "engine"])
def test_a_group_alone_shows_its_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    assert run(monkeypatch, group) == 2
    assert "\nCommands:\n" in capsys.readouterr().err
