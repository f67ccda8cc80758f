"""`vsr bench vapoursynth` measures what it says, through vspipe; how fast is not asked here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs
from typer.testing import CliRunner

from vsr_plugin.bench import Absent, Timing, mlrt
from vsr_plugin.bench import vapoursynth as filter_bench
from vsr_plugin.cli.bench import bench as app
from vsr_plugin.errors import BackendError
from vsr_plugin.installation import install_package


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ``vapoursynth config`` does for vspipe, in a folder of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    subprocess.run([Path(sys.executable).with_name("vapoursynth"), "config"], capture_output=True, check=True)


def seconds_per_frame(script: Path) -> float:
    """As vspipe runs a script, but in this process, which has loaded all that the scripts import."""
    exec(script.read_text(), {})
    frames = list(vs.get_output(0).clip.frames(close=True))
    vs.clear_outputs()
    return 1.0 * len(frames)


def test_every_script_of_the_filter_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = {name: (script, 3, note) for name, (script, _, note) in filter_bench._SCRIPTS.items()}
    monkeypatch.setattr(filter_bench, "_SCRIPTS", scripts)
    monkeypatch.setattr(filter_bench, "_seconds_per_frame", seconds_per_frame)
    assert [(row.name, row.seconds) for row in filter_bench.measure(1)] == [(name, (3.0,)) for name in scripts]


def test_a_script_is_measured_by_vspipe(configured: None, monkeypatch: pytest.MonkeyPatch) -> None:
    script, _, note = filter_bench._SCRIPTS["filter, no engine"]
    monkeypatch.setattr(filter_bench, "_SCRIPTS", {"one": (script, 3, note)})
    monkeypatch.setattr(mlrt, "find_plugin", lambda: None)
    result = CliRunner().invoke(app, ["vapoursynth", "--runs", "1", "--json"])
    [row] = json.loads(result.stdout)
    assert (row["name"], len(row["seconds"])) == ("one", 1)
    assert row["median"] > 0


def test_a_filter_that_vspipe_cannot_run_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # vspipe would find the python of an activated environment by itself
    with pytest.raises(BackendError, match=r"vspipe does not run our scripts: .*`vapoursynth config`"):
        filter_bench.measure(1)
    monkeypatch.setattr(filter_bench, "find_vspipe", lambda: None)
    with pytest.raises(BackendError, match="There is no vspipe: "):
        filter_bench.measure(1)


def test_the_usual_pattern_makes_the_same_picture_but_for_its_round_trip() -> None:
    clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=64, height=48, length=2, color=[90, 120, 140])
    clip = clip.std.SetFrameProps(_Matrix=1, _Range=0, _ChromaLocation=0)
    large = filter_bench.one_by_one(clip)
    assert (large.format.id, large.width, large.height) == (vs.YUV420P8, 128, 96)
    frame = large.get_frame(1)
    assert [round(float(np.asarray(frame[plane]).mean())) for plane in range(3)] == [90, 120, 140]


@pytest.mark.skipif(
    mlrt.find_plugin() is None, reason="no vapoursynth-mlrt-ov: set VSR_OTHER_OPENVINO to its libvsov.so"
)
def test_the_filter_is_measured_beside_another_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlrt, "_SIZES", {(64, 48): 4})
    ours, theirs = mlrt.measure_beside(1)
    assert isinstance(ours, Timing)
    assert isinstance(theirs, Timing)
    assert (ours.name, theirs.name) == ("espcn ×2, filter 64×48", "espcn ×2, mlrt-ov 64×48")
    assert ours.median > 0 < theirs.median
    assert all(re.match(r"\d+\.\d\d ms of \d+ cores; ", timing.note) for timing in (ours, theirs))


def test_no_frame_that_is_measured_repeats_the_one_before() -> None:
    names: dict[str, Any] = {"width": 48, "height": 32, "count": 9, "filled": 1}
    exec(mlrt._SOURCE, names)
    frames = [np.asarray(frame[plane]).copy() for frame in names["clip"].frames() for plane in range(3)]
    assert len(frames) == 30
    assert all(not np.array_equal(one, other) for one, other in zip(frames, frames[3:], strict=False))


def test_a_plugin_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlrt, "find_plugin", lambda: None)
    [row] = mlrt.measure_beside(1)
    assert row == Absent("vapoursynth-mlrt-ov", "not installed", install_package("vapoursynth-mlrt-ov"))
