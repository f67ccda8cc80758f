"""FFmpeg's own enlargement and measurement of frames: Lanczos, and VMAF."""

from __future__ import annotations

import gc
import json
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import av
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as NothingMore
from av.filter import Graph
from av.video.reformatter import Interpolation

from .compression import to_planes, to_video_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .compression import Planes

_TIME_BASE = Fraction(1, 25)


def lanczos(planes: Planes, scale: int) -> Planes:
    """Enlarge a frame of 4:2:0 at 8 bits as FFmpeg's ``scale`` filter does with ``flags=lanczos``."""
    frame = to_video_frame(planes)
    large = frame.reformat(frame.width * scale, frame.height * scale, interpolation=Interpolation.LANCZOS)
    return to_planes(large)


def has_vmaf() -> bool:
    """Whether this build of FFmpeg has libvmaf."""
    return "libvmaf" in av.filter.filters_available


def vmaf(truth: Sequence[Planes], result: Sequence[Planes]) -> float:
    """Return the mean VMAF over the frames by libvmaf's default model, from 0 to 100.

    Args:
        truth: Frames of 4:2:0 at 8 bits.
        result: The same number of frames, of the same size.
    """
    with TemporaryDirectory() as folder:
        log = Path(folder) / "vmaf.json"
        _run_vmaf(truth, result, log)
        gc.collect()  # the filter writes its log when it is freed; PyAV's graphs and filters reference each other
        return float(json.loads(log.read_text(encoding="utf-8"))["pooled_metrics"]["vmaf"]["mean"])


def _run_vmaf(truth: Sequence[Planes], result: Sequence[Planes], log: Path) -> None:
    height, width = truth[0][0].shape
    about = f"video_size={width}x{height}:pix_fmt=yuv420p:time_base={_TIME_BASE}:pixel_aspect=1/1"
    graph = Graph()
    inputs = [graph.add("buffer", about) for _ in range(2)]
    measured, sink = graph.add("libvmaf", f"log_fmt=json:log_path={log}"), graph.add("buffersink")
    for place, source in enumerate(inputs):
        source.link_to(measured, 0, place)
    measured.link_to(sink)
    graph.configure()
    for index, pair in enumerate(zip(result, truth, strict=True)):
        for source, planes in zip(inputs, pair, strict=True):
            frame = to_video_frame(planes)
            frame.pts, frame.time_base = index, _TIME_BASE
            source.push(frame)
        try:
            sink.pull()
        except NothingYet:
            continue
    for source in inputs:
        source.push(None)
    try:
        while True:
            sink.pull()
    except (NothingYet, NothingMore):
        pass
