"""`Execution`: how and where a network runs. Its constructor checks all that can be checked without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .arguments import checked_arguments
from .backends import BACKEND_NAMES, Precision, check_precision
from .errors import UsageError

type Tile = int | Literal["auto", "off"]

MIN_TILE = 32
MAX_BATCH = 256
_DEVICE = re.compile(r"cpu|cuda(:\d+)?")


@checked_arguments()
@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How and where a network runs; the same for every front end.

    Attributes:
        backend: A name in `BACKEND_NAMES`; by default openvino on the CPU (eager, with a warning, if openvino does not
            load) and triton on CUDA.
        device: "cpu", "cuda", "cuda:1"; by default CUDA if available.
        precision: "float32", "float16", "bfloat16" or "int8"; by default the fastest that costs at most 0.02 dB, never
            int8, which needs its own weights. Samples enter and leave the network in float32.
        batch: Frames (windows, if frames are tiled) per call of the network, at most 256; by default chosen for the
            device and the size of the frames. Reduced if memory is too small for it.
        tile: "auto", "off", or input samples a side, at least 32. Out of memory makes it smaller, except with "off".
        self_ensemble: Average the results of the eight flips and rotations of the frame: slightly better, eight times
            the work.
        cache_dir: A folder where a backend keeps compiled networks for later runs; backends that do not compile ignore
            it. By default tensorrt keeps engines in the user's cache folder, and openvino the graphs of our networks.
        threads: CPU threads for a backend with threads of its own; by default all.
        reuse: "auto" or "off". With "auto", parts of a stream that do not change from one frame to the next are not
            computed again on the CPU; the frames are the same, bit for bit.

    Raises:
        UsageError: a value is out of range, or the backend lacks the precision. `Upscaler` checks what depends on the
            machine, such as whether the device exists.
    """

    backend: str | None = None
    device: str | None = None
    precision: Precision | None = None
    batch: int | None = None
    tile: Tile = "auto"
    self_ensemble: bool = False
    cache_dir: Path | None = None
    threads: int | None = None
    reuse: Literal["auto", "off"] = "auto"

    def __post_init__(self) -> None:
        if self.cache_dir is not None:
            object.__setattr__(self, "cache_dir", Path(self.cache_dir))
            if self.cache_dir.exists() and not self.cache_dir.is_dir():
                raise UsageError(f"Expected cache_dir to be a folder, got the file {self.cache_dir}")
        if self.backend is not None and self.backend not in BACKEND_NAMES:
            if _DEVICE.fullmatch(self.backend):
                raise UsageError(f"Expected a backend, got the device {self.backend!r}", device=self.backend)
            raise UsageError(f"Unknown backend {self.backend!r}. Known backends: {', '.join(BACKEND_NAMES)}")
        if self.device is not None:
            check_device(self.device)
        if self.precision is not None and self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise UsageError(f"Unknown precision {self.precision!r}. Known precisions: {known}")
        if self.precision is not None and self.backend is not None:
            check_precision(self.backend, self.precision)
        if self.reuse not in ("auto", "off"):
            raise UsageError(f"Expected reuse to be 'auto' or 'off', got {self.reuse!r}")
        if self.batch is not None and not 1 <= self.batch <= MAX_BATCH:
            raise UsageError(f"Expected a batch of 1 to {MAX_BATCH} frames, got {self.batch}")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"Expected 1 or more threads, got {self.threads}")
        if isinstance(self.tile, str):
            if self.tile not in ("auto", "off"):
                raise UsageError(f"Expected a tile of 'auto', 'off' or {MIN_TILE} and more samples, got {self.tile!r}")
        elif self.tile < MIN_TILE:
            raise UsageError(f"Expected a tile of {MIN_TILE} or more input samples a side, got {self.tile}")


def check_device(name: str) -> None:
    """Raise UsageError unless a name is a device's; whether this machine has the device is not checked."""
    if not _DEVICE.fullmatch(name):
        raise UsageError(f"Unknown device {name!r}. Expected 'cpu', 'cuda' or 'cuda:1'")
