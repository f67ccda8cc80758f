"""The programs: their commands, the parser's errors in our words, and the exit codes."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from ..arguments import meant
from ..errors import UsageError
from . import values
from .placeholders import add_placeholders

# Help without boxes prints twice as fast, and shows brackets as they are.
_STYLE: dict[str, Any] = {
    "rich_markup_mode": None,
    "no_args_is_help": True,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}

# Options that people try, and what to use instead.
_ELSEWHERE = {
    "--resolution": "Use --size 1920x1080, --height 1080 or --width 1920",
    "--res": "Use --size 1920x1080, --height 1080 or --width 1920",
    "-i": "The input is named without an option",
    "--input": "The input is named without an option",
}


def run(name: str) -> int:
    """Run a program, print its error if any, and return its exit code."""
    return _code(_PROGRAMS[name]())


def vsr_encode() -> typer.Typer:
    """The command ``vsr-encode``."""
    from .encode import encode

    app = typer.Typer(name="vsr-encode", **_STYLE)
    app.command()(encode)
    return app


def vsr_preview() -> typer.Typer:
    """The command ``vsr-preview``."""
    from .preview import preview

    app = typer.Typer(name="vsr-preview", **_STYLE)
    app.command()(preview)
    return app


def vsr() -> typer.Typer:
    """The command ``vsr`` with all its commands."""
    from .bench import bench
    from .compare import compare
    from .doctor import doctor
    from .encode import encode
    from .engine import cache, engine
    from .eval import evaluate
    from .export import export
    from .models import models
    from .preview import preview
    from .segments import segments
    from .train import train

    about = "Enlarge video with neural networks. `vsr COMMAND --help` says more."
    app = typer.Typer(name="vsr", **_STYLE)
    app.callback(help=about)(_options)
    app.command("encode", short_help="Enlarge videos, images, or folders of them.")(encode)
    app.command("preview", short_help="Play a video enlarged by a network, in a window or a browser.")(preview)
    app.command("compare", short_help="Compare networks on a video or an image, as a web page.")(compare)
    app.add_typer(models, name="models", short_help="List the networks; convert weights.")
    app.command("doctor", short_help="Check this installation, and print how to fix what is wrong.")(doctor)
    app.add_typer(bench, name="bench")
    app.command("segments", short_help="Show where `vsr encode --resume` cuts a film, and what is finished.")(segments)
    app.command("eval", short_help="Measure the PSNR and SSIM of networks.")(evaluate)
    app.command("train", short_help="Train networks.")(train)
    app.command("export", short_help="Write a network as an ONNX, OpenVINO or GLSL file.")(export)
    app.add_typer(engine, name="engine")
    app.add_typer(cache, name="cache")
    return app


def _options(
    version: Annotated[bool, values.VERSION] = False,
) -> None:
    pass


def _code(app: typer.Typer) -> int:
    """Run a command, print its error if any, and return its exit code."""
    try:
        command = typer.main.get_command(app)
        with suppress(AttributeError):  # typer's own names, which are not its interface: without them, it prints types
            add_placeholders(command)
        code = command(standalone_mode=False) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except TyperException as error:  # of the parser; without arguments, its message is the help
        if _unknown_option(error) == "--version":  # every command takes it, but only the programs list it
            values.print_version()
            return 0
        line = _of_parser(error)
        print(line if "\n" in line else f"Error: {line}", file=sys.stderr)  # noqa: T201
        code = getattr(error, "exit_code", 1)
    except Exception as error:  # noqa: BLE001 - the last handler: a bug, too, is one line
        from .terminal import say_error

        say_error(error)
        code = 2 if isinstance(error, UsageError) else 1
    return int(code)


def _unknown_option(error: TyperException) -> str | None:
    """The unknown option that an error is about; None for any other error."""
    unknown = getattr(error, "message", "").startswith("No such option")
    return getattr(error, "option_name", None) if unknown else None


def _of_parser(error: TyperException) -> str:
    """An error of the command line's parser in our words: which option, what was expected, what was given."""
    context: Any = getattr(error, "ctx", None)
    wrong = _unknown_option(error)
    if wrong is not None:
        return f"No such option: {wrong}. {_ELSEWHERE.get(wrong) or _instead(wrong, context)}"
    details, option = getattr(error.__cause__, "errors", None), getattr(error, "param", None)
    if option is not None and details is not None:  # from pydantic, with which newer versions of typer check values
        found = details()[0]
        if found["type"].startswith("int_"):
            return f"Expected {max(option.opts, key=len)} to be a whole number, got {found['input']!r}"
        expected = str(found["msg"]).partition(",")[0].removeprefix("Input should be ").replace("a valid", "a")
        if expected != found["msg"]:
            return f"Expected {max(option.opts, key=len)} to be {expected}, got {found['input']!r}"
    line = error.format_message() if hasattr(error, "format_message") else str(error)
    if line.startswith("No such command") and line.endswith("'."):  # and there is no similar command
        return f"{line} `{context.command_path} --help` lists them"
    if option is not None and line.startswith("Missing "):
        longest = max(option.opts, key=len)
        name = longest if longest.startswith("-") else (option.metavar or longest.upper()).rstrip(".")
        return f"Missing {name}. `{context.command_path} --help` says more"
    return line


def _instead(wrong: str, context: Any) -> str:
    """A hint for an unknown option: the option that was probably meant, or where all are listed."""
    options: dict[str, str] = {}
    for option in context.command.get_params(context):
        longest = max(option.opts, key=len)
        if longest.startswith("--"):
            options |= dict.fromkeys((option.name, longest[2:].replace("-", "_")), longest)
    found = meant(wrong.lstrip("-").replace("-", "_"), options)
    return f"Did you mean {options[found]}?" if found else f"`{context.command_path} --help` lists them"


_PROGRAMS = {"vsr": vsr, "vsr-encode": vsr_encode, "vsr-preview": vsr_preview}
