"""``vsr export``: what it writes where, what it leaves alone, and what it refuses before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import PATIENCE
from vsr_plugin import cli
from vsr_plugin.errors import BackendError, OutputError
from vsr_plugin.export import export_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """``run("espcn", "--to", "glsl")``: the exit code of vsr export in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["vsr", "export", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    return command


def everything(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 - hidden files, too


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("openvino", ["espcn_x3.bin", "espcn_x3.xml"]),
        ("glsl", ["espcn_x3.glsl"]),
        ("onnx", ["espcn_x3.onnx"]),
    ],
)
def test_a_file_is_named_and_nothing_is_overwritten(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, files: list[str]
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    words = ("espcn", "-x", 3, "--to", kind)
    assert run(*words) == 0
    assert capfd.readouterr().out == f"{files[-1]}\n"
    assert everything(tmp_path) == files
    for file in files:  # the weights beside the graph, too
        for other in files:
            (tmp_path / other).unlink()
        (tmp_path / file).write_text("precious")
        assert run(*words) == 1
        assert capfd.readouterr().err == f"Error: {file} exists: add -y to overwrite it\n"
        assert everything(tmp_path) == [file]
        assert (tmp_path / file).read_text() == "precious"
        assert run(*words, "-y") == 0
        assert everything(tmp_path) == files
        capfd.readouterr()
    assert run(*words, "-o", "into/") == 0  # a folder that is made
    assert everything(tmp_path / "into") == files


REFUSED = [
    (("espnc", "--to", "onnx"), 2, "Unknown model 'espnc'. Did you mean 'espcn'?"),
    (("espcn", "--to", "onnx", "-x", "8"), 2, "Model 'espcn' has no scale 8"),
    (("espcn", "--to", "keras"), 2, "Unknown kind of file 'keras'. Known kinds: onnx, openvino, glsl"),
    (("espcn", "--to", "onnx", "--precision", "int8"), 2, "Expected the precision float32 or float16, got 'int8'"),
    (("espcn", "--to", "onnx", "--size", "big"), 2, "Expected --size as 480x270, got 'big'"),
    (("espcn", "--to", "onnx", "--size", "3x9"), 2, "Expected a size of 4 samples or more each way, got 3x9"),
    (("espcn", "--to", "onnx", "-o", "a.pt"), 2, "Expected a folder, or a name that ends in .onnx for ONNX, got"),
    (("espcn", "--to", "glsl", "--precision", "float16"), 2, "GLSL files have no precision float16: leave --precision"),
    (("espcn", "--to", "glsl", "--size", "9x9"), 2, "GLSL files are for every size: leave --size out"),
    (("espcn", "--to", "onnx", "-o", "no/a.onnx"), 1, "Cannot write no/a.onnx: there is no such folder"),
    (("vdsr:video", "--to", "openvino"), 2, "No weights of vdsr ×2 are tuned for video. Those there are: fsrcnn"),
    (("drcn", "--to", "openvino"), 1, "No weights are shipped for drcn ×2"),
]


@pytest.mark.parametrize(("words", "code", "message"), REFUSED)
def test_mistakes_are_one_line(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    assert run(*words) == code
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"Error: {message}")
    assert everything(tmp_path) == []


def test_mistakes_are_told_before_torch_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys; from vsr_plugin.cli import main\n"
        f"for words in {[words for words, _, _ in REFUSED]!r}:\n"
        "    sys.argv = ['vsr', 'export', *words]\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "False\n"


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vsr_plugin.export.find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"ONNX files need onnx: .*export"):
        export_file("espcn", 2, "onnx", tmp_path)


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_not_whole_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stop: BaseException) -> None:
    from pathlib import Path

    old = tmp_path / "espcn_x2.xml"
    old.write_text("precious")
    write = Path.write_bytes

    def fail_at_the_second(self: Path, content: bytes) -> int:
        if self.name.endswith(".bin.part"):
            raise stop
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", fail_at_the_second)
    with pytest.raises(OutputError if isinstance(stop, OSError) else KeyboardInterrupt):
        export_file("espcn", 2, "openvino", tmp_path, overwrite=True)
    assert everything(tmp_path) == ["espcn_x2.xml"]
    assert old.read_text() == "precious"
