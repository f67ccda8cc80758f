"""Errors say what happened; what would help is said in the words of whoever speaks."""

from __future__ import annotations

import ast
import pickle
import re

import pytest

from tests.test_layering import ROOT, sources
from vsr_plugin import errors
from vsr_plugin.cli.terminal import remedy as in_flags
from vsr_plugin.errors import OutputError, UsageError, VsrError

LEAVES = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, VsrError)]
# These write commands for people to read, and are no messages.
COMMANDS = {"vsr_plugin/training/export.py", "vsr_plugin/training/transfer.py", "vsr_plugin/models/listing.py"}
FLAG = re.compile(r"(^|[ (])(-y|--[a-z][a-z-]+|`vsr [a-z]+)")


@pytest.mark.parametrize(
    ("use", "in_python", "on_the_command_line"),
    [
        ({}, "no", "no"),
        ({"overwrite": True}, "no: use overwrite=True", "no: add -y to overwrite it"),
        ({"deinterlace": True}, "no: use deinterlace=True", "no: use --deinterlace"),
        ({"frame_rate": None}, "no: leave frame_rate out", "no: leave --frame-rate out"),
        ({"tile": "auto"}, "no: use tile='auto'", "no: use --tile auto"),
        (
            {"device": "cuda", "backend": ...},
            "no: use device='cuda', or use another backend",
            "no: use --device cuda, or use another --backend",
        ),
    ],
)
def test_what_helps_is_said_in_the_words_of_who_speaks(
    use: dict[str, object], in_python: str, on_the_command_line: str
) -> None:
    error = OutputError("no", **use)
    assert str(error) == in_python
    assert error.message_for(in_flags) == on_the_command_line


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_error_keeps_its_facts_across_processes(leaf: type[VsrError]) -> None:
    error = pickle.loads(pickle.dumps(leaf("film.mkv exists", overwrite=True)))
    assert (type(error), str(error)) == (leaf, "film.mkv exists: use overwrite=True")
    assert error.use == {"overwrite": True}


def test_a_usage_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="wrong"):
        raise UsageError("wrong")


def test_the_library_names_no_flag_of_the_command_line() -> None:
    found = []
    for file in sources():
        name = file.relative_to(ROOT).as_posix()
        if name.startswith("vsr_plugin/cli/") or name in COMMANDS:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        statements = [node for node in ast.walk(tree) if isinstance(node, ast.Raise) or _logs(node)]
        for statement in statements:
            strings = [node.value for node in ast.walk(statement) if isinstance(node, ast.Constant)]
            found += [f"{name}: {text}" for text in strings if isinstance(text, str) and FLAG.search(text)]
    assert found == []


def _logs(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("info", "warning", "error", "debug")
    )
