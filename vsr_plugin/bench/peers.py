"""Other programs at the same job on the same clip: measured here, or listed with what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..backends.graph import onnx_graph
from ..errors import BackendError
from ..installation import install
from ..models import find_model
from . import Absent, Timing
from .clip import RATE
from .ffmpeg_model import ffmpeg_model
from .inference import load_network
from .job import CODEC, CRF, PLAIN_CODEC, PRESET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..backends import Device
    from . import Settings

_INSTALL_FFMPEG = "apt-get install ffmpeg"
_PATIENCE = 600  # seconds for one run of another program


def compare(clip: Path, settings: Settings, device: Device) -> Iterator[Timing | Absent]:
    """Run each of the others on ``clip``, one after the other.

    Args:
        clip: A clip of ``settings.width`` × ``settings.height``, 8-bit 4:2:0.
        settings: Model, scale, runs.
        device: Where torch runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield _torch_loop(clip, Path(folder), settings, device)
        yield _opencv_loop(clip, Path(folder), settings)
        yield _ffmpeg_scale(clip, Path(folder), settings)
        yield _ffmpeg_sr(clip, Path(folder), settings)


def _torch_loop(clip: Path, folder: Path, settings: Settings, device: Device) -> Timing | Absent:
    name = f"eager torch on {device.type}, frame by frame"
    module = load_network(settings)[1].to(device)

    def network(luma: Any) -> Any:
        x = torch.from_numpy(luma).to(device)
        with torch.inference_mode():
            return module(x).cpu().numpy()

    return _loop(name, clip, folder, settings, lambda _: network)


def _opencv_loop(clip: Path, folder: Path, settings: Settings) -> Timing | Absent:
    name = "OpenCV dnn, frame by frame"

    def prepare(cv2: Any) -> Callable[[Any], Any]:
        spec, module = load_network(settings)
        graph, _ = onnx_graph(module, spec, "float32")
        net = cv2.dnn.readNetFromONNX(np.frombuffer(graph.SerializeToString(), np.uint8))

        def network(luma: Any) -> Any:
            net.setInput(luma)
            return net.forward()

        return network

    return _loop(name, clip, folder, settings, prepare)


def _loop(
    name: str, clip: Path, folder: Path, settings: Settings, prepare: Callable[[Any], Callable[[Any], Any]]
) -> Timing | Absent:
    """The loop that every tutorial has: read, enlarge luma by the network and chroma bicubically, write."""
    try:
        import cv2
    except ImportError:
        return Absent(name, "no OpenCV", install("bench"))
    scale = settings.scale
    channels = find_model(settings.model, scale).channels
    size = (settings.width * scale, settings.height * scale)

    def enlarge(frame: Any) -> Any:
        if channels == 3:
            x = np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1)[None], np.float32) / 255
            return (network(x)[0].clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)[..., ::-1]
        frame = cv2.cvtColor(frame, cv2.COLOR_BGR2YCrCb)
        x = frame[None, None, ..., 0].astype(np.float32) / 255
        luma = (network(x)[0, 0].clip(0, 1) * 255).round().astype(np.uint8)
        chroma = cv2.resize(frame[..., 1:], size, interpolation=cv2.INTER_CUBIC)
        return cv2.cvtColor(np.dstack([luma, chroma]), cv2.COLOR_YCrCb2BGR)

    def job() -> float:
        began, count = perf_counter(), 0
        reader = cv2.VideoCapture(str(clip))
        writer = cv2.VideoWriter(str(folder / "loop.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), RATE, size)
        while True:
            there, frame = reader.read()
            if not there:
                break
            writer.write(enlarge(frame))
            count += 1
        writer.release()
        return (perf_counter() - began) / count

    try:
        network = prepare(cv2)
        runs = tuple(job() for _ in range(settings.runs))
    except ImportError as error:
        return Absent(name, f"no {error.name}", install("bench"))
    except (cv2.error, RuntimeError) as error:
        return Absent(name, f"fails: {str(error).strip().splitlines()[-1].strip()}")
    note = f"OpenCV {cv2.__version__} reads and writes; its builds have no {CODEC}, so it writes MPEG-4 part 2"
    return Timing(name, runs, codec=PLAIN_CODEC, note=note)


def _ffmpeg_scale(clip: Path, folder: Path, settings: Settings) -> Timing | Absent:
    name = "FFmpeg scale (bicubic, no network)"
    version = _ffmpeg_version()
    if version is None:
        return Absent(name, "no ffmpeg", _INSTALL_FFMPEG)
    filters = f"scale=iw*{settings.scale}:ih*{settings.scale}:flags=bicubic"
    try:
        runs = tuple(_convert(clip, folder, filters) / settings.frames for _ in range(settings.runs))
    except subprocess.SubprocessError as error:
        return _failed(name, error)
    return Timing(name, runs, codec=CODEC, note=f"ffmpeg {version}, {CODEC} {PRESET} crf {CRF}")


def _ffmpeg_sr(clip: Path, folder: Path, settings: Settings) -> Timing | Absent:
    name = "FFmpeg sr (native backend)"
    version = _ffmpeg_version()
    if version is None:
        return Absent(name, "no ffmpeg", _INSTALL_FFMPEG)
    if not re.search(r"^\s+native\s", _ffmpeg("-hide_banner", "-h", "filter=sr"), re.MULTILINE):
        return Absent(name, f"ffmpeg {version} has no native backend: 4.3 to 6.0 have it")
    model = folder / "network.model"
    try:
        model.write_bytes(ffmpeg_model(load_network(settings)[1]))
        filters = f"sr=dnn_backend=native:scale_factor={settings.scale}:model={model}"
        runs = tuple(_intervals(clip, folder, filters, min(settings.runs, 3)))
    except BackendError as error:
        return Absent(name, str(error))
    except subprocess.SubprocessError as error:
        return _failed(name, error)
    note = f"ffmpeg {version}, {CODEC} {PRESET} crf {CRF}; {len(runs)} frames, start-up not counted"
    return Timing(name, runs, codec=CODEC, note=note)


def _intervals(clip: Path, folder: Path, filters: str, count: int) -> Iterator[float]:
    """Seconds between frames that leave the filters, for filters that take seconds a frame."""
    words = _words(clip, folder, f"{filters},showinfo", "-frames:v", str(count + 1))
    before = None
    with subprocess.Popen([_program(), *words, "-v", "info"], stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stderr is not None
        last = ""
        for last in process.stderr:
            if re.search(r"showinfo.* n: *\d", last):
                now = perf_counter()
                if before is not None:
                    yield now - before
                before = now
    if process.returncode or before is None:
        raise subprocess.CalledProcessError(process.returncode, "ffmpeg", stderr=last)


def _convert(clip: Path, folder: Path, filters: str) -> float:
    """Seconds to convert the whole of ``clip``."""
    began = perf_counter()
    _ffmpeg(*_words(clip, folder, filters))
    return perf_counter() - began


def _words(clip: Path, folder: Path, filters: str, *options: str) -> list[str]:
    encoder = ["-c:v", CODEC, "-crf", str(CRF), "-preset", PRESET]
    output = str(folder / "ffmpeg.mp4")
    return ["-v", "error", "-nostdin", "-y", "-i", str(clip), "-vf", filters, *options, *encoder, output]


def _ffmpeg_version() -> str | None:
    """The version of ffmpeg, without the distribution's suffix; None if there is no ffmpeg."""
    if shutil.which("ffmpeg") is None:
        return None
    found = re.match(r"ffmpeg version ([\w.]+)", _ffmpeg("-version"))
    return found.group(1) if found else "of unknown version"


def _ffmpeg(*words: str) -> str:
    """The output of ffmpeg; SubprocessError if it fails or takes too long."""
    done = subprocess.run([_program(), *words], check=True, capture_output=True, text=True, timeout=_PATIENCE)  # noqa: S603
    return done.stdout


def _program() -> str:
    return shutil.which("ffmpeg") or "ffmpeg"


def _failed(name: str, error: subprocess.SubprocessError) -> Absent:
    if isinstance(error, subprocess.TimeoutExpired):
        return Absent(name, f"took more than {_PATIENCE // 60} minutes")
    said = str(getattr(error, "stderr", "") or error).strip().splitlines()
    return Absent(name, f"fails: {said[-1] if said else 'without a word'}")
