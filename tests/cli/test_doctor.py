"""`vsr doctor` sees what is there, and what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
import typer
from typer.testing import CliRunner

from vsr_plugin.cli import progress
from vsr_plugin.errors import BackendError, UsageError
from vsr_plugin.installation import install, install_package
from vsr_plugin.models import MODELS, manifest
from vsr_plugin.sources import Source

if TYPE_CHECKING:
    from vsr_plugin.cli.doctor import Finding

module = import_module("vsr_plugin.cli.doctor")  # the package has the function under this name


def examine_in_another_process(*words: str) -> subprocess.CompletedProcess[str]:
    """It imports all there is, which this process had better not."""
    program = "import sys; from vsr_plugin.cli import main; sys.argv = ['vsr', 'doctor', *sys.argv[1:]]; main()"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def healthy() -> list[dict[str, str]]:
    done = examine_in_another_process("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(done.stderr.splitlines()) <= {"examining this installation …"}, "and nothing when it ends"
    findings: list[dict[str, str]] = json.loads(done.stdout)
    return findings


def test_a_healthy_installation_has_nothing_broken(healthy: list[dict[str, str]]) -> None:
    assert [finding for finding in healthy if finding["state"] == "broken"] == []
    parts = list(dict.fromkeys(finding["part"] for finding in healthy))
    assert parts == ["versions", "devices", "encoders", "weights", "backends", "engines", "vapoursynth"]


def test_every_backend_that_is_there_enlarges_a_frame(healthy: list[dict[str, str]]) -> None:
    names = [finding["name"] for finding in healthy if finding["part"] == "backends" and finding["state"] == "ok"]
    assert {"default", "eager on cpu", "openvino on cpu"} <= set(names)


def test_a_backend_whose_device_is_not_there_is_absent(healthy: list[dict[str, str]]) -> None:
    triton = [finding for finding in healthy if finding["part"] == "backends" and finding["name"].startswith("triton")]
    there = torch.cuda.is_available()
    assert [finding["state"] for finding in triton] == ["ok" if there else "absent"]


def test_versions_are_those_that_run(healthy: list[dict[str, str]]) -> None:
    versions = {finding["name"]: finding["detail"] for finding in healthy if finding["part"] == "versions"}
    assert versions["torch"] == torch.__version__.partition("+")[0]
    assert "libavcodec" in versions["av"]


def test_what_is_absent_comes_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = (
        ("no-such", "no_such", "no-such", False),
        ("nor-this", "nor_this", "[preview]", True),
    )
    monkeypatch.setattr(module, "_PACKAGES", packages)
    *_, optional, needed = module.examine()
    assert optional == module.Finding("versions", "no-such", "absent", "not installed", install_package("no-such"))
    assert needed == module.Finding("versions", "nor-this", "broken", "not installed", install("preview"))


def test_it_says_what_it_does_while_it_takes_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress.Wait, "say", lambda _, what: said.append(what))
    monkeypatch.setattr(module, "examine", lambda: iter([module.Finding("a", "b", "ok", "; ".join(said))]))
    app = typer.Typer()
    app.command()(module.doctor)
    assert "examining this installation\n" in CliRunner().invoke(app).stdout


def test_a_command_is_never_broken_into_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    command = "pip install '/a/folder/with/a/name/that/is/longer/than/a/terminal[tensorrt]'"
    monkeypatch.setattr(module, "examine", lambda: iter([module.Finding("a", "b", "absent", "not there", command)]))
    app = typer.Typer()
    app.command()(module.doctor)
    assert f"→  {command}\n" in CliRunner().invoke(app).stdout


def test_something_broken_is_exit_code_1_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = module.Finding("versions", "av", "broken", "does not load: libfoo.so [1]", "pip install av")
    monkeypatch.setattr(module, "examine", lambda: iter([broken]))
    app = typer.Typer()
    app.command()(module.doctor)
    result = CliRunner().invoke(app)
    assert result.exit_code == 1
    line = " ".join(result.stdout.split())
    assert "broken does not load: libfoo.so [1] → pip install av" in line
    assert "1 broken" in line


def weights_findings(monkeypatch: pytest.MonkeyPatch, rows: dict[str, dict[str, str]]) -> list[Finding]:
    monkeypatch.setattr("vsr_plugin.models.manifest", lambda: rows)
    return list(module._weights())


def test_weights_that_are_not_the_shipped_ones_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    [finding] = weights_findings(monkeypatch, {"espcn_x3": {"sha256": "0" * 64}})
    assert (finding.state, finding.detail) == ("broken", "not the file that was shipped")


def test_weights_that_are_intact_take_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: dict(row) for name, row in list(manifest().items())[:3]}
    next(iter(rows.values()))["sha256"] = "0" * 64
    broken, intact = weights_findings(monkeypatch, rows)
    assert (broken.state, intact.state, intact.detail) == ("broken", "ok", "2 of 3 are intact")


def test_weights_that_are_missing_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    [finding] = weights_findings(monkeypatch, {"espcn_x9": {"sha256": "0" * 64}})
    assert (finding.state, finding.detail) == ("broken", "the file is missing")


def test_no_weights_at_all_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    [finding] = weights_findings(monkeypatch, {})
    assert finding.state == "broken"


def test_a_frame_far_from_bicubic_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inverse(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1 - torch.nn.functional.interpolate(x, scale_factor=3)

    source = Source.of(Inverse())
    monkeypatch.setattr("vsr_plugin.engine.find_sources", lambda *_, **__: {3: (MODELS["espcn"], source)})
    finding = module._enlargement("eager on cpu", "espcn", 3, "eager", "cpu")
    assert finding.state == "broken"
    assert "expected less than" in finding.detail


def test_a_backend_that_fails_is_broken_not_an_exception() -> None:
    finding = module._enlargement("openvino on cuda", "espcn", 3, "openvino", "cuda")
    assert finding.state == "broken"
    assert finding.remedy


def test_the_library_behind_tensorrt_and_its_engines_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from vsr_plugin.backends import cache
    from vsr_plugin.backends.tensorrt import flavor

    def missing(**_: object) -> None:
        raise BackendError("tensorrt_rtx does not load: libnvinfer.so: cannot open")

    monkeypatch.setattr(flavor, "find_flavor", missing)
    [absent] = module._engines()
    assert (absent.state, absent.remedy) == ("absent", install("tensorrt"))
    assert absent.detail == "tensorrt_rtx does not load: libnvinfer.so: cannot open"
    monkeypatch.setattr(cache, "default_folder", lambda: tmp_path)
    cache.Cache(tmp_path).write(f"{'a' * 64}.engine", "", bytes(2_000_000))
    cache.Cache(tmp_path).write(f"{'b' * 64}.graph", "", bytes(1_000_000))  # which is OpenVINO's
    monkeypatch.setattr(flavor, "find_flavor", lambda: SimpleNamespace(name="tensorrt_rtx", version="1.7"))
    [found] = module._engines()
    assert found.state == "ok"
    assert found.detail == f"by tensorrt_rtx 1.7; 1 files, 2.0 MB, in {tmp_path}"

    def homeless() -> None:
        raise UsageError("This user has no home directory", cache_dir="FOLDER")

    monkeypatch.setattr(cache, "default_folder", homeless)
    [found] = module._engines()
    assert (found.state, found.detail) == ("broken", "This user has no home directory")
    assert found.remedy == "set VSR_CACHE_DIR to a folder"


# VapourSynth: vspipe must be told where this Python is.


def filter_finding() -> Finding:
    findings: dict[str, Finding] = {finding.name: finding for finding in module._vapoursynth()}
    assert findings["vspipe"].state == "ok"
    return findings["filter"]


def test_vspipe_that_does_not_know_this_python_comes_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # vspipe would find the python of an activated environment by itself
    finding = filter_finding()
    assert (finding.state, finding.remedy) == ("absent", "vapoursynth config")
    subprocess.run([Path(sys.executable).with_name("vapoursynth"), "config"], capture_output=True, check=True)
    assert filter_finding() == module.Finding("vapoursynth", "filter", "ok", "vspipe runs it")


@pytest.mark.parametrize(
    ("said", "state", "detail"),
    [
        ("ModuleNotFoundError: No module named 'vsr_plugin'", "absent", "vspipe runs another Python"),
        ("Traceback:\n\nSegmentation fault\n", "broken", "vspipe: Segmentation fault"),
        ("", "broken", "vspipe: it says nothing"),
    ],
)
def test_what_else_vspipe_says(
    said: str, state: str, detail: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vspipe = tmp_path / "vspipe"
    vspipe.write_text(f"#!{sys.executable}\nimport sys\nsys.exit({said!r})\n")
    vspipe.chmod(0o755)
    monkeypatch.setattr("vsr_plugin.bench.vapoursynth.find_vspipe", lambda: str(vspipe))
    finding = filter_finding()
    assert finding.state == state
    assert finding.detail.startswith(detail)


def test_without_vspipe_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr_plugin.bench.vapoursynth.find_vspipe", lambda: None)
    [finding] = module._vapoursynth()
    assert (finding.name, finding.state) == ("vspipe", "absent")
    assert finding.remedy
