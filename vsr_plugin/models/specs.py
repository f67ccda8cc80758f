"""Descriptions of networks, needed to run them, and of models, available before their weights are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..arguments import checked_arguments
from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

CLEAN = "clean"
# The kinds of input that weights are trained for: images that were only shrunk, or frames of a compressed video.
TUNINGS = (CLEAN, "video")


def weights_key(model: str, scale: int, tuned_for: str = CLEAN) -> str:
    """The key of shipped weights in the manifest: ``espcn_x2``, ``espcn_x2_video``."""
    return f"{model}_x{scale}" + ("" if tuned_for == CLEAN else f"_{tuned_for}")


@checked_arguments()
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network's description, which is needed to run it.

    Attributes:
        overlap: Receptive-field radius in input pixels, per scale: a tile needs as many around it to be exact.
        channels: 1 for a luma network, 3 for an RGB network.
        multiple_of: Input height and width must be multiples of this.
        name: Its name in messages and reports.
        exact_in_windows: False if some libraries add in another order for inputs of another size: results then differ
            in the last bits, and none of the network's results are reused.

    Raises:
        UsageError: there is no scale, an overlap is below 0, channels is not 1 or 3, or the multiple is below 1.
    """

    overlap: Mapping[int, int]
    channels: int = 1
    multiple_of: int = 1
    name: str = "own network"
    exact_in_windows: bool = True

    def __post_init__(self) -> None:
        if not self.overlap or any(scale < 1 or radius < 0 for scale, radius in self.overlap.items()):
            raise UsageError(f"Expected an overlap of 0 or more input pixels for every scale, got {dict(self.overlap)}")
        if self.channels not in (1, 3):
            raise UsageError(f"Expected 1 channel (luma) or 3 (RGB), got {self.channels}")
        if self.multiple_of < 1:
            raise UsageError(f"Expected an input size that is a multiple of 1 or more, got {self.multiple_of}")

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales the network has."""
        return tuple(self.overlap)


@checked_arguments()
@dataclass(frozen=True, slots=True)
class ModelSpec(NetworkSpec):
    """A row of the catalogue: a model's description, available before its weights are read.

    Attributes:
        name: The name that users type.
        paper: First author, venue and year.
        architecture: ``module:class``, of this package if the module has no dot. The module may also describe other
            projects' weight files (``LAYOUTS``) and derive the class's arguments from weights (``read_options``).
        published: The paper's PSNR in dB, per scale on (Set5, Set14); see `published`.
        shared: Whether one set of weights serves all scales.
        options: Further arguments of the class.
        cost: Parameters, and multiply-accumulates per input pixel (as `cost.macs` counts them), per scale.
        nanoseconds: Processor time per input pixel, per scale, if measured; `guide` says how.
    """

    name: str
    paper: str
    architecture: str
    published: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    shared: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[int, tuple[int, int]] = field(kw_only=True)
    nanoseconds: Mapping[int, int] = field(default_factory=dict)

    def weights(self, scale: int, tuned_for: str = CLEAN, *, quantized: bool = False) -> str | None:
        """File name of the shipped weights for ``scale``, or None if none are shipped.

        Args:
            scale: Whole number.
            tuned_for: The kind of input that they were trained for: a name in `TUNINGS`.
            quantized: Whether to look for those in 8 bits, for precision int8.
        """
        key = weights_key(self.name, scale, tuned_for)
        from . import manifest

        row = manifest().get(key)
        if row is not None and quantized:
            row = row.get("int8")
        return None if row is None else str(row.get("file", f"{key}.safetensors"))
