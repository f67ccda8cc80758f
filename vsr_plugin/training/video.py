"""Small images with a compressed video's artifacts: short clips of still images are encoded and decoded.

A clip is a pan, a zoom or a still, so that most of its frames are predicted from others, as in any video.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from ..color import Conversion
from ..evaluation import Pair
from ..frames import ColorSpec, Matrix
from ..images import imresize, rgb_to_luma, shrink
from ..stream.compression import Compression

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray
    from torch import Tensor

    from ..images import Image
    from ..stream.compression import Planes

_CLIPS = 1000  # of all images
_CLIPS_PER_IMAGE = 8
_SIDE = 384  # rows and columns, at most, of a large frame
_LEAST = 32  # rows and columns of a small image to validate with
_FRAMES = (5, 10)  # of a clip, from and up to
_KEPT = 2  # of these frames: the others look much the same
_CLEAN = 0.15  # of the clips are only shrunk
_STILL = 0.3  # of them do not move
_ZOOMING = 0.2
_FASTEST = 3.0  # small samples from frame to frame
_WIDEST = 1.25  # the factor that a zoom begins or ends with, relative to the image's own size
_CRF = (18.0, 32.0)  # of x264, from and up to
_ENCODERS = {"libx264": 0.6, "libx265": 0.2, "libvpx-vp9": 0.2}  # how often each is drawn


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the large image in a frame: its top left corner, and its size relative to the frame."""

    top: float
    left: float
    size: float


class VideoPairs:
    """Makes pairs for `data.Patches`, a few from each clip; the same ones for a seed. A `data.MakePairs`.

    Args:
        scales: The scales at which small images are enlarged; smaller targets in between are not compressed.
        folders: The number of folders that share the clips, whose number is bounded to bound the memory.
        seed: Seed of motion, encoders and qualities.
    """

    def __init__(self, scales: Collection[int], folders: int, seed: int) -> None:
        self._scales = sorted(scales)
        self._clips = max(1, _CLIPS // folders)
        self._seed = seed
        self._made = 0

    def __call__(
        self, images: Sequence[Image], channels: int, sizes: Sequence[float], divisors: Sequence[int], least: int
    ) -> Iterator[tuple[NDArray[np.uint8], dict[int, Tensor]]]:
        """Pairs of a folder's images; those that are too small give none."""
        count = min(self._clips, _CLIPS_PER_IMAGE * len(images))
        unit = 2 * math.lcm(*divisors)
        for index in range(count):
            rng = np.random.default_rng([self._seed, self._made])
            self._made += 1
            image = images[index * len(images) // count if count < len(images) else index % len(images)]
            samples, size = image.samples(channels), float(rng.choice(sizes))
            samples = samples if size == 1 else imresize(samples, size)
            for large, small in degrade(samples, self._scales, unit, least, rng):
                flat = {scale: torch.from_numpy(each.reshape(-1, channels)) for scale, each in small.items()}
                for divisor in divisors:
                    if divisor not in flat:
                        flat[divisor] = (shrink(large, divisor) * 255.0).round().byte().flatten(1).T
                yield large, flat


def degraded_pair(image: Image, scale: int, channels: int, unit: int, side: int, seed: int) -> Pair | None:
    """The middle of a frame of a clip over an image, at most ``side`` rows and columns; the same for a seed.

    None for an image that is too small. The sides of the large part are multiples of ``unit``.
    """
    rng = np.random.default_rng(seed)
    for large, small in degrade(image.samples(channels), (scale,), 2 * unit, _LEAST * scale, rng, kept=1):
        height, width = (min(side, length) // unit * unit for length in large.shape[:2])
        top, left = (
            (length - part) // 2 // unit * unit for length, part in zip(large.shape[:2], (height, width), strict=True)
        )
        truth = large[top : top + height, left : left + width]
        part = small[scale][top // scale : (top + height) // scale, left // scale : (left + width) // scale]
        luma = truth[..., 0] if channels == 1 or image.gray else rgb_to_luma(truth)
        return Pair(image.name, torch.from_numpy(part).permute(2, 0, 1).float() / 255.0, luma, image.gray)
    return None


def degrade(
    image: NDArray[np.uint8], scales: Sequence[int], unit: int, least: int, rng: Generator, *, kept: int = _KEPT
) -> Iterator[tuple[NDArray[np.uint8], Mapping[int, NDArray[np.uint8]]]]:
    """Make a clip over an image, shrink and compress it, and take some of its frames.

    Args:
        image: (H, W, C); luma for C = 1, which gets chroma without color, or RGB for C = 3.
        scales: The divisors to shrink the clip by; each result is compressed by itself.
        unit: Twice a common multiple of the scales: the sides of large frames are multiples of it.
        least: The fewest rows and columns of a large frame.
        rng: Draws motion, encoder and quality.
        kept: How many frames are taken.

    Yields:
        Large frames (H', W', C), and for each scale the small one, (H'/scale, W'/scale, C). Nothing, if the image is
        too small.
    """
    least = unit * math.ceil(least / unit)
    if min(image.shape[:2]) < least:
        return
    count = int(rng.integers(*_FRAMES))
    shape, windows = _motion(image.shape[:2], least, unit, max(scales), count, rng)
    large = [_look(image, window, shape) for window in windows]
    color = ColorSpec(Matrix.BT709 if rng.random() < 0.5 else Matrix.SMPTE170M, subsampling=(1, 1))
    small = {scale: _shrunk(large, scale) for scale in scales}
    if rng.random() >= _CLEAN:
        encoder, options = _draw_encoder(rng)
        small = {scale: _compressed(frames, encoder, options, color) for scale, frames in small.items()}
    for index in sorted(rng.choice(np.arange(1, count), min(kept, count - 1), replace=False)):
        yield _samples(large[index]), {scale: _samples(frames[index]) for scale, frames in small.items()}


def _motion(
    image: tuple[int, ...], least: int, unit: int, scale: int, count: int, rng: Generator
) -> tuple[tuple[int, int], list[Window]]:
    """The shape of a clip's frames, and the window of each."""
    kind = rng.random()
    speed = np.zeros(2) if kind < _STILL else rng.uniform(-_FASTEST, _FASTEST, 2) * scale
    sizes = np.ones(count)
    if kind > 1 - _ZOOMING:
        sizes = np.linspace(1, rng.uniform(1, _WIDEST), count)[:: int(rng.choice((-1, 1)))]
    sides, starts = [], []
    for axis in (0, 1):
        side = min(_SIDE, image[axis]) // unit * unit
        widest = min(image[axis] / side, float(sizes.max())) if side > least else 1.0
        room = image[axis] - side * widest
        if abs(speed[axis]) * (count - 1) > room:  # a smaller frame leaves room to move
            side = max(least, int((image[axis] / float(sizes.max()) - abs(speed[axis]) * (count - 1)) // unit * unit))
        sides.append(side)
    largest = min(float(sizes.max()), *(image[axis] / sides[axis] for axis in (0, 1)))
    sizes = np.minimum(sizes, largest)
    for axis in (0, 1):
        room = max(0.0, image[axis] - sides[axis] * largest)
        speed[axis] = np.clip(speed[axis], -room / (count - 1), room / (count - 1))
        travel = speed[axis] * (count - 1)
        starts.append(max(0.0, -travel) + rng.random() * max(0.0, room - abs(travel)))
    return (sides[0], sides[1]), [
        Window(starts[0] + step * speed[0], starts[1] + step * speed[1], float(size)) for step, size in enumerate(sizes)
    ]


def _look(image: NDArray[np.uint8], window: Window, shape: tuple[int, int]) -> Tensor:
    """A large frame, (C, H', W') float32 in [0, 1]; the image's own samples if nothing zooms."""
    top, left = int(window.top), int(window.left)
    height, width = (
        min(side, math.floor(length * window.size)) for side, length in zip(image.shape[:2], shape, strict=True)
    )
    part = image[top : top + height, left : left + width]
    x = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1).float() / 255.0
    return x if (height, width) == shape else _resize(x, shape)


def _shrunk(frames: Sequence[Tensor], scale: int) -> list[Tensor]:
    return [_resize(frame, (frame.shape[1] // scale, frame.shape[2] // scale)) for frame in frames]


def _resize(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bicubic with a = −0.5 and antialiasing, like imresize except at the edges, in a twentieth of its time."""
    y = F.interpolate(x[None], shape, mode="bicubic", antialias=True)[0]
    return ((y * 255.0).round().clamp(0, 255)) / 255.0


def _draw_encoder(rng: Generator) -> tuple[str, dict[str, str]]:
    encoder = str(rng.choice(list(_ENCODERS), p=list(_ENCODERS.values())))
    crf = rng.uniform(*_CRF)
    preset, between = str(rng.choice(("veryfast", "medium"))), int(rng.integers(0, 4))
    if encoder == "libvpx-vp9":  # its CRF goes up to 63
        return encoder, {"crf": f"{1.6 * crf:.0f}", "deadline": "good", "cpu-used": "4", "lag-in-frames": "8"}
    if encoder == "libx265":  # 28 looks like 23 to 24 of x264
        return encoder, {"crf": f"{crf + 4:.1f}", "preset": preset, "bf": str(between)}
    # With its macroblock tree and B-frames, x264's output is not the same each time.
    return encoder, {"crf": f"{crf:.1f}", "preset": preset, "bf": str(between), "mbtree": "0"}


def _compressed(frames: Sequence[Tensor], encoder: str, options: Mapping[str, str], color: ColorSpec) -> list[Tensor]:
    channels, height, width = frames[0].shape
    if channels == 1:
        gray = np.full((height // 2, width // 2), 128, np.uint8)
        clip: list[Planes] = [(_samples(frame)[..., 0], gray, gray) for frame in frames]
        return [torch.from_numpy(y)[None].float() / 255.0 for y, _, _ in Compression(clip, encoder, options)]
    conversion = Conversion(color, 3, 3, 1)
    planes = conversion.join(torch.stack(list(frames)), ())
    clip = [(y.numpy(), cb.numpy(), cr.numpy()) for y, cb, cr in zip(*planes, strict=True)]
    decoded = list(Compression(clip, encoder, options))
    stacked = [torch.from_numpy(np.stack([frame[index] for frame in decoded])) for index in range(3)]
    return list(conversion.split(stacked)[0])


def _samples(frame: Tensor) -> NDArray[np.uint8]:
    """(C, H, W) in [0, 1] → (H, W, C), rounded."""
    rounded: NDArray[np.uint8] = (frame * 255.0 + 0.5).byte().permute(1, 2, 0).contiguous().numpy()
    return rounded
