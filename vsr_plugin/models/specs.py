"""What must be known of a network before it runs, and of a model before its weights are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..arguments import checked_arguments
from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

CLEAN = "clean"
# What weights are trained for: small images that were only shrunk, or those of a compressed video.
TUNINGS = (CLEAN, "video")


def weights_key(model: str, scale: int, tuned_for: str = CLEAN) -> str:
    """Of shipped weights in the manifest: ``espcn_x2``, ``espcn_x2_video``."""
    return f"{model}_x{scale}" + ("" if tuned_for == CLEAN else f"_{tuned_for}")


@checked_arguments()
@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """What must be known of a network to run it.

    Attributes:
        overlap: Receptive-field radius in input pixels, per scale: what a tile must see around itself to be exact.
        channels: 1 for a network of luma, 3 for a network of RGB.
        multiple_of: Input height and width must be multiples of this.
        name: What messages and reports call it.
        exact_in_windows: False where libraries add up in another order for inputs of another size, here and there:
            results then differ in the last bits, and of such a network nothing is reused.

    Raises:
        UsageError: no scale, an overlap below 0, channels other than 1 and 3, or a multiple below 1.
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
    """A row of the catalogue: what must be known of a model before its weights are read.

    Attributes:
        name: What the user types.
        paper: First author, venue and year.
        architecture: ``module:class``, of this package if the module has no dot. Beside the class, the module says how
            others store its weights (``LAYOUTS``) and what they tell of its arguments (``read_options``), if it can.
        published: The paper's PSNR in dB, per scale on (Set5, Set14); see `published`.
        shared: Whether one set of weights serves all scales.
        options: Further arguments of the class.
        cost: Parameters, and multiply-accumulates per input pixel (as `cost.macs` counts them), per scale.
        nanoseconds: Of processor time that an input pixel takes, per scale, where it was measured: `guide` says how.
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
            tuned_for: What kind of input they were trained for: a name out of `TUNINGS`.
            quantized: Of those in 8 bits, for precision int8.
        """
        key = weights_key(self.name, scale, tuned_for)
        from . import manifest

        row = manifest().get(key)
        if row is not None and quantized:
            row = row.get("int8")
        return None if row is None else str(row.get("file", f"{key}.safetensors"))
