"""Checks for a GPU by torch's files and the NVIDIA driver, as torch itself takes seconds to load."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from .backends import devices
from .errors import UsageError

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


def check_device_here(device: str | None, backend: str | None = None) -> None:
    """Check that this machine can run a network on a device, as far as is known without torch, which checks it again.

    Args:
        device: A name of a device, as in `Execution`.
        backend: A name in `BACKEND_NAMES`.

    Raises:
        UsageError: there is no such GPU, none for a backend that needs one, or the backend does not run on the device.
    """
    kind, _, index = (device or "").partition(":")
    able = ("cpu", "cuda") if backend is None else devices(backend)
    if kind and kind not in able:
        raise UsageError(f"Backend {backend!r} runs on {able[0]}, not on {kind}", backend=...)
    if not (kind == "cuda" or able == ("cuda",)):
        return
    why = why_no_gpu(int(index or 0))
    if why is not None and kind:
        raise UsageError(f"No device {device!r}, because {why}", device="cpu")
    if why is not None:
        raise UsageError(f"Backend {backend!r} runs on cuda, and {why}", backend=...)


def why_no_gpu(index: int = 0) -> str | None:
    """Why torch will find no GPU of this number, in words; None if it may find one."""
    build = _build_of_torch()
    if build == "rocm":  # uses another driver
        return None
    if build == "cpu":
        return "the torch that is installed is the build for CPUs"
    count = _count()
    if isinstance(count, str):
        return count
    return None if index < count else f"the NVIDIA driver finds {count} GPU{'s' * (count != 1)}"


@cache
def _build_of_torch() -> str | None:
    """cuda, rocm or cpu; None if torch's version.py is missing or has another form."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    told = dict(re.findall(r"^(cuda|hip)\b[^=]*= *(None|['\"])", text, re.MULTILINE))
    if told.keys() != {"cuda", "hip"}:
        return None
    return next((kind for name, kind in (("hip", "rocm"), ("cuda", "cuda")) if told[name] != "None"), "cpu")


def _count() -> int | str:
    """How many GPUs the driver finds, without those that CUDA_VISIBLE_DEVICES hides; or why none, in words."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        code = driver.cuInit(0)
        count = ctypes.c_int()
        if code == 0:
            code = driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        return "there is no NVIDIA driver"
    hidden = ", which CUDA_VISIBLE_DEVICES may hide" if os.environ.get("CUDA_VISIBLE_DEVICES") is not None else ""
    if code == _NO_DEVICE:
        return f"the NVIDIA driver finds no GPU{hidden}"
    return f"the NVIDIA driver does not start (error {code})" if code else count.value
