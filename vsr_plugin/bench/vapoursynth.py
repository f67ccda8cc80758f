"""Measure through vspipe what the VapourSynth filter costs beside its network, and what the usual pattern costs.

Every measurement is a script of a few lines that vspipe runs. This module has the stand-ins for a network that the
scripts use, and the usual pattern of filters: one frame in each call.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ..engine import Upscaler
from ..errors import BackendError
from ..execution import Execution
from ..installation import install
from ..models import NetworkSpec
from . import Timing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..frames import Frame

BATCH = 8
PER_FRAME, PER_CALL = 0.001, 0.004  # seconds that the waiting network takes
_FLOOR = PER_FRAME + PER_CALL / BATCH
_PATTERN = "one RGBS frame at a time"
_RGBS = 555745280  # VapourSynth's number; only the scripts import VapourSynth
_HEAD = """
import vapoursynth as vs
from vsr_plugin.bench import vapoursynth as bench
from vsr_plugin.sizes import Target
from vsr_plugin.vapoursynth.graph import enlarged
from vsr_plugin.vapoursynth.frames import blank
from vsr_plugin.vapoursynth.workers import Worker
clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=1920, height=1080, length={frames}, keep=True)
clip = clip.std.SetFrameProps(_Matrix=1, _Range=0, _ChromaLocation=0)
same = Target(1920, 1080, (1,))
"""
# Name → (the script, frames, what must be known to read the figure).
_SCRIPTS = {
    "source alone": ("", 1500, "1080p YUV420P8, one blank frame again and again"),
    "filter, no engine": (
        f"clip = enlarged(clip, [bench.Idle()], same, {BATCH})",
        1500,
        f"1080p to 1080p in blocks of {BATCH}; one copy of every frame is in it",
    ),
    "waiting network, 1 stream": (
        f"clip = enlarged(clip, bench.waiting(1), same, {BATCH})",
        800,
        f"waits {PER_FRAME * 1e3:g} ms a frame and {PER_CALL * 1e3:g} ms a call: at best {_FLOOR * 1e3:g} ms",
    ),
    "waiting network, 2 streams": (
        f"clip = enlarged(clip, bench.waiting(2), same, {BATCH})",
        800,
        f"the {PER_CALL * 1e3:g} ms of a call pass beside another's frames: at best {PER_FRAME * 1e3:g} ms",
    ),
    "filter, 1080p to 2160p": (
        "worker = Worker(bench.nearest(), blank(clip))\nclip = enlarged(clip, [worker], worker.target, 1)",
        40,
        "the engine on the CPU, with a network that only repeats samples",
    ),
    _PATTERN: (
        "clip = bench.one_by_one(clip)",
        40,
        "to RGBS, the same network on three planes, and back by zimg, as Python filters do it",
    ),
}


class Idle:
    """A `Computer` that does nothing."""

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the same frames."""
        return list(frames)

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


class Waiting(Idle):
    """A `Computer` that waits; the frames of all those on one device wait in turn."""

    def __init__(self, device: threading.Lock) -> None:
        self._device = device

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        """Wait for the time of a call and then, alone on the device, for that of the frames."""
        time.sleep(PER_CALL)
        with self._device:
            time.sleep(PER_FRAME * len(frames))
        return list(frames)


def waiting(count: int) -> list[Waiting]:
    """This many computers on one device."""
    device = threading.Lock()
    return [Waiting(device) for _ in range(count)]


class _Nearest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2, mode="nearest")


def nearest() -> Upscaler:
    """The engine around the cheapest network of luma."""
    spec = NetworkSpec(name="nearest", overlap={2: 0})
    return Upscaler.from_module(_Nearest(), spec, 2, Execution(backend="eager", device="cpu", tile="off"))


def one_by_one(clip: Any) -> Any:
    """Enlarge a clip of YUV as filters in Python usually do: RGBS frames, one in each call of ModifyFrame."""
    rgb = clip.resize.Bicubic(format=_RGBS)
    large = rgb.std.BlankClip(width=2 * clip.width, height=2 * clip.height, keep=True)
    network = _Nearest()

    def enlarge(n: int, f: list[Any]) -> Any:
        with torch.inference_mode():
            x = torch.from_numpy(np.stack([np.asarray(f[0][plane]) for plane in range(3)]))[None]
            result = network(x.clamp(0, 1))[0].numpy()
        frame = f[1].copy()
        for plane in range(3):
            np.copyto(np.asarray(frame[plane]), result[plane])
        return frame

    return large.std.ModifyFrame([rgb, large], enlarge).resize.Bicubic(format=clip.format.id, matrix=1)


def measure(runs: int) -> tuple[Timing, ...]:
    """Measure the seconds per frame of every script, in turns.

    Raises:
        BackendError: there is no vspipe, or it does not find this Python.
    """
    seconds: dict[str, list[float]] = {name: [] for name in _SCRIPTS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            for name, (script, frames, _) in _SCRIPTS.items():
                file = Path(folder) / "bench.vpy"
                file.write_text(f"{_HEAD.format(frames=frames)}\n{script}\nclip.set_output()\n", encoding="utf-8")
                seconds[name].append(_seconds_per_frame(file))
    return tuple(Timing(name, tuple(seconds[name]), note=note) for name, (_, _, note) in _SCRIPTS.items())


def find_vspipe() -> str | None:
    """The vspipe of this Python, else that of the path."""
    return shutil.which("vspipe", path=str(Path(sys.executable).parent)) or shutil.which("vspipe")


def _seconds_per_frame(script: Path) -> float:
    vspipe = find_vspipe()
    if vspipe is None:
        raise BackendError(f"There is no vspipe: {install('vapoursynth')} && vapoursynth config")
    done = subprocess.run([vspipe, script, "--"], capture_output=True, text=True, check=False)  # noqa: S603 - our script
    found = re.search(r"\(([\d.]+) fps\)", done.stderr)
    if done.returncode or found is None:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        raise BackendError(f"vspipe does not run our scripts: {lines[-1]}")
    return 1 / float(found.group(1))
