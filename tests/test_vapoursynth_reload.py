"""Scripts that are loaded again and again in one process, and others' libraries in it: the host lives on."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

import vsr_plugin.vapoursynth as vsr
from vsr_plugin.backends import open_backend
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError
from vsr_plugin.installation import install_package
from vsr_plugin.vapoursynth import workers

from .test_vapoursynth_vspipe import configured  # noqa: F401 - a fixture

HERE = Path(__file__).resolve().parent
VAPOURSYNTH = Path(vs.__file__).parent
SLOW = pytest.mark.slow

# Where sizes differ, nothing that was compiled is of use to the next script.
SCRIPT = """
import sys
import vapoursynth as vs
import vsr_plugin.vapoursynth as vsr
sys.reloads = getattr(sys, "reloads", 0) + 1
clip = vs.core.std.BlankClip(width=320 + {step} * (sys.reloads % 8), height=180, format=vs.YUV420P8, length=100)
vsr.upscale(clip, "espcn", 2).set_output()
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program in C that loads scripts."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    if not (VAPOURSYNTH / "libvsscript.so").exists():
        pytest.skip("this VapourSynth comes without VSScript's library")
    program = tmp_path_factory.mktemp("host") / "host"
    command = [
        compiler,
        str(HERE / "vapoursynth_host.c"),
        f"-I{VAPOURSYNTH / 'include'}",
        f"-L{VAPOURSYNTH}",
        "-lvsscript",
    ]
    subprocess.run([*command, f"-Wl,-rpath,{VAPOURSYNTH}", "-o", program], check=True)
    return program


@pytest.mark.parametrize(
    ("reloads", "step"), [(5, 0), (9, 2), pytest.param(200, 0, marks=SLOW), pytest.param(200, 2, marks=SLOW)]
)
def test_a_host_reloads_a_script(
    reloads: int,
    step: int,
    host: Path,
    configured: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    script = tmp_path / "script.vpy"
    script.write_text(SCRIPT.format(step=step), encoding="utf-8")
    command = [str(host), str(script), str(reloads), "8"]
    done = subprocess.run(command, env=configured, capture_output=True, text=True, timeout=550, check=False)
    assert (done.returncode, done.stdout) == (0, f"{reloads} reloads\n"), done.stderr


# The same without VapourSynth: threads that have worked and ended, and upscalers that another one closes.
POOLS = """
import sys
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from vsr_plugin import ColorSpec, Execution, Frame, Upscaler

frame = Frame((np.zeros((180, 320), np.uint8),), 0, Fraction(1), color=ColorSpec())
for _ in range(int(sys.argv[1])):
    upscaler = Upscaler("espcn", 2, Execution(device="cpu"))
    upscaler.upscale([frame])
    with ThreadPoolExecutor(1) as pool:
        for _ in range(8):
            pool.submit(upscaler.upscale, [frame]).result()
    upscaler.close()
print("done")
"""


@pytest.mark.parametrize("loops", [9, pytest.param(200, marks=SLOW)])
def test_an_upscaler_outlives_the_threads_that_used_it(loops: int) -> None:
    command = [sys.executable, "-c", POOLS, str(loops)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_openvino_computes_in_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    open_backend("openvino")  # which imports it without its report
    import openvino

    def infer(*_: object, **__: object) -> None:
        pytest.fail("OpenVINO keeps state for the calling thread, and corrupts the heap when that has ended")

    monkeypatch.setattr(openvino.InferRequest, "infer", infer)
    picture(vsr.upscale(vs.core.std.BlankClip(**BLANK), backend="openvino"))


# What is kept.


def picture(clip: vs.VideoNode) -> np.ndarray:
    return np.array(clip.get_frame(0)[0])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Upscaler]:
    """All upscalers that are opened by the filter from here on."""
    workers.free_kept()
    made = []

    def make(*arguments: object, **options: object) -> Upscaler:
        made.append(Upscaler(*arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(vsr, "Upscaler", make)
    return made


BLANK: dict[str, Any] = {"format": vs.GRAY8, "width": 48, "height": 32, "length": 4, "color": 90}


def test_a_network_is_kept_for_the_same_clip_and_freed_for_another(opened: list[Upscaler]) -> None:
    options: dict[str, Any] = {"backend": "eager", "device_index": -1, "num_streams": 2}
    first = picture(vsr.upscale(vs.core.std.BlankClip(**BLANK), **options))
    assert len(opened) == 2
    np.testing.assert_array_equal(picture(vsr.upscale(vs.core.std.BlankClip(**BLANK), **options)), first)
    assert len(opened) == 2
    together = [vsr.upscale(vs.core.std.BlankClip(**BLANK), **options) for _ in range(2)]  # both are in use
    assert len(opened) == 4
    assert not any(upscaler._closed for upscaler in opened)
    del together
    vsr.upscale(vs.core.std.BlankClip(**BLANK), scale=3, **options)
    assert [upscaler._closed for upscaler in opened] == [True] * 4 + [False] * 2


def test_what_has_failed_is_not_kept(opened: list[Upscaler], monkeypatch: pytest.MonkeyPatch) -> None:
    clip = vsr.upscale(vs.core.std.BlankClip(**BLANK), backend="eager", device_index=-1)

    def fail(*_: object) -> None:
        raise BackendError("the device is gone")

    for upscaler in opened:
        monkeypatch.setattr(upscaler, "_begin", fail)
    with pytest.raises(vs.Error, match="the device is gone"):
        clip.get_frame(0)
    del clip
    gc.collect()
    assert all(upscaler._closed for upscaler in opened)


def test_a_worker_that_fails_to_open_closes_those_before_it(
    opened: list[Upscaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Upscaler._begin

    def second_fails(self: Upscaler, frames: object, reuse: object) -> object:
        if len(opened) == 2:
            raise BackendError("no room")
        return run(self, frames, reuse)  # type: ignore[arg-type]

    monkeypatch.setattr(Upscaler, "_begin", second_fails)
    with pytest.raises(vs.Error, match="no room"):
        vsr.upscale(vs.core.std.BlankClip(**BLANK), backend="eager", device_index=-1, num_streams=2)
    workers.free_kept()
    assert [upscaler._closed for upscaler in opened] == [True, True]


# Another OpenVINO.

TWO = """
import logging, sys
import vapoursynth as vs
logging.basicConfig(format="%(message)s")
vs.core.std.LoadPlugin(sys.argv[2])
import vsr_plugin.vapoursynth as vsr
clip = vs.core.std.BlankClip(format=vs.GRAY8, width=48, height=32, length=4, color=90)
for _ in range(2):
    large = vsr.upscale(clip, backend=sys.argv[1] or None)
    assert large.get_frame(0).width == 96
"""
PLUGIN = os.environ.get("VSR_OTHER_OPENVINO")  # not installed beside our own tests, as VapourSynth would always load it
NO_PLUGIN = "no other OpenVINO: set VSR_OTHER_OPENVINO to the libvsov.so of vapoursynth-mlrt-ov"


def other(backend: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TWO, backend, str(PLUGIN)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(PLUGIN is None, reason=NO_PLUGIN)
def test_beside_another_openvino_one_warning_says_so_and_eager_computes() -> None:
    done = other("")
    assert done.returncode == 0, done.stderr
    [warning] = done.stderr.splitlines()
    assert warning.startswith("Backend 'openvino' does not load, as this process has loaded another OpenVINO before")
    assert str(Path(str(PLUGIN)).with_name("libopenvino.so")) in warning
    assert warning.endswith("going on with backend 'eager', which is slower")


@pytest.mark.skipif(PLUGIN is None, reason=NO_PLUGIN)
def test_beside_another_openvino_ours_is_refused_with_the_cause() -> None:
    done = other("openvino")
    assert done.returncode == 1
    assert "vsr.upscale: backend 'openvino' does not load, as this process has loaded another" in done.stderr
    assert "not installed" not in done.stderr


def test_openvino_that_is_not_there_is_said_to_be_missing() -> None:
    program = "import sys; sys.modules['openvino'] = None; from vsr_plugin import Upscaler; print(Upscaler().backend)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "eager\n"
    assert f"Backend 'openvino' is not installed: {install_package('openvino')}; going on with" in done.stderr


def test_importing_openvino_reports_nothing_and_changes_no_module() -> None:
    assert importlib.util.find_spec("openvino_telemetry") is not None
    program = (
        "import sys; before = list(sys.meta_path); from vsr_plugin.backends import open_backend; "
        "open_backend('openvino'); print('openvino_telemetry' in sys.modules, before == sys.meta_path); "
        "import openvino_telemetry"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "False True\n"), done.stderr
