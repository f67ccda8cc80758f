"""Films as training images: frames from all of a film."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..arrays import as_tensor
from ..color import Conversion
from ..errors import InputError
from ..images import Image, read_images, rgb_to_luma
from ..stream import Selection, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ..frames import Frame

_FRAMES = 96  # of a film, at most: as many images as a folder of photographs may have
_READ_WHOLE = 600  # frames: longer films are searched instead of read whole
_ALIKE = 2.0  # mean difference of 8-bit thumbnails, up to which frames count as the same
_THUMBNAIL = 16


def read_training_images(path: Path, channels: int, say: Callable[[str], object] = lambda what: None) -> list[Image]:
    """The images of a folder, or frames of a film.

    Args:
        path: The folder or the film.
        channels: 1 for luma, 3 for RGB, too.
        say: Called with a line on what is being read.

    Raises:
        InputError: there is no such folder or file, or nothing in it can be read.
    """
    if path.is_dir():
        return read_images(
            path, channels, lambda number, count: say(f"reading {path.name}: {number} of {count} images")
        )
    if path.is_file():
        say(f"reading {path.name}")
        return read_film(path, channels)
    what = "which is neither" if path.exists() else "and there is none"
    raise InputError(f"Expected a folder of images or a film, got {str(path)!r}, {what}")


def read_film(path: Path, channels: int, count: int = _FRAMES) -> list[Image]:
    """Read frames at even distances in a film; of successive frames that look the same, only the first is kept.

    A film of unknown length is read as a whole.

    Args:
        path: Anything FFmpeg opens.
        channels: 1 for luma as it is stored, 3 for RGB, too.
        count: How many, at most.

    Raises:
        InputError: the file cannot be read, or is one image.
    """
    images: list[Image] = []
    taken = 0
    before: NDArray[np.float64] | None = None
    for taken, frame in enumerate(_spread(path, count), start=1):
        image = _image(f"{path.name}, frame {taken}", frame, channels)
        thumbnail = _shrunk(image.luma)
        if before is None or float(np.abs(thumbnail - before).mean()) > _ALIKE:
            images.append(image)
            before = thumbnail
    if taken == 1:
        raise InputError(f"Expected a folder of images or a film, got one image: {str(path)!r}")
    return images


def _spread(path: Path, count: int) -> Iterator[Frame]:
    """At most ``count`` frames at even distances."""
    with closing(Source(path)) as source:
        total, rate = source.expected_frames, source.frame_rate
        if total is None or rate is None or total <= _READ_WHOLE:
            yield from _thinned(source, count)
            return
    for index in range(count):
        start = Fraction(total * (2 * index + 1), 2 * count) / rate
        with closing(Source(path, Selection(start=start, frames=1))) as source:
            try:
                yield next(source)
            except InputError:
                if index == 0:
                    raise
                return  # the sound lasts longer than the frames


def _thinned(frames: Iterable[Frame], count: int) -> list[Frame]:
    """At most ``count`` frames at even distances, and at least half as many, if there are; each is held only once."""
    kept: list[Frame] = []
    step = 1
    for index, frame in enumerate(frames):
        if index % step == 0:
            kept.append(frame)
        if len(kept) > count:
            del kept[1::2]
            step *= 2
    return kept


def _image(name: str, frame: Frame, channels: int) -> Image:
    planes = [as_tensor(plane)[None] for plane in frame.planes]

    def samples(wanted: int) -> NDArray[np.uint8]:
        x, _ = Conversion(frame.color, len(planes), wanted, 1).split(planes)
        rounded: NDArray[np.uint8] = (x[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        return rounded

    if channels == 1:
        return Image(name, samples(1)[..., 0])
    rgb = samples(3)
    return Image(name, rgb_to_luma(rgb), rgb, gray=False)


def _shrunk(luma: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(16, 16), or less: means of equal parts."""
    height, width = (max(1, side // _THUMBNAIL) for side in luma.shape)
    rows, columns = luma.shape[0] // height, luma.shape[1] // width
    parts = luma[: rows * height, : columns * width].reshape(rows, height, columns, width)
    means: NDArray[np.float64] = parts.mean((1, 3))
    return means
