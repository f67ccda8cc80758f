"""The size that people want: a `Size` is asked for, and a `Target` is what it means for frames of one geometry.

The networks enlarge by whole numbers. What reaches the size, one network or two, one after the other, is then resampled
once to the exact size.
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
    """The size that frames are to have, as they are seen: of a film that is shown upright, it is the upright size.

    Attributes:
        width: In pixels; by default what keeps the shape of the frame.
        height: ″
        fit: What is done where frames have another shape than ``width`` × ``height``. "inside": all of the frame is
            seen, as large as there is room, and one side is smaller than asked. "cover": the frame fills the size, and
            what is too much of it is cut off, as much on either side. "stretch": the frame is pulled into shape. Pixels
            are square after "cover" and "stretch".
        square_pixels: Make pixels square. By default, "inside" leaves them their shape, and ``width`` and ``height``
            count them as they are stored.
        scale: Of the network; by default the least that reaches the size, of one network or of two in turn.
        shift: (right, down) pixels of the frame by which what is seen of it begins later, and ends later.

    Raises:
        UsageError: neither side, a side below 1, or another ``fit`` than "inside" with one side only.
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
        """Whether pixels become square."""
        return self.square_pixels or self.fit != "inside"

    def of(self, frame: Frame, scales: Iterable[int]) -> Target:
        """`target`, of this frame."""
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
        """What becomes of frames.

        Args:
            width: Of a frame, in pixels.
            height: ″
            scales: Those of the network.
            ratio: Width : height of a pixel, or None.
            subsampling: As in `ColorSpec`: a side that is computed is a multiple of the chroma samples.
            transposed: Whether rows are shown as columns, so that the width that is asked for is the frames' height.

        Raises:
            UsageError: the size is not larger than the frames, or beyond what two networks reach.
        """
        if width < 1 or height < 1:
            raise UsageError(f"Expected a width and a height of 1 or more pixels, got {width}×{height}")
        asked = (self.height, self.width) if transposed else (self.width, self.height)
        shape = (ratio or Fraction(1)) if self.squares else Fraction(1)
        full = (width * shape, Fraction(height))  # in pixels of the shape that the result has
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
        """The least scale, or the least two in turn, that enlarge by ``need``."""
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
    """The part of a frame that is seen, in its pixels, whose edges are at whole numbers.

    Attributes:
        left: Of its left edge.
        top: Of its upper edge.
        width: How much it spans.
        height: ″
    """

    left: Fraction
    top: Fraction
    width: Fraction
    height: Fraction

    def is_all_of(self, width: int, height: int) -> bool:
        """Whether it is the whole of a frame."""
        return self.left == self.top == 0 and self.width == width and self.height == height


@dataclass(frozen=True, slots=True)
class Target:
    """What becomes of frames of one geometry.

    Attributes:
        width: Of the result, in pixels.
        height: ″
        scales: Of the networks that a frame passes, one after the other.
        ratio: Width : height of a pixel of the result, or None.
        window: What of a frame is resampled to the result; None where what the networks make is the result.
    """

    width: int
    height: int
    scales: tuple[int, ...]
    ratio: Fraction | None = None
    window: Window | None = None

    @property
    def scale(self) -> int:
        """How many times the networks enlarge."""
        return math.prod(self.scales)


def _whole(side: Fraction, step: int, most: int | None) -> int:
    """The multiple of a step that is nearest to a side; a side that was asked for is kept."""
    if most is not None and side == most:
        return most
    nearest = max(1, round(side / step)) * step
    return nearest if most is None else min(nearest, most)


def _squared(ratio: Fraction | None, *, square: bool) -> Fraction | None:
    """What is stated of square pixels, where anything is stated."""
    return Fraction(1) if square and ratio is not None else ratio


def _stated(ratio: Fraction) -> Fraction:
    """The nearest ratio of small numbers."""
    if ratio <= 1:
        return ratio.limit_denominator(_FINEST)
    return 1 / (1 / ratio).limit_denominator(_FINEST)
