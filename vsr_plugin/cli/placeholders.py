"""The placeholders for values in the text of ``--help``: MODEL, N or PATH in place of the names of Python's types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_TYPES = {"int": "N", "float": "N", "path": "PATH", "Path": "PATH"}


def add_placeholders(command: Any) -> None:
    """Give a command of typer, and all its subcommands, placeholders that users know from other programs."""
    for one in _all(command):
        for parameter in one.params:
            if parameter.param_type_name == "argument":
                name = parameter.metavar or parameter.name.upper()
                usage = name if parameter.required or parameter.metavar else f"[{name}]"
                parameter.metavar = name
                vars(parameter).update(_usage_display_name=lambda usage=usage: usage, display_type_rich=lambda ctx: "")
            elif parameter.metavar is None and not parameter.is_flag:
                kind = parameter.bare_type().removeprefix("list[").removesuffix("]")
                longest = max(parameter.opts, key=len)
                parameter.metavar = _OF_TYPES.get(kind) or longest.lstrip("-").replace("-", "_").upper()


def _all(command: Any) -> Iterator[Any]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from _all(below)
