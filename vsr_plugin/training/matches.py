"""Finds training images that are benchmark images, resized or cropped, which make a benchmark's figures meaningless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageError
from ..images import read_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ..images import Image

_SIDE = 28  # of a thumbnail, the longer one
_SIZES = (*(0.5 * 1.07**step for step in range(11)), 1.0)  # of the image that is searched for in the other
_SMALLEST = 9  # rows or columns of the image that is searched for
_ALIKE = 0.96  # correlation


@dataclass(frozen=True, slots=True)
class Match:
    """A training image that looks like a benchmark image, and their correlation, at most 1."""

    training: str
    benchmark: str
    correlation: float


def refuse_matches(training: Iterable[Sequence[Image]], benchmarks: Sequence[Path]) -> None:
    """Check that no training image is a benchmark image.

    Raises:
        UsageError: some are; the message names them.
        InputError: a benchmark's folder cannot be read.
    """
    benchmark = [image for folder in benchmarks for image in read_images(folder)]
    found = [match for images in training for match in find_matches(images, benchmark)] if benchmark else []
    if found:
        pairs = ", ".join(f"{each.training} looks like {each.benchmark} ({each.correlation:.3f})" for each in found)
        raise UsageError(f"Expected training images that no benchmark has, got {len(found)}: {pairs}. Remove them")


def find_matches(training: Iterable[Image], benchmark: Sequence[Image]) -> list[Match]:
    """Find training images that are a benchmark image, are part of one, or contain one.

    Thumbnails of one, at several sizes down to half, are searched for everywhere in a thumbnail of the other. Rotated
    and mirrored images are not found.

    Args:
        training: Images read with any number of channels: luma is compared.
        benchmark: The benchmark images.
    """
    matches = []
    wholes, templates = zip(*(_thumbnails(image) for image in benchmark), strict=True)
    all_wholes, all_templates = _joined(wholes), _joined(templates)
    owners = torch.arange(len(benchmark)).repeat_interleave(len(_SIZES))
    for image in training:
        whole, own = _thumbnails(image)
        found = torch.full((len(benchmark),), -1.0)
        found.scatter_reduce_(0, owners, _correlations(whole, all_templates)[0], "amax")
        found = found.maximum(_correlations(all_wholes, own).amax(1))
        matches += [
            Match(image.name, benchmark[index].name, float(found[index])) for index in (found > _ALIKE).nonzero()[:, 0]
        ]
    return matches


@dataclass(frozen=True, slots=True)
class _Thumbnails:
    """Thumbnails of one kind, (N, …): samples in the corner of a square, their sides, and a mask that is 1 there."""

    samples: Tensor
    sides: Tensor
    inside: Tensor


def _thumbnails(image: Image) -> tuple[_Thumbnails, _Thumbnails]:
    """An image as a whole, and at every size to search for, with its mean subtracted."""
    luma = torch.from_numpy(image.luma).float()[None] / 255.0
    height, width = image.luma.shape
    made = []
    for size in (1.0, *_SIZES):
        scale = size * _SIDE / max(height, width)
        small = F.adaptive_avg_pool2d(luma, (max(1, round(height * scale)), max(1, round(width * scale))))[0]
        small = small - small.mean()
        margins = (0, _SIDE - small.shape[1], 0, _SIDE - small.shape[0])
        made.append(
            _Thumbnails(F.pad(small, margins), torch.tensor(small.shape), F.pad(torch.ones_like(small), margins))
        )
    return _joined(made[:1], torch.stack), _joined(made[1:], torch.stack)


def _joined(parts: Sequence[_Thumbnails], join: Callable[[list[Tensor]], Tensor] = torch.cat) -> _Thumbnails:
    columns = ([getattr(part, name) for part in parts] for name in ("samples", "sides", "inside"))
    return _Thumbnails(*map(join, columns))


def _correlations(wholes: _Thumbnails, templates: _Thumbnails) -> Tensor:
    """(A, B): the highest normalized cross-correlation of each template with a part, of its size, of each whole."""

    def slide(samples: Tensor, kernels: Tensor) -> Tensor:
        """(A, B, rows, columns): sums of products, the kernel's corner at each place."""
        size = (2 * _SIDE, 2 * _SIDE)  # so that nothing wraps around
        spectra = torch.fft.rfft2(samples, size)[:, None] * torch.fft.rfft2(kernels, size).conj()
        sums: Tensor = torch.fft.irfft2(spectra, size)
        return sums[..., :_SIDE, :_SIDE]

    count = templates.inside.sum((1, 2))[:, None, None]
    sums, squares = slide(wholes.samples, templates.inside), slide(wholes.samples**2, templates.inside)
    energy = templates.samples.square().sum((1, 2))[:, None, None]
    contrast = ((squares - sums**2 / count) * energy).clamp(min=1e-6).sqrt()
    alike = slide(wholes.samples, templates.samples) / contrast
    room = wholes.sides[:, None] - templates.sides  # (A, B, 2)
    steps = torch.arange(_SIDE)
    fits = (steps[:, None] <= room[..., 0, None, None]) & (steps <= room[..., 1, None, None])
    fits &= templates.sides.amin(1)[:, None, None] >= _SMALLEST
    return alike.where(fits, -1.0).amax((2, 3))
