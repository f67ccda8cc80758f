"""The comparison as one web page without other files: crops under a slider, and the time that each version takes."""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib import resources
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from ..execution import Execution
from ..frames import Matrix
from ..interpolation import interpolation
from ..models.guide import psnr
from ..stream import Selection, Source
from ..stream.output import Part
from ..stream.stills.png import png
from .crop import busiest, cut
from .moments import clock, moments
from .versions import Candidate, enlarge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from fractions import Fraction
    from pathlib import Path

    from ..engine import Upscaler
    from ..frames import Frame
    from .crop import Crop

_CROPS = 4
_RUNS, _PATIENCE = 5, 0.5  # a model is timed this many times, or seconds
_SHOWN = (640, 400)  # width and height of an enlarged crop, unless another is asked for
_BASELINES: tuple[Literal["bicubic", "Lanczos"], ...] = ("bicubic", "Lanczos")
_PLACE = "{}"  # place of the data, in the page's script element
_MATRICES = {
    Matrix.SMPTE170M: "BT.601",
    Matrix.BT470BG: "BT.601",
    Matrix.BT709: "BT.709",
    Matrix.BT2020_NCL: "BT.2020",
}


def compare_on_a_page(
    source: str | Path,
    output: Path,
    candidates: Sequence[Candidate],
    scale: int,
    *,
    at: Fraction | None = None,
    crop: Crop | None = None,
    selection: Selection | None = None,
    execution: Execution | None = None,
    overwrite: bool = False,
    on_step: Callable[[str], object] = str,
    now: Callable[[], float] = perf_counter,
) -> Path:
    """Write the page: crops by bicubic, Lanczos and the models, in PNG, as they are in the whole enlarged frame.

    Args:
        source: Anything FFmpeg opens.
        output: The file to write, checked by `check_output`.
        candidates: In the order in which they are listed.
        scale: One that all of them have.
        at: The moment, in seconds; by default four of a video, spread evenly.
        crop: The part, in pixels of the source; by default the busiest one of every moment, or the four busiest of one.
        selection: How frames are decoded and read; ``at`` chooses them.
        execution: As for `Upscaler`.
        overwrite: Replace an existing output.
        on_step: Called with what is done next, in words.
        now: Seconds of a clock, to time models with.

    Returns:
        The file.

    Raises:
        UsageError: a crop that is not inside of the frame, or a model that lacks the scale.
        VsrError: as `Upscaler` and `Source` raise it.
    """
    execution, selection = execution or Execution(), selection or Selection()
    with closing(Source(source)) as probe:
        count = probe.expected_frames
        rate = float(probe.frame_rate) if probe.frame_rate else None
    with ExitStack() as cleanup:
        upscalers = [cleanup.enter_context(interpolation(name, scale, execution)) for name in _BASELINES]
        upscalers += [cleanup.enter_context(each.open(scale, execution)) for each in candidates]
        times = moments(source, _CROPS) if at is None else [at]
        shown: list[dict[str, Any]] = []
        data: dict[str, Any] = {"scale": scale, "crops": shown}
        for number, time in enumerate(times, 1):
            on_step(f"moment {number} of {len(times)}" if len(times) > 1 else "enlarging")
            with closing(Source(source, replace(selection, start=time, frames=1))) as decoded:
                frame = next(decoded)
                moment = None if time is None else clock(decoded, frame)
                if not shown:
                    data |= {"name": decoded.name, "width": frame.width, "height": frame.height}
                    colors = _colors(frame, decoded.first.assumed, selection)
                    data |= {"frames": count, "rate": rate, "colors": colors}
            width, height = (-(-length // scale) for length in _SHOWN)
            for part in [crop] if crop else busiest(frame, width, height, _CROPS if len(times) == 1 else 1):
                part.check(frame)
                images = [_data_url(png(enlarge(frame, part, upscaler))) for upscaler in upscalers]
                shown.append({"time": moment, "part": str(part), "images": images})
        on_step("measuring how long each model takes")
        models = [_model(frame, part, upscaler, now) for upscaler in upscalers[len(_BASELINES) :]]
        for row, candidate in zip(models, candidates, strict=True):
            row["name"] = candidate.label
            known = candidate == Candidate(candidate.model)
            row["psnr"] = psnr(candidate.model, scale) if known else None
        data["versions"] = [*({"name": name} for name in _BASELINES), *models]
    with Part(output, sequence=False, overwrite=overwrite) as place:
        place.file.write_text(_page(data), encoding="utf-8")
        return place.place()


def _model(frame: Frame, crop: Crop, upscaler: Upscaler, now: Callable[[], float]) -> dict[str, Any]:
    """A model's seconds for a whole frame, estimated from those for the window of a crop that it has seen before."""
    window, _, _ = cut(frame, crop, upscaler.spec.overlap[upscaler.scale])
    times: list[float] = []
    while len(times) < _RUNS and sum(times) < _PATIENCE:
        began = now()
        upscaler.upscale([window])
        times.append(now() - began)
    share = window.width * window.height / (frame.width * frame.height)
    where = f"{upscaler.backend}, {upscaler.device.type}, {upscaler.precision}"
    return {"seconds": median(times) / share, "where": where}


def _colors(frame: Frame, assumed: Sequence[str], selection: Selection) -> list[tuple[str, str, str]]:
    """How samples were read: rows of (property, value, source of the value)."""
    color, guessed = frame.color, " ".join(assumed)

    def who(asked: object, word: str) -> str:
        return "as asked" if asked is not None else "assumed: the file does not say" if word in guessed else "tagged"

    rgb = color.matrix is Matrix.RGB
    rows = [("samples", _samples(frame), "")]
    if not (rgb or frame.is_gray):
        rows.append(("matrix", _MATRICES.get(color.matrix, color.matrix.name), who(selection.matrix, "BT.")))
    rows.append(("range", color.range.value, "" if rgb and not selection.range else who(selection.range, "range")))
    if any(color.subsampling):
        rows.append(("chroma location", color.chroma_location.name.lower(), ""))
    return rows


def _samples(frame: Frame) -> str:
    color = frame.color
    kind = "gray" if frame.is_gray else "RGB" if color.matrix is Matrix.RGB else "YUV"
    schemes = {
        (1, 1): " 4:2:0",
        (1, 0): " 4:2:2",
        (2, 0): " 4:1:1",
        (0, 0): " 4:4:4",
        (0, 1): " 4:4:0",
        (2, 2): " 4:1:0",
    }
    scheme = schemes.get(color.subsampling, "") if kind == "YUV" else ""
    return f"{kind}{scheme}, {color.depth} bits"


def _data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _page(data: dict[str, Any]) -> str:
    page = resources.files("vsr_plugin.compare").joinpath("page.html").read_text(encoding="utf-8")
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # nothing in it ends the script element
    before, after = page.split(f">{_PLACE}</script>")
    return f"{before}>{text}</script>{after}"
