"""An ONNX file in vs-mlrt's plugin for OpenVINO makes of a real clip what our filter makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.test_examples import CLIP
from vsr_plugin.export import export_file

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = os.environ.get("VSR_OTHER_OPENVINO")  # one process holds one OpenVINO
pytestmark = pytest.mark.skipif(
    PLUGIN is None, reason="no other OpenVINO: set VSR_OTHER_OPENVINO to the libvsov.so of vapoursynth-mlrt-ov"
)
pytest.importorskip("onnxscript")

_HEAD = """
import sys
import numpy as np
import vapoursynth as vs
core = vs.core
model, clip, result = sys.argv[1:4]
clip = core.bs.VideoSource(clip)[10]
clip = clip.std.CropAbs(96, 64, 200, 100)
"""
_END = """
np.save(result, np.array([np.array(plane) for plane in large.get_frame(0)]))
"""
_OURS = """
import vsr_plugin.vapoursynth as vsr
kind = vs.GRAY8 if model == "espcn" else vs.RGB24
clip = clip.std.ShufflePlanes(0, vs.GRAY) if model == "espcn" else clip.resize.Bicubic(format=kind, matrix_in=5)
large = vsr.upscale(clip, model, 2, precision="float32")
"""
_THEIRS = """
core.std.LoadPlugin(sys.argv[4])
kind = vs.GRAY8 if "espcn" in model else vs.RGB24
clip = clip.std.ShufflePlanes(0, vs.GRAY) if "espcn" in model else clip.resize.Bicubic(format=kind, matrix_in=5)
clip = clip.std.Expr("x 255 /", vs.GRAYS if "espcn" in model else vs.RGBS)
exact = lambda: {"INFERENCE_PRECISION_HINT": "f32"}
large = core.ov.Model(clip, network_path=model, config=exact).std.Expr("x 255 *", kind)
"""
# The same, by the scaler that vs-jetpack has for any ONNX file.
_JETPACK = """
core.std.LoadPlugin(sys.argv[4])
from vsscale import GenericOnnxScaler
from vsscale.mlrt import Backend
clip = clip.std.ShufflePlanes(0, vs.GRAY).std.Expr("x 255 /", vs.GRAYS)
scaler = GenericOnnxScaler(model, Backend.OV_CPU(fp16=False))
large = scaler.scale(clip, 2 * clip.width, 2 * clip.height).std.Expr("x 255 *", vs.GRAY8)
"""


def frame(script: str, folder: Path, *words: object) -> np.ndarray:
    """(planes, H, W) that a script makes."""
    result = folder / "frame.npy"
    command = [sys.executable, "-c", _HEAD + script + _END, str(words[0]), str(CLIP), str(result), *map(str, words[1:])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return np.asarray(np.load(result), int)


@pytest.mark.parametrize(("model", "script"), [("espcn", _THEIRS), ("edsr-baseline", _THEIRS), ("espcn", _JETPACK)])
def test_their_frame_is_ours(model: str, script: str, tmp_path: Path) -> None:
    theirs = frame(script, tmp_path, export_file(model, 2, "onnx", tmp_path), PLUGIN)
    difference = np.abs(theirs - frame(_OURS, tmp_path, model))
    assert difference.max() <= 1  # where rounding decides
    assert (difference > 0).mean() < 0.001
