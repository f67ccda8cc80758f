"""How this package was installed, and the commands that add to the installation or repeat it."""

from __future__ import annotations

import json
import os
import sys
from importlib import util
from pathlib import Path
from urllib.parse import unquote, urlparse

_NAME = "vsr-plugin"


def install(extra: str) -> str:
    """The command that adds an extra, such as ``tensorrt``, to this installation."""
    origin = _origin()
    source = _folder(origin)
    if source is not None and _is_editable(origin) and _is_project(source) and not is_for_cpus():
        where = "" if Path.cwd() == source else f" --directory {_quoted(str(source))}"
        return f"uv sync{where} --inexact --extra {extra}"
    flag = "-e " if _is_editable(origin) else ""
    return f"{_installer()} {flag}{_quoted(_requirement(origin, f'[{extra}]'), always=True)}"


def is_for_cpus() -> bool:
    """Whether torch is its build for CPUs, which `uv sync` would replace by the 4 GB build for GPUs."""
    from importlib import metadata

    try:
        return str(metadata.version("torch")).endswith("+cpu")  # None of a damaged installation
    except metadata.PackageNotFoundError:
        return False


def install_package(name: str) -> str:
    """The command that installs another package into the same environment."""
    return f"{_installer(beside=name)}" if _is_tool() else f"{_installer()} {name}"


def reinstall() -> str:
    """The command that installs this package again."""
    origin = _origin()
    flag = "-e " if _is_editable(origin) else ""
    if _is_tool():
        return f"{_installer()} {_quoted(_requirement(origin))}"
    return f"{_installer()} --force-reinstall --no-deps {flag}{_quoted(_requirement(origin))}"


def _origin() -> dict[str, object]:
    """The origin of the package (PEP 610); empty if it came from an index."""
    from importlib import metadata  # slow, and only needed if something is missing

    # In a clone, the metadata of its build is found, too, which has no record of the installation.
    told = (one.read_text("direct_url.json") for one in metadata.distributions(name=_NAME))
    text = next((text for text in told if text), None)
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _folder(origin: dict[str, object]) -> Path | None:
    from urllib.request import url2pathname

    url = urlparse(str(origin.get("url", "")))
    return Path(url2pathname(unquote(url.path))) if url.scheme == "file" else None


def _is_editable(origin: dict[str, object]) -> bool:
    info = origin.get("dir_info")
    return isinstance(info, dict) and bool(info.get("editable"))


def _is_project(source: Path) -> bool:
    """Whether this environment is the one that uv keeps for the project in a folder."""
    return Path(sys.prefix) == source / ".venv" and not _has_pip()


def _has_pip() -> bool:
    return util.find_spec("pip") is not None


def _is_tool() -> bool:
    return (Path(sys.prefix) / "uv-receipt.toml").exists()


def _requirement(origin: dict[str, object], extras: str = "") -> str:
    source = _folder(origin)
    if source is not None:
        return f"{source}{extras}"
    url, info = origin.get("url"), origin.get("vcs_info")
    if url is None:
        return f"{_NAME}{extras}"
    version_control = f"{info.get('vcs')}+" if isinstance(info, dict) else ""
    return f"{_NAME}{extras} @ {version_control}{url}"


def _installer(beside: str = "") -> str:
    if _is_tool():
        command = "uv tool install --torch-backend=cpu" if is_for_cpus() else "uv tool install"
        return f"{command} --with {beside} {_requirement(_origin())}" if beside else f"{command} --force"
    active = sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") == sys.prefix
    if _has_pip():
        return "pip install" if active else f"{_quoted(sys.executable)} -m pip install"
    return "uv pip install" if active else f"uv pip install --python {_quoted(sys.prefix)}"


def _quoted(text: str, *, always: bool = False) -> str:
    """Quote text for shells and for the Windows command prompt."""
    quote = '"' if os.name == "nt" else "'"
    return f"{quote}{text}{quote}" if always or " " in text else text
