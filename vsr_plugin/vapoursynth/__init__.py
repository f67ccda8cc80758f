"""The filter for VapourSynth: a clip in, a larger clip of the same format out.

    import vapoursynth as vs
    import vsr_plugin.vapoursynth as vsr

    clip = vsr.upscale(clip, model="espcn", scale=3)
    clip.set_output()

Planes go to the network as they are, in blocks of as many frames as it takes at once, and every frame comes back with
all its properties.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import vapoursynth as vs
except ImportError as error:
    message = "vsr_plugin.vapoursynth needs VapourSynth 74 or newer: pip install 'vsr-plugin[vapoursynth]'"
    raise ImportError(message) from error

import torch

from ..backends import BACKEND_NAMES, open_backend
from ..engine import MIN_TILE, Upscaler, default_backend
from ..errors import UsageError, VsrError
from ..models import MODELS
from .graph import Worker, enlarged, sentence
from .pictures import blank, check_clip
from .quiet import quiet_descriptor

if TYPE_CHECKING:
    from ..backends import Precision

__all__ = ["upscale"]

_PRECISION_OF_FLOATS: dict[int, Precision] = {16: "float16", 32: "float32"}


def upscale(
    clip: vs.VideoNode,
    model: str = "espcn",
    scale: int = 2,
    *,
    model_path: str | PathLike[str] | None = None,
    backend: str | None = None,
    precision: Precision | None = None,
    device_index: int = 0,
    num_streams: int | None = None,
    batch_size: int | None = None,
    tile: int | None = None,
    cache_dir: str | PathLike[str] | None = None,
) -> vs.VideoNode:
    """Enlarge a clip with a network.

    The network is compiled and tried here, so that what is wrong is said when the script is loaded. What it holds on
    the device is freed with the core, or when the last clip that needs it is gone.

    Args:
        clip: Progressive, of constant size and format: GRAY, YUV or RGB in integers of 8 to 16 bits; GRAY, YUV444 or
            RGB in half or single precision. `_Matrix`, `_Range` and `_ChromaLocation` are read from every frame.
            Untagged YUV is BT.709 if at least 1280 wide or more than 576 high, else BT.601; untagged chroma sits left,
            and untagged samples have limited range, but RGB's full, as in VapourSynth's own filters (where
            ``vsr encode`` takes untagged gray for full). A frame that is asked for out of order is computed alone, but
            VapourSynth fetches what would follow it, too: ``batch_size=1`` suits previews.
        model: A name that ``vsr models`` lists.
        scale: One that the model has.
        model_path: A file of weights in place of the shipped ones.
        backend: What runs the network; by default the best for the device.
        precision: "float32", "float16" or "bfloat16"; by default the fastest that costs no more than 0.02 dB. Clips in
            single precision are computed in float32, those in half precision in float16 where the backend has it.
        device_index: Which CUDA device; −1 is the CPU, and so is 0 where there is none, or the backend does not use it.
        num_streams: Blocks that are computed side by side, each with a copy of the network; by default 2 on CUDA, so
            that one is computed while another is copied, and 1 on the CPU.
        batch_size: Frames that the network takes at once; by default chosen for the device and the size of the clip.
        tile: Input samples a side that the network takes at once, 32 or more; 0 for whole pictures; by default what
            fits.
        cache_dir: Where a backend that compiles keeps the result for the next time; others have nothing to keep.
            By default tensorrt keeps its engines in the user's cache folder, and openvino nothing.

    Returns:
        A clip of the same format, length, frame rate and properties, ``scale`` times as wide and high; `_Alpha` is
        enlarged with it.

    Raises:
        vapoursynth.Error: an argument is wrong, or the network does not run; the message says what would do.
    """
    try:
        check_clip(clip)
        _check_model(model, scale)
        _check_number("num_streams", num_streams, 1)
        _check_number("batch_size", batch_size, 1)
        _check_number("tile", tile, MIN_TILE, or_else=0)
        weights = _weights(model, scale, model_path)
        cache = _folder(cache_dir)
        device = _device(backend, device_index)
        backend = backend or default_backend(torch.device(device))
        precision = _precision(clip.format, backend, precision)
        with quiet_descriptor():
            workers: list[Worker] = []
            for _ in range(num_streams or (1 if device == "cpu" else 2)):
                if workers:  # the others find less memory free, but blocks are of one size
                    batch_size = workers[0].batch
                upscaler = Upscaler(
                    model,
                    scale,
                    weights=weights,
                    backend=backend,
                    device=device,
                    precision=precision,
                    batch=batch_size and min(batch_size, clip.num_frames),
                    tile="auto" if tile is None else tile or "off",
                    cache_dir=cache,
                )
                workers.append(Worker(upscaler, blank(clip)))
    except VsrError as error:
        raise vs.Error(sentence(error)) from None
    return enlarged(clip, workers, scale, workers[0].batch)


def _check_model(model: object, scale: object) -> None:
    if not isinstance(model, str) or model not in MODELS:
        raise UsageError(f"Expected a model out of {', '.join(sorted(MODELS))}, got {model!r}")
    scales = MODELS[model].scales
    if isinstance(scale, bool) or not isinstance(scale, int) or scale not in scales:
        raise UsageError(f"Expected a scale out of {', '.join(map(str, scales))} for {model}, got {scale!r}")


def _check_number(name: str, value: object, least: int, *, or_else: int | None = None) -> None:
    if value is None or (type(value) is int and (value >= least or value == or_else)):
        return
    wanted = f"{least} or more" if or_else is None else f"{or_else}, or {least} and more"
    raise UsageError(f"Expected {name} to be a whole number, {wanted}, got {value!r}")


def _weights(model: str, scale: int, path: object) -> Path | None:
    if path is None:
        if MODELS[model].weights(scale) is None:
            train = f"vsr train {model} -x {scale}"
            raise UsageError(f"Expected model_path, as {model} ×{scale} comes without weights, got none: try `{train}`")
        return None
    if not isinstance(path, str | PathLike) or not Path(path).is_file():
        raise UsageError(f"Expected model_path to be a file of weights, got {path!r}, which is none")
    return Path(path)


def _folder(path: object) -> Path | None:
    if path is None:
        return None
    if isinstance(path, str | PathLike):
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"Expected cache_dir to be a folder, got {str(path)!r}: {error.strerror}") from error
        return Path(path)
    raise UsageError(f"Expected cache_dir to be a folder, got {path!r}")


def _device(backend: object, index: object) -> str:
    """The device of this index, for torch."""
    if backend is not None and backend not in BACKEND_NAMES:
        raise UsageError(f"Expected a backend out of {', '.join(BACKEND_NAMES)}, got {backend!r}")
    if isinstance(index, bool) or not isinstance(index, int) or index < -1:
        raise UsageError(f"Expected device_index to be −1 (the CPU), 0 or more, got {index!r}")
    able = open_backend(backend).devices if isinstance(backend, str) else ("cpu", "cuda")
    count = torch.cuda.device_count() if "cuda" in able and torch.cuda.is_available() else 0
    if 0 <= index < count:
        return f"cuda:{index}"
    if count == 0 and "cpu" not in able:
        raise UsageError(f"Backend {backend!r} runs on CUDA, and there is no CUDA device: leave it out")
    if index > 0 or "cpu" not in able:
        if count == 0 and index == 0:
            raise UsageError(f"Expected a backend that runs on the CPU, as there is no CUDA device, got {backend!r}")
        there = f"{count} CUDA device{'s' * (count != 1)}" if "cuda" in able else f"{backend}, which runs on the CPU"
        raise UsageError(
            f"Expected device_index to name a device that is there, got {index} with {there}: leave it out"
        )
    return "cpu"


def _precision(form: vs.VideoFormat, backend: str, asked: Precision | None) -> Precision | None:
    """The precision for clips of this format; None is the backend's default."""
    able = open_backend(backend).precisions
    if asked is not None and asked not in able:
        raise UsageError(f"Expected a precision out of {', '.join(able)} for backend {backend}, got {asked!r}")
    if form.sample_type != vs.FLOAT:
        return asked
    natural = _PRECISION_OF_FLOATS[form.bits_per_sample]
    if asked not in (None, natural):
        raise UsageError(f"Expected precision={natural!r} for a clip of {form.name}, got {asked!r}: leave it out")
    return natural if natural in able else "float32"
