"""A network to export, and the metadata of its file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..models import CLEAN, manifest
from ..models.specs import weights_key
from ..tiling import margin_of
from .mirrored import Mirrored

if TYPE_CHECKING:
    from torch import nn

    from ..backends import Precision
    from ..models import ModelSpec

_LUMA_RANGE = (
    "luma from 0 to 1: the code value, divided by 255 in 8 bits, by 4 * 255 in 10 bits; limited range stays limited "
    "(16/255 to 235/255), full range is divided by its largest code value"
)
_RGB_RANGE = "RGB from 0 to 1, full range, gamma as in the video"
_OUTPUT = "as the input, scale times as high and wide; not clipped"


@dataclass(frozen=True, slots=True)
class Exported:
    """A network to export.

    Attributes:
        spec: Specification of the network.
        module: (N, C, H, W) in [0, 1] → (N, C, H·scale, W·scale), float32 on the CPU.
        scale: ″
        precision: Precision of its weights in the file.
        size: (width, height) of the only frames that it will take; None for any.
        tuned_for: The kind of input that shipped weights are for; None for other weights.
    """

    spec: ModelSpec
    module: nn.Module
    scale: int
    precision: Precision = "float32"
    size: tuple[int, int] | None = None
    tuned_for: str | None = CLEAN

    @property
    def margin(self) -> int:
        """Samples by which frames are extended on each side before the network sees them."""
        return margin_of(self.spec.overlap[self.scale], self.spec.multiple_of)

    @property
    def mirrored(self) -> Mirrored:
        """The network as the `Upscaler` runs it."""
        return Mirrored(self.module, self.margin, self.scale)

    @property
    def digest(self) -> str:
        """sha256 over the names and values of all weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def facts(self) -> dict[str, str]:
        """The metadata: all that a user of the file must know."""
        spec = self.spec
        luma = spec.channels == 1
        return {
            "model": spec.name,
            "paper": spec.paper,
            "scale": str(self.scale),
            "color": "luma" if luma else "RGB",
            "range": _LUMA_RANGE if luma else _RGB_RANGE,
            "input": "original frames, not enlarged: (batch, channels, height, width), float32; "
            f"at least {self.margin} high and wide",
            "output": _OUTPUT,
            "overlap": str(spec.overlap[self.scale]),  # input pixels that a tile must see around itself
            **({"tuned_for": self.tuned_for} if self.tuned_for else {}),
            "precision": self.precision,
            "weights_sha256": self.digest,
            "license": self._license(),
        }

    def _license(self) -> str:
        if self.tuned_for is None:
            return "that of the weights, which are not vsr_plugin's"
        notice = manifest()[weights_key(self.spec.name, self.scale, self.tuned_for)].get("notice", "")
        return f"MIT. {notice}".strip()
