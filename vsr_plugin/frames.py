"""A frame, and all that is needed to read its samples.

A `Frame` holds native samples: the decoder's output, before any conversion. `ColorSpec` says what they mean. Both are
immutable and check their fields; neither depends on a file, a codec or a network.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, fields
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any

from .arguments import check_type, checked_arguments
from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    import numpy as np

    type Samples = np.ndarray[Any, np.dtype[Any]]


class Matrix(IntEnum):
    """MatrixCoefficients of H.273 (table 4), under FFmpeg's names; `RGB` is H.273's identity (GBR).

    ``Matrix("bt709")`` looks one up by its name, or by a common short one: bt601, bt2020.
    """

    RGB = 0
    BT709 = 1
    UNSPECIFIED = 2
    FCC = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    YCGCO = 8
    BT2020_NCL = 9
    BT2020_CL = 10
    SMPTE2085 = 11
    CHROMA_DERIVED_NCL = 12
    CHROMA_DERIVED_CL = 13
    ICTCP = 14

    @classmethod
    def _missing_(cls, value: object) -> Matrix | None:
        short = {"BT601": "SMPTE170M", "BT2020": "BT2020_NCL", "BT2020NC": "BT2020_NCL", "BT2020C": "BT2020_CL"}
        name = str(value).upper().replace("-", "_")
        return cls.__members__.get(short.get(name, name))


class Range(Enum):
    """How code values map to [0, 1]: ``LIMITED`` (16…235 at 8 bits, "tv", "studio") or ``FULL`` (0…255, "pc").

    ``Range("tv")`` looks one up by FFmpeg's names: tv, mpeg, pc, jpeg.
    """

    LIMITED = "limited"
    FULL = "full"

    @classmethod
    def _missing_(cls, value: object) -> Range | None:
        return {"tv": cls.LIMITED, "mpeg": cls.LIMITED, "pc": cls.FULL, "jpeg": cls.FULL}.get(str(value).lower())


class ChromaLocation(Enum):
    """The position of a subsampled chroma sample, under H.273's and FFmpeg's names.

    A value is the (horizontal, vertical) position in the block of luma samples: −1 on the first one (left, top), 0 in
    the middle, +1 on the last one (bottom).
    """

    LEFT = (-1, 0)
    CENTER = (0, 0)
    TOPLEFT = (-1, -1)
    TOP = (0, -1)
    BOTTOMLEFT = (-1, 1)
    BOTTOM = (0, 1)


@checked_arguments()
@dataclass(frozen=True, slots=True)
class ColorSpec:
    """All that is needed to read samples; nothing that a conversion needs is left unresolved.

    Attributes:
        matrix: Matrix coefficients; `Matrix.RGB` for RGB planes. Gray keeps the matrix of its file.
        range: Limited or full.
        depth: Significant bits of a sample, 8 to 16, aligned to the least significant bit; 16 or 32 if ``floating``.
        subsampling: (log2 horizontal, log2 vertical) chroma subsampling; (1, 1) is 4:2:0, (1, 0) 4:2:2, (0, 0) 4:4:4.
        chroma_location: The position of subsampled chroma.
        primaries: ColorPrimaries of H.273; passed through, never interpreted. 2 is unspecified.
        transfer: TransferCharacteristics of H.273; passed through, never interpreted. 2 is unspecified.
        floating: Samples are floating point, and not subsampled: gray, luma and RGB from 0 (black) to 1 (white),
            chroma from −0.5 to 0.5, as in zimg. ``range`` then has no meaning.

    Raises:
        UsageError: no supported format has this depth or subsampling.
    """

    matrix: Matrix = Matrix.BT709
    range: Range = Range.LIMITED
    depth: int = 8
    subsampling: tuple[int, int] = (0, 0)
    chroma_location: ChromaLocation = ChromaLocation.LEFT
    primaries: int = 2
    transfer: int = 2
    floating: bool = False

    def __post_init__(self) -> None:
        if self.floating and (self.depth not in (16, 32) or self.subsampling != (0, 0)):
            raise UsageError(
                f"Expected floating-point samples of 16 or 32 bits without subsampling, got {self.depth} bits "
                f"and {self.subsampling}: convert the input first"
            )
        if not (self.floating or 8 <= self.depth <= 16):
            raise UsageError(f"Expected a depth of 8 to 16 bits, got {self.depth}: convert the input first")
        if self.matrix is Matrix.RGB and self.subsampling != (0, 0):
            raise UsageError(f"Expected RGB without subsampling, got {self.subsampling}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The sample type: uint8 for 8 bits, uint16 above; float16 or float32."""
        import numpy as np  # not before it is needed: names are checked without it

        if self.floating:
            return np.dtype(np.float16 if self.depth == 16 else np.float32)
        return np.dtype(np.uint8 if self.depth == 8 else np.uint16)

    @property
    def peak(self) -> int:
        """The largest code value, 2**depth − 1; 1 if floating."""
        return 1 if self.floating else (1 << self.depth) - 1

    def chroma_shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a chroma plane below a luma plane of ``height`` × ``width``."""
        horizontal, vertical = self.subsampling
        return -(-height >> vertical), -(-width >> horizontal)


@checked_arguments("planes", color="ColorSpec")
@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame in presentation order; equal only to itself.

    Attributes:
        planes: One (H, W) array of native samples per component, in the order Y Cb Cr, R G B, or gray, each
            optionally followed by alpha. A plane may be a strided view (NV12's chroma, packed RGB). Tensors on the CPU
            are accepted, too, and become arrays of the same memory. Do not write to a plane afterwards: copy a buffer
            that is used again for the next frame.
        pts: Presentation time in units of ``time_base``.
        time_base: Seconds per unit, exact.
        duration: Display time in units of ``time_base``; 0 if the file does not say.
        color: How to read the samples.
        side_data: Metadata passed through unchanged, such as HDR's: FFmpeg's name → bytes.
        sample_aspect_ratio: Width : height of a pixel on display; None if not stated, which means square.

    Raises:
        UsageError: the number, a shape or a type of the planes contradicts ``color``.
    """

    planes: tuple[Samples, ...]
    pts: int
    time_base: Fraction
    duration: int = 0
    color: ColorSpec = field(default_factory=ColorSpec)
    side_data: Mapping[str, bytes] = field(default_factory=dict)
    sample_aspect_ratio: Fraction | None = None

    def __post_init__(self) -> None:
        check_type("planes", self.planes, tuple | list)
        if not 1 <= len(self.planes) <= 4:
            raise UsageError(
                f"Expected 1 to 4 planes (gray, YUV or RGB, with or without alpha), got {len(self.planes)}"
            )
        if self.is_gray and self.color.matrix is Matrix.RGB:
            raise UsageError("Expected three planes for RGB, got gray ones: give them the matrix of their file")
        object.__setattr__(self, "planes", tuple(_samples(*plane) for plane in enumerate(self.planes)))
        for index, plane in enumerate(self.planes):
            chroma = not self.is_gray and index in (1, 2)
            expected = self.color.chroma_shape(self.height, self.width) if chroma else (self.height, self.width)
            if plane.shape != expected:
                raise UsageError(f"Expected plane {index} of shape {expected}, got {plane.shape}")
            if plane.dtype != self.color.dtype:
                raise UsageError(f"Expected {self.color.dtype} samples for {self.color.depth} bits, got {plane.dtype}")

    @property
    def height(self) -> int:
        """Rows of the frame."""
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        """Columns of the frame."""
        return int(self.planes[0].shape[1])

    @property
    def is_gray(self) -> bool:
        """Whether there is no color: one plane, or two with alpha."""
        return len(self.planes) <= 2

    @property
    def has_alpha(self) -> bool:
        """Whether the last plane is alpha."""
        return len(self.planes) in (2, 4)

    @property
    def transposed(self) -> bool:
        """Whether the display matrix (ISO/IEC 14496-12, section 8.3.2) turns rows into columns."""
        matrix = self.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return False
        a, b = struct.unpack_from("=2i", matrix)
        return bool(abs(b) > abs(a))

    @property
    def geometry(self) -> tuple[Any, ...]:
        """What frames of a batch must have in common: the planes' shapes, color, pixel shape and transposition."""
        return (
            tuple(plane.shape for plane in self.planes),
            self.color,
            self.sample_aspect_ratio,
            self.transposed,
        )

    def check_numbers(self) -> None:
        """Raise UsageError if a sample is NaN or infinite: a network would spread it over its receptive field."""
        import numpy as np

        for index, plane in enumerate(self.planes if self.color.floating else ()):
            if not np.isfinite(plane).all():
                raise UsageError(f"Expected numbers for samples, got NaN or infinity in plane {index} of {self}")

    def repeats(self, other: Frame) -> bool:
        """Whether all samples equal those of ``other``, and `geometry` is the same."""
        import numpy as np

        same = self.geometry == other.geometry
        return same and all(np.array_equal(one, two) for one, two in zip(self.planes, other.planes, strict=True))

    def __getstate__(self) -> list[Any]:
        """For pickle: of planes, rows and columns that lie on one another (`numpy.broadcast_to`) are kept once."""
        kept = [
            (plane[tuple(slice(1 if step == 0 else None) for step in plane.strides)], plane.shape)
            for plane in self.planes
        ]
        return [kept, *(getattr(self, each.name) for each in fields(self)[1:])]

    def __setstate__(self, state: list[Any]) -> None:
        import numpy as np

        planes = tuple(one if one.shape == shape else np.broadcast_to(one, shape) for one, shape in state[0])
        for each, value in zip(fields(self), [planes, *state[1:]], strict=True):
            object.__setattr__(self, each.name, value)

    def __repr__(self) -> str:
        kind = ("gray", "gray+alpha", "rgb" if self.color.matrix is Matrix.RGB else "yuv", "+alpha")[
            len(self.planes) - 1
        ]
        depth = f"{self.color.depth}-bit{' float' if self.color.floating else ''}"
        return f"Frame({self.width}×{self.height} {kind} {depth}, pts={self.pts}·{self.time_base}s)"


def plain(what: str, array: Samples) -> Samples:
    """The array itself, or the one behind it if it is of a class of its own, as `numpy.memmap` and `numpy.matrix` are.

    Raises:
        UsageError: it is masked: which samples would the masked ones be?
    """
    import numpy as np

    if type(array) is np.ndarray:
        return array
    if isinstance(array, np.ma.MaskedArray):
        raise UsageError(f"Expected {what} without a mask, got a masked array: its method filled() makes one")
    return np.asarray(array)


def _samples(index: int, plane: Any) -> Samples:
    """The plane as an array in the machine's byte order."""
    import numpy as np

    try:
        samples = plain(f"plane {index}", plane) if isinstance(plane, np.ndarray) else plane.detach().numpy()
    except (AttributeError, TypeError, RuntimeError) as error:  # no tensor, or one on a GPU, or of a type of its own
        kind = f"{plane.dtype} on {plane.device}" if hasattr(plane, "device") else type(plane).__name__
        raise UsageError(f"Expected plane {index} as a NumPy array or a tensor on the CPU, got {kind}") from error
    if samples.ndim != 2:
        raise UsageError(f"Expected plane {index} of two dimensions, got {samples.shape}")
    return samples if samples.dtype.isnative else samples.astype(samples.dtype.newbyteorder("="))
