"""The README's figures are the manifest's, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

from vsr_plugin.models.listing import models_markdown

README = Path(__file__).resolve().parents[1] / "README.md"
_BEGIN, _END = "<!-- vsr models --markdown -->\n", "\n<!-- -->\n"


def test_the_models_tables_are_the_manifests() -> None:
    assert _BEGIN + models_markdown() + _END in README.read_text(encoding="utf-8"), "run: python -m tests.test_readme"


def test_the_two_commands_stand_there() -> None:
    text = README.read_text(encoding="utf-8")
    assert "    pip install uv && uv run vsr-encode examples/clip.mp4 --model espcn -x 3\n" in text
    assert "    pip install uv && uv run pytest\n" in text


def test_what_the_readme_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target


def write_tables() -> None:
    """Bring the tables up to the manifest: after new weights."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    README.write_text(before + _BEGIN + models_markdown() + _END + rest.split(_END, 1)[1], encoding="utf-8")


if __name__ == "__main__":
    write_tables()
