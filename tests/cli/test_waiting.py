"""No command is silent while it loads torch, which takes seconds, or while it works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from vsr_plugin.cli.program import vsr

# A line for each command, or none for one that needs no torch.
LINES = {
    "encode": "in.png",
    "preview": "in.png --serve --port 0",
    "compare": "in.png",
    "models": None,
    "models convert": "in.npz out.safetensors --model espcn -x 2",
    "models names": "espcn",
    "models quantize": "espcn out.safetensors -x 2 --data .",
    "models export": ". .",
    "doctor": "",
    "bench": None,
    "bench job": "",
    "bench backends": "",
    "bench preview": "",
    "bench vapoursynth": "",
    "bench kernels": "--device cpu",
    "bench segments": "",
    "bench reuse": "in.png",
    "bench layers": "",
    "segments": "in.png",
    "eval": "espcn -x 2 --data .",
    "train": "espcn --data .",
    "export": "espcn --to onnx",
    "engine": None,
    "engine build": "espcn -x 2 --size 64x64",
    "cache": None,
    "cache ls": None,
    "cache clear": None,
}
# Others that do something else.
MORE = [
    "eval espcn -x 2 --video in.mkv",
    "eval --all --data .",
    "encode in.png -m auto",
    "compare in.png -o out.png",
    "export espcn --to glsl",
    "export espcn --to openvino",
    "bench kernels --predict",
    "models quantize espcn out.safetensors -x 2 --data . --measure a=.",
]
# Ends the process where torch is to be loaded, and says whether the user knows what is going on.
PROGRAM = """
import os, sys
from vsr_plugin.cli import main, progress
said = []
progress.Wait.say = lambda _, what: said.append(what)
progress.Wait.end = lambda _: said.clear()
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("said" if said else "silent", flush=True)
            os._exit(77)
sys.meta_path.insert(0, Finder())
main()
"""


def commands(of: Any, name: str = "") -> list[str]:
    """All that there are, by the words that call them."""
    below = getattr(of, "commands", {})
    return [name] * bool(name) + [each for word in below for each in commands(below[word], f"{name} {word}".strip())]


def test_every_command_is_tried() -> None:
    assert sorted(commands(get_command(vsr()))) == sorted(LINES)


@pytest.mark.parametrize("line", [*(f"{name} {line}" for name, line in LINES.items() if line is not None), *MORE])
def test_loading_torch_is_never_silent(tmp_path: Path, line: str) -> None:
    rng = np.random.default_rng(0)
    for number in range(10):
        image = Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8))
        image.save(tmp_path / ("in.png" if not number else f"{number}.png"))
    np.savez(tmp_path / "in.npz", a=np.zeros(3))
    (tmp_path / "in.mkv").touch()
    environment = os.environ | {"COLUMNS": "80"}
    words = [sys.executable, "-c", PROGRAM, *line.split()]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("said\n", 77), done.stderr
