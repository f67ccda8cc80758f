"""Compare the filter with vapoursynth-mlrt-ov, a plugin that runs ONNX files with an OpenVINO of its own.

Both get the same network and the same 8-bit 4:2:0 frames, in turns, each in a process of its own, because a process
can hold only one OpenVINO.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch

from ..backends.graph import onnx_graph
from ..errors import BackendError
from ..installation import install_package
from ..models import find_model, load_model
from . import Absent, Timing

_NAME = "vapoursynth-mlrt-ov"
_SIZES = {(320, 180): 240, (960, 540): 36}  # size → frames to time, after more than are computed ahead
_FILLED = 16
# Moving noise: of repeated frames, the filter would compute only one.
_SOURCE = """
import numpy as np
import vapoursynth as vs
core = vs.core
clip = core.std.BlankClip(None, width, height, vs.YUV420P8, 4, keep=True)
clip = clip.std.SetFrameProps(_Matrix=1, _Range=0, _ChromaLocation=0)
noise = np.random.default_rng(0).integers(16, 235, (height, width), dtype=np.uint8)
def move(n, f):
    frame = f.copy()
    for plane in range(3):
        rows, columns = np.asarray(frame[plane]).shape
        np.copyto(np.asarray(frame[plane]), np.roll(noise, n, 1)[:rows, :columns])
    return frame
clip = clip.std.ModifyFrame(clip, move)
clip.std.SetVideoCache(mode=1, maxsize=8)
for _ in clip.frames():
    pass
clip = clip.std.Loop()[: count + filled]
"""
_HEAD = """
import sys, time
width, height, count, filled = map(int, sys.argv[1:5])
{before}
{source}
{script}
frames = clip.frames(prefetch=2 * core.num_threads, close=True)
for _ in range(filled):
    next(frames)
began, used = time.perf_counter(), time.process_time()
for _ in frames:
    pass
print((time.perf_counter() - began) / count, (time.process_time() - used) / count)
"""
# If that plugin is installed, VapourSynth loads it: our OpenVINO has to be loaded before.
_OURS = _HEAD.format(
    source=_SOURCE,
    before="from vsr_plugin.backends import open_backend\nopen_backend('openvino')",
    script="import vsr_plugin.vapoursynth as vsr\nclip = vsr.upscale(clip, 'espcn', 2, backend='openvino')",
)
_THEIRS = _HEAD.format(
    source=_SOURCE,
    before="plugin, network = sys.argv[5:]",
    script="""
if not hasattr(core, "ov"):
    core.std.LoadPlugin(plugin)
luma = clip.std.ShufflePlanes(0, vs.GRAY).std.Expr("x 255 /", vs.GRAYS)
luma = core.ov.Model(luma, network_path=network).std.Expr("x 255 *", vs.GRAY8)
chroma = [clip.std.ShufflePlanes(plane, vs.GRAY).resize.Bicubic(width, height) for plane in (1, 2)]
clip = core.std.ShufflePlanes([luma, *chroma], [0, 0, 0], vs.YUV)
""",
)


def find_plugin() -> Path | None:
    """The plugin's file, as named by `VSR_OTHER_OPENVINO` or installed by pip."""
    package = find_spec("vapoursynth")
    folders = [Path(place) / "plugins" / "ov" for place in (package and package.submodule_search_locations) or ()]
    named = os.environ.get("VSR_OTHER_OPENVINO")
    found = [Path(named)] if named else [file for folder in folders for file in folder.glob("*vsov.*")]
    return found[0] if found and found[0].is_file() else None


def measure_beside(runs: int) -> tuple[Timing | Absent, ...]:
    """Seconds per frame of ESPCN ×2 by the filter and by the plugin, at each size; the notes give the processor time.

    Raises:
        BackendError: one of them does not run.
    """
    plugin = find_plugin()
    if plugin is None:
        return (Absent(_NAME, "not installed", install_package(_NAME)),)
    seconds: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network.onnx"
        network.write_bytes(onnx_graph(load_model("espcn", 2), find_model("espcn"), "float32")[0].SerializeToString())
        for _ in range(runs):
            for (width, height), count in _SIZES.items():
                words = [str(number) for number in (width, height, count, _FILLED)]
                for name, script in (("espcn ×2, filter", _OURS), (f"espcn ×2, {_NAME[12:]}", _THEIRS)):
                    extra = [str(plugin), str(network)] if script is _THEIRS else []
                    seconds.setdefault(f"{name} {width}×{height}", []).append(_run(script, *words, *extra))
    found = []
    for name, runs_of_it in seconds.items():
        timed, used = zip(*runs_of_it, strict=True)
        note = f"{1000 * median(used):.2f} ms of {torch.get_num_threads()} cores; OpenVINO in its default precision"
        found.append(Timing(name, timed, note=note))
    return tuple(found)


def _run(script: str, *words: str) -> tuple[float, float]:
    """Seconds per frame: wall time, and processor time."""
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our script
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise BackendError(f"A VapourSynth script does not run: {lines[-1]}")
    timed, used = done.stdout.split()[-2:]
    return float(timed), float(used)
