"""`compare`: the same parts of an image or a video through several models, to choose by eye.

`versions` has the models to compare, `crop` finds a part and cuts it out, with as much around it as a network sees.
`page` lays results out as an image, side by side, and `html` writes a web page with a slider.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from ..color import Conversion
from ..execution import Execution
from ..frames import ColorSpec, Frame, Matrix, Range
from ..interpolation import interpolation
from ..stream import Encoding, Selection, Source
from ..stream.encode import encode
from ..stream.encoder import STILL_IMAGES
from ..stream.upscale import Meter
from .crop import Crop, busiest
from .html import compare_on_a_page
from .moments import clock, moments
from .page import Page
from .versions import Candidate, enlarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path

    from torch import Tensor

    from ..stream import Progress

__all__ = ["Candidate", "Crop", "compare", "compare_on_a_page"]

_PANEL = (480, 360)  # width and height of the enlarged crop, unless another is asked for
_STILL = ColorSpec(Matrix.RGB, Range.FULL)
_MOVING = ColorSpec(Matrix.BT709, Range.LIMITED, subsampling=(1, 1))


def compare(
    source: str | Path,
    output: Path,
    candidates: Sequence[Candidate],
    scale: int,
    *,
    at: Fraction | None = None,
    duration: Fraction | None = None,
    crop: Crop | None = None,
    selection: Selection | None = None,
    execution: Execution | None = None,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Crop:
    """Write the comparison side by side, bicubic first.

    Args:
        source: Anything FFmpeg opens.
        output: A still image shows one moment; anything else is a video.
        candidates: In the order in which they are shown.
        scale: One that all of them have.
        at: The moment, or the first one, in seconds; by default the middle of a video.
        duration: Length of a video in seconds; to the end for None.
        crop: The part, in pixels of the source; by default the one with most detail in the first frame.
        selection: How frames are decoded and read; ``at`` and ``duration`` choose them.
        execution: As for `Upscaler`; bicubic runs on its device, too.
        overwrite: Replace an existing output.
        on_progress: Called after each frame.

    Returns:
        The part that was shown.

    Raises:
        UsageError: a crop that is not inside the image, or a model that lacks the scale.
        VsrError: as `Upscaler`, `Source` and `encode` raise it.
    """
    execution = execution or Execution()
    still = output.suffix.lower() in STILL_IMAGES
    with ExitStack() as cleanup:
        plain = cleanup.enter_context(interpolation("bicubic", scale, execution))
        upscalers = [plain, *(cleanup.enter_context(each.open(scale, execution)) for each in candidates)]
        start = moments(source, 1)[0] if at is None else at
        taken = replace(selection or Selection(), start=start, duration=duration, frames=1 if still else None)
        decoded = Source(source, taken, keep_packets=not still)
        cleanup.callback(decoded.close)
        first = next(decoded)
        part = crop or busiest(first, *(-(-length // scale) for length in _PANEL))[0]
        part.check(first)
        page = Page(["bicubic", *(choice.label for choice in candidates)], part.width * scale, part.height * scale)
        if still:
            # Sound, titles and the like are not expected to go into an image.
            decoded.companions, decoded.file_tags, decoded.tags, decoded.has_chapters = "", {}, {}, False

        def pages() -> Iterator[Frame]:
            frame: Frame | None = first
            while frame is not None:
                panels = [enlarge(frame, part, upscaler) for upscaler in upscalers]
                title = f"{decoded.name}   {clock(decoded, frame)}   {part} ×{scale}"
                yield _frame(page.compose(panels, title), frame, _STILL if still else _MOVING)
                frame = next(decoded, None)

        meter = Meter(on_progress or (lambda _: None))
        encode(
            pages(),
            output,
            decoded,
            Encoding(),
            overwrite=overwrite,
            on_frame=lambda written: meter(written, decoded.expected_frames),
        )
    return part


def _frame(rgb: Tensor, like: Frame, color: ColorSpec) -> Frame:
    """A composed page at the time of the frame that it shows."""
    x = (rgb.permute(2, 0, 1)[None].float()) / 255
    planes = Conversion(color, 3, 3, 1).join(x, ())
    return Frame(tuple(plane[0].numpy() for plane in planes), like.pts, like.time_base, like.duration, color)
