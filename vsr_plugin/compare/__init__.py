"""`compare`: the same part of a picture or a video through several models, side by side, to choose by eye.

`crop` finds a part and cuts it out, with as much around it as a network sees; `page` lays the results out.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from ..color import Conversion
from ..engine import Upscaler
from ..errors import UsageError
from ..execution import Execution
from ..frames import ColorSpec, Frame, Matrix, Range
from ..models import NetworkSpec
from ..models.layers import BicubicUpsample
from ..stream import Encoding, Selection, Source
from ..stream.encode import encode
from ..stream.encoder import STILL_PICTURES
from .crop import Crop, busiest, cut
from .page import Page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

__all__ = ["Candidate", "Crop", "compare"]

_BICUBIC_REACH = 3  # input samples
_PANEL = (480, 360)  # width and height of the enlarged crop, unless another is asked for
_STILL = ColorSpec(Matrix.RGB, Range.FULL)
_MOVING = ColorSpec(Matrix.BT709, Range.LIMITED, subsampling=(1, 1))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of those to choose from.

    Attributes:
        model: A name out of `MODELS`.
        weights: A file in place of the shipped weights.
        self_ensemble: Whether with the self-ensemble; the label then ends in a plus.
    """

    model: str
    weights: Path | None = None
    self_ensemble: bool = False

    @property
    def label(self) -> str:
        """What stands above its picture."""
        own = f" ({self.weights.name})" if self.weights else ""
        return f"{self.model}{'+' if self.self_ensemble else ''}{own}"


def compare(
    source: str | Path,
    output: Path,
    candidates: Sequence[Candidate],
    scale: int,
    *,
    at: Fraction | None = None,
    duration: Fraction | None = None,
    crop: Crop | None = None,
    execution: Execution | None = None,
    overwrite: bool = False,
) -> Crop:
    """Write the comparison, bicubic first.

    Args:
        source: Anything FFmpeg opens.
        output: A still picture shows one moment; anything else is a video.
        candidates: In the order in which they are shown.
        scale: One that all of them have.
        at: The moment, or the first one, in seconds; by default the middle of a video.
        duration: Of a video, in seconds; to the end for None.
        crop: The part, in pixels of the source; by default the one with most detail in the first frame.
        execution: As for `Upscaler`; bicubic runs on its device, too.
        overwrite: Replace an existing output.

    Returns:
        What was shown.

    Raises:
        UsageError: a crop that is not inside the picture, or a model that lacks the scale.
        VsrError: as `Upscaler`, `Source` and `encode` raise it.
    """
    execution = execution or Execution()
    still = output.suffix.lower() in STILL_PICTURES
    with ExitStack() as cleanup:
        bicubic = NetworkSpec(name="bicubic", overlap={scale: _BICUBIC_REACH})
        how = Execution(backend="eager", device=execution.device)
        plain = Upscaler.from_module(BicubicUpsample(scale), bicubic, scale, how)
        upscalers = [cleanup.enter_context(plain)]
        for choice in candidates:
            how = replace(execution, self_ensemble=choice.self_ensemble)
            upscaler = Upscaler(choice.model, scale, how, weights=choice.weights)
            upscalers.append(cleanup.enter_context(upscaler))
        decoded = Source(
            source,
            Selection(start=_middle(source) if at is None else at, duration=duration, frames=1 if still else None),
            keep_packets=not still,
        )
        cleanup.callback(decoded.close)
        first = next(decoded)
        part = crop or busiest(first, *(-(-length // scale) for length in _PANEL))
        if part.right > first.width or part.bottom > first.height:
            raise UsageError(f"Expected a crop inside of {first.width}×{first.height}, got {part}")
        page = Page(["bicubic", *(choice.label for choice in candidates)], part.width * scale, part.height * scale)
        if still:
            decoded.companions = ""  # sound and the like are not expected to go into a picture

        def pages() -> Iterator[Frame]:
            frame: Frame | None = first
            while frame is not None:
                panels = [_enlarge(frame, part, upscaler) for upscaler in upscalers]
                title = f"{decoded.name}   {_clock(decoded, frame)}   {part} ×{scale}"
                yield _frame(page.compose(panels, title), frame, _STILL if still else _MOVING)
                frame = next(decoded, None)

        encode(pages(), output, decoded, Encoding(), overwrite=overwrite)
    return part


def _enlarge(frame: Frame, crop: Crop, upscaler: Upscaler) -> Tensor:
    """(H, W, 3) uint8 of the enlarged crop: the same samples as in the whole enlarged picture."""
    scale = upscaler.scale
    window, x, y = cut(frame, crop, upscaler.spec.overlap[scale])
    (large,) = upscaler.upscale([window])
    conversion = Conversion(large.color, len(large.planes), 3, 1)
    rgb, _ = conversion.split([plane[None] for plane in large.planes])
    rgb = rgb[0, :, y * scale : (y + crop.height) * scale, x * scale : (x + crop.width) * scale]
    return (rgb * 255).round().to(torch.uint8).permute(1, 2, 0)


def _frame(rgb: Tensor, like: Frame, color: ColorSpec) -> Frame:
    """A composed page at the time of the frame that it shows."""
    x = (rgb.permute(2, 0, 1)[None].float()) / 255
    planes = Conversion(color, 3, 3, 1).join(x, ())
    return Frame(tuple(plane[0] for plane in planes), like.pts, like.time_base, like.duration, color)


def _middle(source: str | Path) -> Fraction | None:
    """Half of the duration of a video, in seconds; None of a picture, or where the file does not say."""
    probe = Source(source)
    duration, frames = probe.container.duration, probe.expected_frames
    probe.close()
    return Fraction(duration, 2_000_000) if duration and frames != 1 else None


def _clock(source: Source, frame: Frame) -> str:
    """0:01:02.345 of the source, from its beginning."""
    time = frame.pts * frame.time_base + source.shift - Fraction(source.container.start_time or 0, 1_000_000)
    minutes, seconds = divmod(max(Fraction(0), time), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{float(seconds):06.3f}"
