"""The uses of our kernels that are worth measuring."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from ..errors import UsageError


def start(name: str) -> None:
    """Start one timed case once, on the first GPU: for profilers.

    Args:
        name: ``kernel: case``, in float16.
    """
    device = torch.device("cuda")
    (case,) = timed_cases(name, device, torch.float16)
    with torch.inference_mode():
        case.prepare(8, 1080, 1920, torch.float16, device).kernel()
    torch.cuda.synchronize()


def timed_cases(only: str, device: torch.device | None = None, dtype: torch.dtype = torch.float16) -> list[Any]:
    """The cases worth measuring that have a text in their names.

    Args:
        only: The text.
        device: Only cases that run on this device, …
        dtype: … in this type.

    Raises:
        UsageError: there is no such case.
    """
    timed = [case for case in import_module("vsr_plugin.kernels.cases").CASES if case.timed]
    if device is not None:
        timed = [case for case in timed if case.runs_on(architecture_of(device), dtype)]
    asked = [case for case in timed if only.casefold() in f"{case.kernel}: {case.name}".casefold()]
    if not asked:
        kernels = ", ".join(dict.fromkeys(case.kernel for case in timed))
        raise UsageError(f"No kernel and no case has '{only}' in its name. Kernels: {kernels}")
    return asked


def architecture_of(device: torch.device) -> int:
    """Compute capability, such as 90 for 9.0; 0 for the CPU, on which kernels are interpreted."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
