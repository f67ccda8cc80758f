"""The machine that networks run on: its devices, copies to and from them, default backends, memory and threads."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import torch

from .backends import open_backend
from .errors import BackendError, UsageError
from .execution import check_device
from .kernels import usable as kernels_usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from threadpoolctl import ThreadpoolController
    from torch import Tensor

_log = logging.getLogger(__name__)


def default_backend(device: torch.device) -> str:
    """The name of the default backend of a device.

    On the CPU openvino; eager if openvino does not load, with one warning that says why.
    """
    if device.type != "cuda":
        return "openvino" if _openvino_loads() else "eager"
    # On Turing the kernels run, too, but Triton does not use its matrix units.
    return "triton" if torch.cuda.get_device_capability(device) >= (8, 0) and kernels_usable(device) else "eager"


@cache
def _openvino_loads() -> bool:
    try:
        open_backend("openvino")
    except BackendError as error:
        _log.warning("%s; going on with backend 'eager', which is slower", error)
        return False
    return True


def find_device(name: str | None) -> torch.device:
    """The device of this name, or the default device for None.

    Raises:
        UsageError: this is no name of a device, or the device does not exist.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"No device {name!r}: torch reports {torch.cuda.device_count()} CUDA devices", device="cpu")
    return device


def upload(planes: Sequence[Tensor], device: torch.device) -> Tensor:
    """(H, W) planes on the CPU → (N, H, W) on a device, in the same type."""
    if device.type == "cpu":
        return torch.stack(list(planes))
    pinned = torch.empty((len(planes), *planes[0].shape), dtype=planes[0].dtype, pin_memory=True)
    for index, plane in enumerate(planes):
        pinned[index].copy_(plane)
    return pinned.to(device, non_blocking=True)


def download(planes: Tensor) -> Tensor:
    """Copy to the CPU; the samples are there only after the device is synchronized."""
    if planes.device.type == "cpu":
        return planes
    pinned = torch.empty(planes.shape, dtype=planes.dtype, pin_memory=True)
    return pinned.copy_(planes, non_blocking=True)


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
    """
    if number is None:
        yield
        return
    torch.get_num_threads()  # the first call sets this thread's number
    with _openmp().limit(limits=number):
        yield


@cache
def _openmp() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="openmp")
