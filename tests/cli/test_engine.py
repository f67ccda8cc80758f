"""`vsr engine build` and `vsr cache`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests import PATIENCE
from vsr_plugin import cli, tiling
from vsr_plugin.backends.cache import Cache
from vsr_plugin.models import MODELS

if TYPE_CHECKING:
    from pathlib import Path


def vsr(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of ``vsr``."""
    monkeypatch.setattr(sys, "argv", ["vsr", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_an_engine_is_built_listed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    pytest.importorskip("onnxscript")
    wish = ["engine", "build", "espcn", "-x", 3, "--size", "64x48", "--cache-dir", tmp_path]
    assert vsr(monkeypatch, *wish, "--compute-capability", "8.9") == 0
    said = capsys.readouterr()
    [engine] = tmp_path.glob("*.engine")
    assert said.out == f"{engine}\n"
    assert "building the engine of espcn ×3, 72×56" in said.err
    assert vsr(monkeypatch, *wish, "--compute-capability", "8.9") == 0
    said = capsys.readouterr()
    assert said.out == f"{engine}\n"
    assert said.err.endswith("It was there already.\n")
    assert "building" not in said.err
    assert vsr(monkeypatch, *wish, "--compute-capability", "8.9", "--tile", 32, "-q") == 0
    assert vsr(monkeypatch, *wish, "--compute-capability", "8.9", "--dynamic", "-q") == 0
    assert vsr(monkeypatch, *wish, "--compute-capability", "9.0") == 2
    assert "Expected a compute capability that TensorRT-RTX" in capsys.readouterr().err

    assert vsr(monkeypatch, "cache", "ls", "--cache-dir", tmp_path, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in rows].count("engine") == 3
    sizes = {row["what"].split(", ")[1] for row in rows if row["kind"] == "engine"}  # of extended frames
    height, width = tiling.plan(48, 64, 32, MODELS["espcn"].overlap[3], 1).size
    assert sizes == {"72×56", f"{width}×{height}", "16×16 to 72×56"}
    assert vsr(monkeypatch, "cache", "ls", "--cache-dir", tmp_path) == 0
    said = capsys.readouterr()
    assert engine.stem[:12] in said.out
    assert said.err.startswith("3 files, ")
    assert vsr(monkeypatch, "cache", "clear", "--cache-dir", tmp_path) == 0
    assert list(tmp_path.glob("*.engine")) == []
    assert capsys.readouterr().err.startswith("Removed 3 files, ")


def test_where_nothing_can_be_kept_nothing_is_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    (tmp_path / "file").touch()
    wish = ["engine", "build", "espcn", "-x", 3, "--size", "64x48", "--compute-capability", "8.9", "--cache-dir"]
    assert vsr(monkeypatch, *wish, "/proc/nowhere") == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: Cannot keep engines in /proc/nowhere")
    assert said.count("\n") == 1
    assert vsr(monkeypatch, *wish, tmp_path / "file") == 2
    assert "which is a file" in capsys.readouterr().err


def test_two_at_once_build_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    pytest.importorskip("onnxscript")
    words = ("engine", "build", "espcn", "-x", "3", "--size", "64x48", "--compute-capability", "8.9", "--cache-dir")
    command = (sys.executable, "-c", "from vsr_plugin.cli import main; main()", *words, str(tmp_path))
    said = [tmp_path.parent / f"{tmp_path.name}_{number}.txt" for number in range(2)]
    with Cache(tmp_path).lock():
        both = [subprocess.Popen(command, stderr=file.open("w"), stdout=subprocess.DEVNULL) for file in said]
        end = time.monotonic() + PATIENCE
        while not all("another process builds an engine" in file.read_text() for file in said):
            assert time.monotonic() < end
            time.sleep(0.1)
    assert [process.wait(PATIENCE) for process in both] == [0, 0]
    endings = sorted(file.read_text().splitlines()[-1] for file in said)
    assert endings[0] == "It was there already."
    assert "building the engine" in " ".join(file.read_text() for file in said)
    assert endings[1] != endings[0]
    assert len(list(tmp_path.glob("*.engine"))) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["espcn", "-x", "5", "--size", "64x48"], "Model 'espcn' has no scale 5"),
        (["espcn", "-x", "3", "--size", "64"], "Expected --size as 480x270, got '64'"),
        (["espcn", "-x", "3", "--size", "99999x8"], "Expected --size up to 16384x16384, got 99999x8"),
        (["espcn", "-x", "3", "--size", "0x8"], "Expected --size as 480x270, got '0x8'"),
        (["espcn", "-x", "3", "--size", "480x00"], "Expected --size as 480x270, got '480x00'"),
        (
            ["espcn", "-x", "3", "--size", "64x48", "--compute-capability", "sm89"],
            "Expected --compute-capability as 8.9, got 'sm89'",
        ),
        (
            ["espcn", "-x", "3", "--size", "64x48", "--precision", "float8"],
            "Backend 'tensorrt' has no precision 'float8'. Its precisions: float32, float16, bfloat16",
        ),
    ],
)
def test_a_wrong_wish_ends_in_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vsr(monkeypatch, "engine", "build", *words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"Error: {message}")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "No GPU here to build for: name one that is elsewhere, with --compute-capability 8.9"),
        (["--compute-capability", "8.9"], "Expected no --compute-capability with TensorRT, which builds on the GPU"),
    ],
)
def test_what_cannot_be_built_here_says_what_can(
    more: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import torch

    from vsr_plugin.backends.tensorrt import Target, backend

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    full = SimpleNamespace(name="tensorrt", target=lambda _: Target("tensorrt", "10.9", "8.9"))
    monkeypatch.setattr(backend, "find_flavor", lambda **_: full)
    monkeypatch.setitem(sys.modules, "tensorrt", full)
    words = ["espcn", "-x", "3", "--size", "64x48", "--cache-dir", str(tmp_path), *more]
    assert vsr(monkeypatch, "engine", "build", *words) == 2
    assert capsys.readouterr().err.startswith(f"Error: {message}")


def test_that_there_is_no_tensorrt_is_said_before_torch_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("vsr_plugin.cli.progress.load_torch", lambda: pytest.fail("torch is loaded"))
    assert vsr(monkeypatch, "engine", "build", "espcn", "-x", "3", "--size", "64x48") == 1
    assert capsys.readouterr().err.startswith("Error: Backend 'tensorrt' is not installed: ")


def test_an_empty_cache_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vsr(monkeypatch, "cache", "ls", "--cache-dir", tmp_path) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"0 files, 0.0 MB, in {tmp_path}\n")


@pytest.mark.parametrize("command", ["ls", "clear"])
def test_a_cache_that_is_not_there_is_an_error_if_it_is_named(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vsr(monkeypatch, "cache", command, "--cache-dir", tmp_path / "nowhere") == 1
    assert capsys.readouterr().err == f"Error: No such folder: {tmp_path / 'nowhere'}\n"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert vsr(monkeypatch, "cache", command) == 0


@pytest.mark.parametrize("command", ["ls", "clear"])
def test_a_file_is_no_cache_folder(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    assert vsr(monkeypatch, "cache", command, "--cache-dir", file) == 2
    assert (
        capsys.readouterr().err
        == f"Error: Expected a folder, got {file}, which is a file: give the folder with --cache-dir\n"
    )
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize("words", [("encode",), ("engine", "build"), ("cache", "ls"), ("cache", "clear")])
def test_help_names_the_variable_of_the_default_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert vsr(monkeypatch, *words, "--help") == 0
    assert "VSR_CACHE_DIR" in capsys.readouterr().out
