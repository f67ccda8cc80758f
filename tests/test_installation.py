"""The command that installs an extra fits how the package was installed."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vsr_plugin import installation

EDITABLE = {"url": "file:///home/me/my%20code", "dir_info": {"editable": True}}
FOLDER = {"url": "file:///home/me/code", "dir_info": {}}
WHEEL = {"url": "file:///dist/vsr_plugin-1-py3-none-any.whl", "archive_info": {}}
GIT = {"url": "https://host/vsr.git", "vcs_info": {"vcs": "git"}}


@pytest.mark.parametrize(
    ("origin", "pip", "expected"),
    [
        (None, True, "pip install 'vsr-plugin[tensorrt]'"),
        (None, False, "uv pip install 'vsr-plugin[tensorrt]'"),
        (EDITABLE, True, "pip install -e '/home/me/my code[tensorrt]'"),
        (FOLDER, True, "pip install '/home/me/code[tensorrt]'"),
        (WHEEL, False, "uv pip install '/dist/vsr_plugin-1-py3-none-any.whl[tensorrt]'"),
        (GIT, True, "pip install 'vsr-plugin[tensorrt] @ git+https://host/vsr.git'"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="other quotes and paths")
def test_an_extra_comes_from_where_the_package_came_from(
    monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None, pip: bool, expected: str
) -> None:
    _pretend(monkeypatch, origin, pip=pip)
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert installation.install("tensorrt") == expected


def test_the_environment_of_a_project_is_synced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _pretend(monkeypatch, {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}, pip=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    elsewhere = shlex.split(installation.install("preview"))
    assert elsewhere == ["uv", "sync", "--directory", str(tmp_path), "--inexact", "--extra", "preview"]
    monkeypatch.chdir(tmp_path)
    assert installation.install("preview") == "uv sync --inexact --extra preview"


def test_a_tool_of_uv_is_installed_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _pretend(monkeypatch, WHEEL, pip=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (tmp_path / "uv-receipt.toml").touch()
    wheel = "/dist/vsr_plugin-1-py3-none-any.whl"
    assert installation.install("preview") == f"uv tool install --force '{wheel}[preview]'"
    assert installation.install_package("triton") == f"uv tool install --with triton {wheel}"
    assert installation.reinstall() == f"uv tool install --force {wheel}"


def test_a_torch_for_cpus_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`uv sync` would install what GPUs need, 4 GB, and so would a tool that is made anew."""
    _pretend(monkeypatch, {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}, pip=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(metadata, "version", lambda name: "2.15.0+cpu")
    installer = ["uv", "pip", "install", "--python", str(tmp_path / ".venv")]
    assert shlex.split(installation.install("preview")) == [*installer, "-e", f"{tmp_path}[preview]"]
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/uv-receipt.toml").touch()
    _pretend(monkeypatch, WHEEL, pip=False)
    wheel = "/dist/vsr_plugin-1-py3-none-any.whl"
    tool = "uv tool install --torch-backend=cpu"
    assert installation.install("preview") == f"{tool} --force '{wheel}[preview]'"
    assert installation.install_package("triton") == f"{tool} --with triton {wheel}"
    assert installation.reinstall() == f"{tool} --force {wheel}"


def test_an_environment_that_is_not_active_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    _pretend(monkeypatch, None, pip=False)
    assert installation.install_package("triton") == f"uv pip install --python {tmp_path} triton"
    _pretend(monkeypatch, None, pip=True)
    assert installation.install_package("triton") == f"{sys.executable} -m pip install triton"
    assert installation.reinstall() == f"{sys.executable} -m pip install --force-reinstall --no-deps vsr-plugin"


def _pretend(monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None, *, pip: bool) -> None:
    text = None if origin is None else json.dumps(origin)
    # A clone has another one beside it, of what was built there.
    found = [SimpleNamespace(read_text=lambda _: None), SimpleNamespace(read_text=lambda _: text)]
    monkeypatch.setattr(metadata, "distributions", lambda name: found)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if pip else None)
