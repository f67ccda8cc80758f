"""The arguments that only the filter has, and those with other names or defaults than the library's."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vapoursynth as vs

from ..arguments import meant
from ..backends import open_backend, precisions
from ..device import cpu_count, cuda_devices, find_device
from ..errors import UsageError
from ..models import find_model
from ..sizes import Size

if TYPE_CHECKING:
    from ..backends import Precision
    from ..sizes import Fit

# Names that other filters have for our arguments, accepted here, too.
_ALIASES = {"model_path": "weights", "device_index": "device", "batch_size": "batch"}
_KNOWN = (
    "model", "scale", "width", "height", "fit", "src_left", "src_top", "weights", "tuned_for", "backend", "precision",
    "device", "num_streams", "batch", "tile", "cache_dir",
)  # fmt: skip
_PRECISION_OF_FLOATS: dict[int, Precision] = {16: "float16", 32: "float32"}


def resolve_aliases(given: dict[str, Any], others: dict[str, object]) -> dict[str, Any]:
    """The arguments by our names, whether they were given by these or by others.

    Args:
        given: Name → value, None if it was not given.
        others: Arguments that were given by names that are not ours.

    Raises:
        UsageError: an unknown name, or an argument given twice.
    """
    for name, value in others.items():
        ours = _ALIASES.get(name)
        if ours is None:
            close = meant(name, _KNOWN)
            hint = f" Did you mean {close!r}?" if close else ""
            raise UsageError(f"Unknown argument {name!r}.{hint} Known arguments: {', '.join(_KNOWN)}")
        if given[ours] is not None:
            raise UsageError(f"Expected {ours} or {name}, which mean the same, got both")
        given = {**given, ours: value}
    return given


def enlargement(
    model: str,
    scale: int | None,
    clip: vs.VideoNode,
    size: tuple[object, object],
    fit: Fit,
    shift: tuple[float, float],
) -> int | Size:
    """The requested scale, or the size."""
    width, height = size
    if width is None and height is None:
        scale = 2 if scale is None else scale
        find_model(model, scale)
        if not any(shift):
            return scale
        width, height = clip.width * scale, clip.height * scale
    find_model(model, scale)
    form = clip.format
    for name, value, step in (("width", width, 1 << form.subsampling_w), ("height", height, 1 << form.subsampling_h)):
        if value is not None and (type(value) is not int or value < step or value % step):
            multiple = f", a multiple of {step} for {form.name}" if step > 1 else ""
            raise UsageError(f"Expected {name} to be a whole number above 0{multiple}, got {value!r}")
    assert width is None or isinstance(width, int)
    assert height is None or isinstance(height, int)
    for name, value in zip(("src_left", "src_top"), shift, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"Expected {name} to be a number of samples, got {value!r}")
    fit = "inside" if width is None or height is None else fit
    return Size(width=width, height=height, fit=fit, scale=scale, shift=shift)


def streams(device: str, backend: str, asked: int | None, *, latency: bool) -> tuple[int, int | None]:
    """(how many blocks are computed side by side, the CPU threads that each may use).

    Two requests of half the cores take about a tenth less CPU time than one of all cores, which wait for each other
    after every layer. Backends that compute with torch's own threads gain nothing.
    """
    if asked is not None and (type(asked) is not int or asked < 1):
        raise UsageError(f"Expected num_streams to be a whole number, 1 or more, got {asked!r}")
    own_threads = open_backend(backend).own_threads
    cores = cpu_count()
    two = not latency and (device != "cpu" or (own_threads and cores > 1))
    count = asked or (2 if two else 1)
    return count, max(1, cores // count) if device == "cpu" and own_threads and count > 1 else None


def weights(asked: object) -> Path | None:
    """The file of weights; None for the shipped ones."""
    if asked is None:
        return None
    if not isinstance(asked, str | PathLike) or not Path(asked).is_file():
        raise UsageError(f"Expected weights to be a file of weights, got {asked!r}, which is none")
    return Path(asked)


def device(backend: str | None, index: object) -> str:
    """The device of this name or number, for torch."""
    if isinstance(index, str):
        found = find_device(index)
        return "cpu" if found.type == "cpu" else f"cuda:{found.index or 0}"
    index = 0 if index is None else index
    if isinstance(index, bool) or not isinstance(index, int) or index < -1:
        raise UsageError(f"Expected device to be 'cpu', 'cuda:1', −1 (the CPU), 0 or more, got {index!r}")
    able = open_backend(backend).devices if backend else ("cpu", "cuda")
    count = cuda_devices() if "cuda" in able else 0
    if 0 <= index < count:
        return f"cuda:{index}"
    if count == 0 and "cpu" not in able:
        raise UsageError(f"Backend {backend!r} runs on CUDA, and there is no CUDA device: leave it out")
    if index > 0 or "cpu" not in able:
        if count == 0 and index == 0:
            raise UsageError(f"Expected a backend that runs on the CPU, as there is no CUDA device, got {backend!r}")
        there = f"{count} CUDA device{'s' * (count != 1)}" if "cuda" in able else f"{backend}, which runs on the CPU"
        raise UsageError(f"Expected device to name a device that is there, got {index} with {there}: leave it out")
    return "cpu"


def precision(form: vs.VideoFormat, backend: str, asked: Precision | None) -> Precision | None:
    """The precision for clips of this format; None is the backend's default."""
    if form.sample_type != vs.FLOAT:
        return asked
    natural = _PRECISION_OF_FLOATS[form.bits_per_sample]
    if asked not in (None, natural):
        raise UsageError(f"Expected precision={natural!r} for a clip of {form.name}, got {asked!r}: leave it out")
    return natural if natural in precisions(backend) else "float32"
