"""The README's figures are the manifest's, and its commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import vsr_plugin
from vsr_plugin.cli.program import vsr, vsr_encode, vsr_preview
from vsr_plugin.models.listing import models_markdown, video_markdown

README = Path(__file__).resolve().parents[1] / "README.md"
PROGRAMS = {"vsr": vsr, "vsr-encode": vsr_encode, "vsr-preview": vsr_preview}
_END = "\n<!-- -->\n"
_TABLES = {
    "<!-- vsr models --markdown -->\n": models_markdown,
    "<!-- vsr models export --clip -->\n": video_markdown,
}


@pytest.mark.parametrize("begin", _TABLES)
def test_the_tables_are_the_manifests(begin: str) -> None:
    text = README.read_text(encoding="utf-8")
    assert begin + _TABLES[begin]() + _END in text, "run: python -m tests.test_readme"


def test_the_two_commands_stand_there() -> None:
    text = README.read_text(encoding="utf-8")
    assert "    pip install uv && uv run vsr-encode examples/clip.mp4 --model espcn -x 3\n" in text
    assert "    pip install uv && uv run pytest\n" in text


def test_the_first_command_installs_neither_tensorrt_nor_a_browser() -> None:
    groups = tomllib.loads((README.parent / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    assert not [needed for needed in groups["dev"] if "tensorrt" in needed or "playwright" in needed]
    assert "default-groups" not in (README.parent / "pyproject.toml").read_text(encoding="utf-8")


def test_every_command_is_one_that_there_is() -> None:
    """Parsed, not run: the options exist, and take what they are given."""
    found = 0
    for line in _lines():
        for part in re.split(r" \| | && | -- (?=vsr)", line.partition("  #")[0]):
            name, *words = shlex.split(part.strip().removeprefix("uv run ").removeprefix(".venv/bin/")) or [""]
            if name in PROGRAMS:
                _parse(get_command(PROGRAMS[name]()), name, words)
                found += 1
    assert found > 50


def _lines() -> Iterator[str]:
    """Those of the code that is indented by four, with what goes on in the next line."""
    text = README.read_text(encoding="utf-8").replace("\\\n", " ")
    return iter(re.findall(r"^    (\S.*)$", text, re.MULTILINE))


def _parse(command: Any, name: str, words: list[str]) -> None:
    context = command.make_context(name, list(words))
    below = getattr(command, "commands", {})
    if below and (rest := context._protected_args + context.args):
        _parse(below[rest[0]], f"{name} {rest[0]}", rest[1:])


def test_no_shell_pattern_is_quoted() -> None:
    quoted = [word for line in _lines() for word in re.findall(r"'[^']*'|\"[^\"$]*\"", line.partition("  #")[0])]
    assert [word for word in quoted if "*" in word] == [], "pip and uv do not expand it"


def test_the_first_scripts_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for script in scripts:
        compile(script, "README", "exec")
    clip = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:d=0.2", "in.mp4"]
    subprocess.run(clip, cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    image = np.full((12, 16, 3), 100, np.uint8)
    names: dict[str, Any] = {"image": image}
    for script in scripts[:2]:
        exec(script, names)
    assert names["report"].frames > 1
    assert (tmp_path / "out.mp4").exists()
    assert names["large"].shape == (36, 48, 3)


def test_every_word_of_python_is_one_that_there_is() -> None:
    text = README.read_text(encoding="utf-8").partition("## Python\n")[2].partition("\n## VapourSynth")[0]
    assert {name for name in re.findall(r"\bvsr\.(\w+)", text) if not hasattr(vsr_plugin, name)} == set()


def test_what_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target


def write_tables() -> None:
    """Bring the tables up to the manifest: after new weights."""
    text = README.read_text(encoding="utf-8")
    for begin, table in _TABLES.items():
        before, rest = text.split(begin)
        text = before + begin + table() + _END + rest.split(_END, 1)[1]
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_tables()
