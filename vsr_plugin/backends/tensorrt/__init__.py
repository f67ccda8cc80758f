"""TensorRT and TensorRT-RTX: the profiles and targets of engines.

`backend` is the `Backend`; `export` writes a network as an ONNX graph, `builds` watches a build, `run` runs an engine
on memory and streams of torch; only `flavor` knows the two libraries.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

from ...errors import BackendError
from ...installation import install

FlavorName = Literal["tensorrt", "tensorrt_rtx"]
Shape = tuple[int, int, int, int]


def check_installed() -> None:
    """Check that one of the libraries is installed, without loading it, or torch.

    Raises:
        BackendError: neither is installed.
    """
    if not any(sys.modules.get(name) or find_spec(name) for name in get_args(FlavorName)):
        raise absent()


def absent() -> BackendError:
    """The error that neither library is installed, and how to install one."""
    return BackendError(
        f"Backend 'tensorrt' is not installed: {install('tensorrt')} (TensorRT-RTX, for RTX GPUs), "
        "or install TensorRT from NVIDIA (all NVIDIA GPUs)"
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes (N, C, H, W) that an engine takes: from ``smallest`` to ``largest``, for which it is fastest."""

    smallest: Shape
    largest: Shape

    def covers(self, shape: Shape) -> bool:
        """Whether an engine of this profile takes ``shape``."""
        return all(a <= n <= b for a, n, b in zip(self.smallest, shape, self.largest, strict=True))

    @property
    def name(self) -> str:
        """The profile as part of a file name, such as 1x1x16x16-4x1x270x480."""
        return "-".join("x".join(map(str, shape)) for shape in (self.smallest, self.largest))

    @classmethod
    def from_name(cls, name: str) -> Profile | None:
        """The profile with this `name`; None if it is not a profile's name."""
        if not re.fullmatch(r"\d+(x\d+){3}-\d+(x\d+){3}", name):
            return None
        smallest, largest = (tuple(map(int, shape.split("x"))) for shape in name.split("-"))
        return cls(smallest, largest)  # type: ignore[arg-type] # four numbers each

    def __str__(self) -> str:
        n, _, height, width = self.largest
        low, narrow = self.smallest[2:]
        smallest = "" if (low, narrow) == (height, width) else f"{narrow}×{low} to "
        return f"{smallest}{width}×{height}, up to {n} at a time"


@dataclass(frozen=True, slots=True)
class Target:
    """The library that builds an engine, and the GPU that it is for.

    Attributes:
        flavor: The library.
        version: The library's version.
        capability: Compute capability, such as 8.9.
        gpu: Name of the GPU; empty for TensorRT-RTX, whose engines run on every GPU of the compute capability.
        driver: Version of its driver; empty for TensorRT-RTX.
        system: Operating system, as Python calls it; empty for TensorRT-RTX.
    """

    flavor: FlavorName
    version: str
    capability: str
    gpu: str = ""
    driver: str = ""
    system: str = ""

    def __str__(self) -> str:
        gpu = f"{self.gpu}, driver {self.driver}" if self.gpu else f"compute capability {self.capability}"
        return f"{self.flavor} {self.version}, {gpu}"
