"""The README's figures are the manifest's, and its commands exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from vsr_plugin.models.listing import models_markdown, video_markdown

README = Path(__file__).resolve().parents[1] / "README.md"
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
