"""Output sizes: a `Size` is a request, and a `Target` is what it means for frames of one geometry.

The networks enlarge by whole numbers. One network, or two in turn, enlarge at least to the size, and the result is
resampled once to the exact size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, get_args

from .arguments import checked_arguments
from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .frames import Frame

type Fit = Literal["inside", "cover", "stretch"]

_FINEST = 65535  # the largest number in a pixel aspect ratio of H.264 (ITU-T H.264, E.2.1)


@checked_arguments()
@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The requested size of frames as displayed: for a film that is rotated on display, the size after rotation.

    Attributes:
        width: In pixels; by default the one that keeps the shape of the frame.
        height: ″
        fit: How frames of another shape than ``width`` × ``height`` are fitted. "inside": the whole frame is shown, as
            large as possible, and one side is smaller than requested. "cover": the frame fills the size, and the excess
            is cropped, equally on both sides. "stretch": the frame is stretched to the size. Pixels are square after
            "cover" and "stretch".
        square_pixels: Make pixels square. By default, "inside" keeps their shape, and ``width`` and ``height`` count
            them as they are stored.
        scale: The network's; by default the smallest that reaches the size, of one network or of two in turn.
        shift: (right, down) shift of the visible part of the frame, in pixels of the frame.

    Raises:
        UsageError: neither side is given, a side is below 1, or only one is given and ``fit`` is not "inside".
    """

    width: int | None = None
    height: int | None = None
    fit: Fit = "inside"
    square_pixels: bool = False
    scale: int | None = None
    shift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.width is None and self.height is None:
            raise UsageError("Expected a width or a height in pixels, got neither")
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None and side < 1:
                raise UsageError(f"Expected a {name} of 1 or more pixels, got {side!r}")
        if self.scale is not None and self.scale < 1:
            raise UsageError(f"Expected a scale of 1 or more, got {self.scale}")
        if not all(map(math.isfinite, self.shift)):
            raise UsageError(f"Expected a shift in pixels, got {self.shift}")
        fits = get_args(Fit.__value__)
        if self.fit not in fits:
            raise UsageError(f"Unknown fit {self.fit!r}. Known fits: {', '.join(fits)}")
        if self.fit != "inside" and (self.width is None or self.height is None):
            raise UsageError(f"Expected a width and a height with the fit {self.fit!r}, got one of them")

    def __str__(self) -> str:
        if self.width is None:
            return f"{self.height}p"
        return f"{self.width}w" if self.height is None else f"{self.width}x{self.height}"

    @property
    def squares(self) -> bool:
        """Whether the result has square pixels."""
        return self.square_pixels or self.fit != "inside"

    def of(self, frame: Frame, scales: Iterable[int]) -> Target:
        """`target` for this frame."""
        return self.target(
            frame.width,
            frame.height,
            scales,
            ratio=frame.sample_aspect_ratio,
            subsampling=(0, 0) if frame.is_gray else frame.color.subsampling,
            transposed=frame.transposed,
        )

    def target(
        self,
        width: int,
        height: int,
        scales: Iterable[int],
        *,
        ratio: Fraction | None = None,
        subsampling: tuple[int, int] = (0, 0),
        transposed: bool = False,
    ) -> Target:
        """The size, scales and pixel shape of the results for frames.

        Args:
            width: The width of a frame, in pixels.
            height: ″
            scales: The scales that the network has.
            ratio: Width : height of a pixel, or None.
            subsampling: As in `ColorSpec`: a side that was not requested is rounded to whole chroma samples.
            transposed: Whether rows are displayed as columns, so that the requested width is for the frames' height.

        Raises:
            UsageError: the size is not larger than the frames, or larger than two networks in turn reach.
        """
        if width < 1 or height < 1:
            raise UsageError(f"Expected a width and a height of 1 or more pixels, got {width}×{height}")
        asked = (self.height, self.width) if transposed else (self.width, self.height)
        shape = (ratio or Fraction(1)) if self.squares else Fraction(1)
        full = (width * shape, Fraction(height))  # in pixels of the result's shape
        factors = [Fraction(side) / of for side, of in zip(asked, full, strict=True) if side is not None]
        if self.fit == "stretch":
            grown = (factors[0] * shape, factors[1])
        else:
            factor = max(factors) if self.fit == "cover" else min(factors)
            grown = (factor * shape, factor)
        if self.scale is None and max(grown) <= 1:
            raise self._too_small(width, height, factors, transposed=transposed)
        passes = self._passes(max(grown), scales, f"{height}×{width}" if transposed else f"{width}×{height}")
        reached = math.prod(passes)
        window = Window(Fraction(0), Fraction(0), Fraction(width), Fraction(height))
        if self.fit == "inside":
            if all(factor == reached for factor in grown) and not any(self.shift):
                return Target(width * reached, height * reached, passes, _squared(ratio, square=self.square_pixels))
            size = tuple(
                _whole(of * factor, 1 << log2, most) for of, log2, most in zip(full, subsampling, asked, strict=True)
            )
        else:
            size = (asked[0] or 0, asked[1] or 0)
        if self.fit == "cover":
            seen = (size[0] / grown[0], size[1] / grown[1])
            window = Window((width - seen[0]) / 2, (height - seen[1]) / 2, *seen)
        right, down = map(Fraction, self.shift)
        window = replace(window, left=window.left + right, top=window.top + down)
        if self.squares:
            ratio = _squared(ratio, square=True)
        elif ratio not in (None, 1):
            ratio = _stated(ratio * Fraction(width, size[0]) / Fraction(height, size[1]))
        exact = size == (width * reached, height * reached) and window.is_all_of(width, height)
        return Target(size[0], size[1], passes, ratio, None if exact else window)

    def _passes(self, need: Fraction, scales: Iterable[int], frames: str) -> tuple[int, ...]:
        """The smallest scale, or pair of scales in turn, that enlarges at least by ``need``."""
        able = sorted(scales) if self.scale is None else [self.scale]
        for plans in ([(one,) for one in able], [(one, two) for one in able for two in able if one <= two]):
            reaching = [plan for plan in plans if math.prod(plan) >= need]
            if reaching:
                return min(reaching, key=lambda plan: (math.prod(plan), plan))
        most = able[-1] ** 2
        raise UsageError(
            f"Expected a size of at most {most} times that of the frames, {frames}, which is ×{able[-1]} twice, "
            f"got {self._said}"
        )

    def _too_small(self, width: int, height: int, factors: list[Fraction], *, transposed: bool) -> UsageError:
        seen = (height, width) if transposed else (width, height)
        line = f"Expected a size above that of the frames, {seen[0]}×{seen[1]}, got {self._said}"
        if max(factors) <= 1 or self.fit != "inside":
            return UsageError(line)
        width, height = (round(side * min(factors)) for side in seen)
        return UsageError(f"{line}, inside which they would be {width}×{height}", fit="cover")

    @property
    def _said(self) -> str:
        if self.width is None:
            return f"a height of {self.height}"
        return f"a width of {self.width}" if self.height is None else f"{self.width}×{self.height}"


@dataclass(frozen=True, slots=True)
class Window:
    """The visible part of a frame, in pixels of the frame; the edges of pixels are at whole numbers.

    Attributes:
        left: Position of the left edge.
        top: Position of the upper edge.
        width: Distance of the left and right edges.
        height: ″
    """

    left: Fraction
    top: Fraction
    width: Fraction
    height: Fraction

    def is_all_of(self, width: int, height: int) -> bool:
        """Whether it covers a whole frame of this size."""
        return self.left == self.top == 0 and self.width == width and self.height == height


@dataclass(frozen=True, slots=True)
class Target:
    """The size, scales and pixel shape of the results for frames of one geometry.

    Attributes:
        width: The width of the result, in pixels.
        height: ″
        scales: The scales of the networks that a frame passes in turn.
        ratio: Width : height of a pixel of the result, or None.
        window: The part of a frame that is resampled to the result; None if the networks' output is the result.
    """

    width: int
    height: int
    scales: tuple[int, ...]
    ratio: Fraction | None = None
    window: Window | None = None

    @property
    def scale(self) -> int:
        """The product of the networks' scales."""
        return math.prod(self.scales)


def _whole(side: Fraction, step: int, most: int | None) -> int:
    """The multiple of ``step`` nearest to a side; a requested side is kept."""
    if most is not None and side == most:
        return most
    nearest = max(1, round(side / step)) * step
    return nearest if most is None else min(nearest, most)


def _squared(ratio: Fraction | None, *, square: bool) -> Fraction | None:
    """The ratio to state: 1 if ``square`` and one was stated before; otherwise as before."""
    return Fraction(1) if square and ratio is not None else ratio


def _stated(ratio: Fraction) -> Fraction:
    """The nearest ratio of numbers that H.264 can store."""
    if ratio <= 1:
        return ratio.limit_denominator(_FINEST)
    return 1 / (1 / ratio).limit_denominator(_FINEST)
