"""Image arithmetic, which all modules may import; it imports only torch, and Triton if that is installed.

`reference` defines in plain torch what each kernel computes. Functions that only the engine calls run on a kernel if
the tensors are on CUDA and Triton works there. Functions that networks call stay in torch, which can differentiate
them; a backend that runs networks on kernels takes the kernels from `ops` itself.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from . import reference
from .exact import exact_float32
from .reference import (
    Activation,
    Edges,
    Layer,
    SampleFormat,
    cubic,
    enlarge,
    mix,
    pixel_shuffle,
    resample,
    to_samples,
    to_unit,
)
from .resampling import resize

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "AVAILABLE",
    "Activation",
    "Edges",
    "Layer",
    "SampleFormat",
    "cubic",
    "enlarge",
    "enlarge_samples",
    "exact_float32",
    "load_ops",
    "mix",
    "pixel_shuffle",
    "planes_to_rgb",
    "resample",
    "resize",
    "rgb_to_planes",
    "to_samples",
    "to_unit",
    "tuned_at_once",
    "usable",
]

_log = logging.getLogger(__name__)

AVAILABLE = find_spec("triton") is not None
"""Whether the Triton kernels can be loaded."""


def load_ops() -> Any:
    """Import the module `ops`, which loads Triton, when it is first needed."""
    from . import ops

    return ops


def tuned_at_once() -> AbstractContextManager[None]:
    """Tune kernels at their first call, for measurements, and not only after many calls."""
    if not AVAILABLE:
        return nullcontext()
    at_once: AbstractContextManager[None] = load_ops().impatient()
    return at_once


@lru_cache(maxsize=64)
def usable(device: torch.device) -> bool:
    """Whether the kernels run on a device; tried once for each device.

    Triton compiles at run time, and needs a C compiler: if it should run and does not, a warning is logged, and the
    engine uses plain torch on CUDA.
    """
    if not AVAILABLE or device.type != "cuda" or torch.cuda.get_device_capability(device) < (7, 5):
        return False
    try:
        load_ops().probe(device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - on any error, torch is used instead
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        _log.warning("Triton does not work on %s, plain torch does instead: %s", device, reason)
        return False
    return True


def enlarge_samples(
    samples: Tensor, scale: int, depth: int, shape: tuple[int, int], shift: tuple[float, float] = (0.0, 0.0)
) -> Tensor:
    """`reference.enlarge_samples`."""
    if usable(samples.device):
        enlarged: Tensor = load_ops().enlarge_samples(samples, scale, depth, shape, shift)
        return enlarged
    return reference.enlarge_samples(samples, scale, depth, shape, shift)


def planes_to_rgb(
    planes: tuple[Tensor, Tensor, Tensor],
    matrix: Tensor,
    subsampling: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """`reference.planes_to_rgb`."""
    if usable(planes[0].device) and not planes[0].is_floating_point():
        rgb: Tensor = load_ops().planes_to_rgb(planes, matrix, subsampling, offset)
        return rgb
    return reference.planes_to_rgb(planes, matrix, subsampling, offset)


def rgb_to_planes(
    x: Tensor,
    matrix: Tensor,
    depth: int,
    subsampling: tuple[int, int] = (1, 1),
    offset: tuple[float, float] = (0.0, 0.0),
) -> tuple[Tensor, ...]:
    """`reference.rgb_to_planes`."""
    if usable(x.device) and x.dtype != torch.float64 and len(matrix) in (1, 3):
        planes: tuple[Tensor, ...] = load_ops().rgb_to_planes(x, matrix, depth, subsampling, offset)
        return planes
    return reference.rgb_to_planes(x, matrix, depth, subsampling, offset)
