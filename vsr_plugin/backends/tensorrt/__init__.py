"""TensorRT and TensorRT-RTX: what their parts say to each other.

`backend` is the `Backend`; `export` makes an ONNX graph of a network, `builds` watches the builder make an engine of
it, `cache` keeps engine files, `run` runs them on memory and streams of torch; only `flavor` and its `executable` know
the two libraries.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from .. import Precision

FlavorName = Literal["tensorrt", "tensorrt_rtx"]
Shape = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes (N, C, H, W) that an engine takes.

    Attributes:
        smallest: Each dimension at least.
        usual: What it is fastest for.
        largest: Each dimension at most.
    """

    smallest: Shape
    usual: Shape
    largest: Shape

    def covers(self, shape: Shape) -> bool:
        """Whether an engine of this profile takes ``shape``."""
        pairs = zip(self.smallest, shape, self.largest, strict=True)
        return all(least <= length <= most for least, length, most in pairs)


@dataclass(frozen=True, slots=True)
class Target:
    """What an engine is built by, and for.

    Attributes:
        flavor: The library.
        version: Of the library.
        capability: Compute capability, as in 8.9.
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


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that an engine depends on, and nothing else; its key in the cache is made of this.

    Attributes:
        weights: sha256 of the network's weights.
        onnx: sha256 of the graph.
        precision: Of the features.
        options: What the builder is told besides.
        target: What builds, and for which GPU.
        profile: The shapes.
    """

    weights: str
    onnx: str
    precision: Precision
    options: tuple[str, ...]
    target: Target
    profile: Profile

    def as_dict(self) -> dict[str, Any]:
        """Plain data; dictionaries of equal recipes are equal after a journey through JSON."""
        plain = asdict(self)
        plain["options"] = list(self.options)
        plain["profile"] = {name: list(shape) for name, shape in asdict(self.profile).items()}
        return plain


@dataclass(frozen=True, slots=True)
class Binding:
    """What an engine needs for inputs of one shape.

    Attributes:
        shape: Of its output.
        dtype: ″
        workspace: Bytes on the device that it computes in.
    """

    shape: Shape
    dtype: torch.dtype
    workspace: int


class Executable(Protocol):
    """An engine on its device: the narrow door through which `run` reaches either library."""

    def bind(self, shape: Shape) -> Binding:
        """Choose the shape of the input, float32 (N, C, H, W), for the calls that follow."""
        ...

    def attach(self, x: int, y: int, workspace: int, size: int) -> None:
        """Choose the memory for the calls that follow.

        Args:
            x: Address of the input.
            y: ″ of the output.
            workspace: ″ of what it computes in.
            size: Bytes of the workspace.
        """
        ...

    def capturable(self, stream: int) -> bool:
        """Whether a run on the stream of this handle may become part of a CUDA graph."""
        ...

    def enqueue(self, stream: int) -> None:
        """Enqueue one run on the stream of this handle.

        Raises:
            RuntimeError: the library refuses; its own words, as for `bind` and `attach`.
        """
        ...

    def compiled(self) -> bytes:
        """What the library has compiled at run time and would not compile again; empty if it does no such thing."""
        ...

    def close(self) -> None:
        """Free the engine."""
        ...
