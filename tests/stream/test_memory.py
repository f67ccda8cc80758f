"""Memory is bounded: ten times the film takes no more of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Media

# In a process of its own, so that the peak is this job's alone.
_JOB = """
import resource, sys
from tests.stream.conftest import FAST, Nearest
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.models import NetworkSpec
from vsr_plugin.stream import upscale_file
spec = NetworkSpec(name="nearest", overlap={2: 0})
with Upscaler.from_module(Nearest(2), spec, 2, Execution(backend="eager", device="cpu")) as upscaler:
    how = {"resume": True, "segment_length": 1} if sys.argv[3:] else {}
    report = upscale_file(sys.argv[1], sys.argv[2], upscaler, encoding=FAST, **how)
    assert len(report.segments) == (report.frames // 25 if how else 0)
print(report.frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _peak(source: Path, output: Path, *words: str) -> tuple[int, int]:
    words = (sys.executable, "-c", _JOB, str(source), str(output), *words)
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root)
    frames, kilobytes = done.stdout.split()
    return int(frames), int(kilobytes)


@pytest.mark.parametrize("words", [[], ["in segments"]], ids=["in one go", "in segments"])
def test_peak_memory_does_not_depend_on_the_length(words: list[str], media: Media, tmp_path: Path) -> None:
    short, long = media.folder / "short.mkv", media.folder / "long.mkv"
    make = (
        "ffmpeg",
        "-v",
        "error",
        "-y",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=320x180:r=25:d=3",
        "-c:v",
        "mjpeg",
        str(short),
    )
    subprocess.run(make, check=True)
    repeat = ("ffmpeg", "-v", "error", "-y", "-stream_loop", "9", "-i", str(short), "-c", "copy", str(long))
    subprocess.run(repeat, check=True)
    frames_short, peak_short = _peak(short, tmp_path / "short.mkv", *words)
    frames_long, peak_long = _peak(long, tmp_path / "long.mkv", *words)
    assert (frames_short, frames_long) == (75, 750)
    assert peak_long < 1.1 * peak_short  # keeping the frames of either end would add 65 or 260 MB
