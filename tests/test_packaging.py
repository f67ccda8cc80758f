"""What is built is what is on disk: packages, weights, types."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
TOP_LEVEL = ("kernels", "weights")  # folders beside vsr_plugin/ that are packages inside of it


def test_the_list_of_packages_equals_the_folders() -> None:
    inside = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "vsr_plugin").rglob("__init__.py")}
    folders = {f"vsr_plugin.{name}": name for name in TOP_LEVEL}
    beside = {
        f"vsr_plugin.{'.'.join(file.parent.relative_to(ROOT).parts)}"
        for name in TOP_LEVEL
        for file in (ROOT / name).rglob("__init__.py")
    }
    outside = {"vsvsr": "vsr_plugin/vsvsr"}  # a package of its own, by its short name
    assert SETUPTOOLS["packages"] == sorted((inside - {"vsr_plugin.vsvsr"}) | beside | outside.keys())
    assert SETUPTOOLS["package-dir"] == folders | outside


def test_every_module_lies_in_a_listed_package() -> None:
    folders = [ROOT / "vsr_plugin", *(ROOT / name for name in TOP_LEVEL)]
    strays = [file for folder in folders for file in folder.rglob("*.py") if not (file.parent / "__init__.py").exists()]
    assert strays == []


def test_entry_points_exist() -> None:
    from importlib import import_module

    for target in PROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        assert callable(getattr(import_module(module), function))


def test_the_version_is_said_once_and_alike() -> None:
    import vsr_plugin

    assert PROJECT["project"]["version"] == vsr_plugin.__version__
    assert f"## {vsr_plugin.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "group", "safe"), [("filelock", None, (3, 20, 3)), ("aiohttp", "preview", (3, 13, 3))]
)
def test_versions_with_known_holes_are_not_installed(name: str, group: str | None, safe: tuple[int, ...]) -> None:
    """Of filelock, a race between its check and its use of a link; of aiohttp, requests that exhaust the server."""
    project = PROJECT["project"]
    wanted = project["optional-dependencies"][group] if group else project["dependencies"]
    (least,) = (word.partition(">=")[2] for word in wanted if word.partition(">=")[0] == name)
    assert tuple(map(int, least.split("."))) >= safe


@pytest.fixture(scope="module")
def wheel_and_sdist(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The names in a wheel and an sdist of a copy of the tracked files, built by setuptools itself."""
    pytest.importorskip("setuptools", minversion="77")
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    build = f"import setuptools.build_meta as b; b.build_sdist({str(out)!r}); b.build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel, tarfile.open(next(out.glob("*.tar.gz"))) as sdist:
        return set(wheel.namelist()), {name.partition("/")[2] for name in sdist.getnames()}


def test_the_wheel_holds_weights_and_types_and_no_stub(wheel_and_sdist: tuple[set[str], set[str]]) -> None:
    wheel, _ = wheel_and_sdist
    weights = {f"vsr_plugin/weights/{file.name}" for file in (ROOT / "weights").glob("*.safetensors")}
    assert {"vsr_plugin/py.typed", "vsr_plugin/weights/manifest.toml", "vsr_plugin/kernels/reference/cubic.py"} <= wheel
    assert weights <= wheel
    assert not [name for name in wheel if name.endswith(".pyi")]
    assert {name.partition("/")[0] for name in wheel} == {
        "vsr_plugin",
        "vsvsr",
        f"vsr_plugin-{PROJECT['project']['version']}.dist-info",
    }


def test_the_sdist_builds_the_same_wheel(wheel_and_sdist: tuple[set[str], set[str]]) -> None:
    wheel, sdist = wheel_and_sdist
    inside = tuple(f"vsr_plugin/{name}/" for name in TOP_LEVEL)
    sources = {name.removeprefix("vsr_plugin/") if name.startswith(inside) else name for name in wheel}
    sources = {f"vsr_plugin/{name}" if name.startswith("vsvsr/") else name for name in sources}
    assert {name for name in sources if ".dist-info/" not in name} <= sdist
