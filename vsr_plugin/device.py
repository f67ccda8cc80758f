"""The machine that networks run on: its devices, copies to and from them, default backends, memory and threads."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .backends import Device, open_backend
from .driver import why_no_gpu
from .errors import BackendError, UsageError
from .execution import check_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from threadpoolctl import ThreadpoolController
    from torch import Tensor

    from .frames import Samples

_log = logging.getLogger(__name__)


def default_backend(device: Device) -> str:
    """The name of the default backend of a device.

    On the CPU openvino; eager if openvino does not load, with one warning that says why.
    """
    if device.type != "cuda":
        return "openvino" if _openvino_loads() else "eager"
    import torch

    from .kernels import usable

    # On Turing the kernels run, too, but Triton does not use its matrix units.
    able = torch.cuda.get_device_capability(device) >= (8, 0) and usable(torch.device(device))
    return "triton" if able else "eager"


@cache
def _openvino_loads() -> bool:
    try:
        open_backend("openvino")
    except BackendError as error:
        _log.warning("%s; going on with backend 'eager', which is slower", error)
        return False
    return True


def find_device(name: str | None) -> Device:
    """The device of this name, or the default device for None.

    Raises:
        UsageError: this is no name of a device, or the device does not exist.
    """
    if name is None:
        return Device("cuda" if cuda_devices() else "cpu")
    check_device(name)
    device = Device(name)
    if device.type == "cuda" and (device.index or 0) >= cuda_devices():
        raise UsageError(f"No device {name!r}: torch reports {cuda_devices()} CUDA devices", device="cpu")
    return device


def check_runs_on(backend: str, devices: Sequence[str], device: Device, *, asked: bool) -> None:
    """Check that a backend runs on a device.

    Args:
        backend: Its name.
        devices: The types of devices that it runs on.
        device: ″
        asked: Whether the user has named the device.

    Raises:
        UsageError: it does not.
    """
    if device.type in devices:
        return
    only_cuda = tuple(devices) == ("cuda",)
    missing = only_cuda and not asked
    why = "and there is no CUDA device that torch can use" if missing else f"not on {device.type}"
    use = {"device": "cuda"} if only_cuda and cuda_devices() else {}
    raise UsageError(f"Backend {backend!r} runs on {' and '.join(devices)}, {why}", **use, backend=...)


def cuda_devices() -> int:
    """How many CUDA devices torch can use; it is loaded only if there may be one."""
    if why_no_gpu() is not None:
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def upload(planes: Sequence[Samples], device: Device) -> Tensor:
    """(H, W) planes → (N, H, W) on a GPU, in the same type."""
    import torch

    dtype: torch.dtype = getattr(torch, planes[0].dtype.name)
    pinned = torch.empty((len(planes), *planes[0].shape), dtype=dtype, pin_memory=True)
    np.stack(planes, out=pinned.numpy())  # planes may be read-only, and run backwards, as no tensor can
    return pinned.to(device, non_blocking=True)


def download(planes: Tensor) -> Tensor:
    """Copy to the CPU; the samples are there only after the device is synchronized."""
    import torch

    pinned = torch.empty(planes.shape, dtype=planes.dtype, pin_memory=True)
    return pinned.copy_(planes, non_blocking=True)


def free_memory(device: Device) -> int:
    """Bytes of memory that a GPU has free."""
    import torch

    return torch.cuda.mem_get_info(device)[0]


def release_memory(device: Device) -> None:
    """Give memory back to a GPU that torch keeps for later."""
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()


def memory() -> int:
    """Bytes of memory that the machine has; `sys.maxsize` if the system does not say."""
    names: Mapping[str, int] = getattr(os, "sysconf_names", {})
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= names.keys():
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpu_count() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Limit torch's number of threads, for the calling thread alone; None changes nothing.

    OpenMP's threads keep spinning after their work, and slow others down. `torch.set_num_threads` would also set the
    number, for good, for every thread that first uses torch meanwhile; OpenMP itself keeps a number for each thread.
    Before torch is loaded, there is nothing to limit.
    """
    if number is None or sys.modules.get("torch") is None:
        yield
        return
    import torch  # waits for another thread that has only begun to import it

    torch.get_num_threads()  # the first call sets this thread's number
    with _openmp().limit(limits=number):
        yield


@cache
def _openmp() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="openmp")
