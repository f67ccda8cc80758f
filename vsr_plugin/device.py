"""What a machine has to run networks on: the device and the way there, the backend that suits it, torch's threads."""

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
    """The name of the backend that runs networks on a device, if nothing else is asked for.

    On the CPU openvino, or where it does not load eager, with one warning that says why.
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
    """The device of this name, or the one to use where none is named.

    Raises:
        UsageError: a name that is none, or a device that is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"No device {name!r}: torch reports {torch.cuda.device_count()} CUDA devices", device="cpu")
    return device


def upload(planes: Sequence[Tensor], device: torch.device) -> Tensor:
    """(H, W) on the CPU → (N, H, W) on a device, as they are."""
    if device.type == "cpu":
        return torch.stack(list(planes))
    pinned = torch.empty((len(planes), *planes[0].shape), dtype=planes[0].dtype, pin_memory=True)
    for index, plane in enumerate(planes):
        pinned[index].copy_(plane)
    return pinned.to(device, non_blocking=True)


def download(planes: Tensor) -> Tensor:
    """To the CPU; not there before the device is synchronised."""
    if planes.device.type == "cpu":
        return planes
    pinned = torch.empty(planes.shape, dtype=planes.dtype, pin_memory=True)
    return pinned.copy_(planes, non_blocking=True)


def memory() -> int:
    """Bytes of memory that the machine has; where it does not tell, as many as there can be."""
    names: Mapping[str, int] = getattr(os, "sysconf_names", {})
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= names.keys():
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cpu_count() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Let torch compute on so many threads, in the calling thread alone; None changes nothing.

    OpenMP's threads go on spinning after their work, and slow others down. `torch.set_num_threads` would also be the
    start of every thread that meets torch meanwhile, for good; OpenMP itself keeps the number for each thread.
    """
    if number is None:
        yield
        return
    torch.get_num_threads()  # which sets this thread's number, the first time
    with _openmp().limit(limits=number):
        yield


@cache
def _openmp() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="openmp")
