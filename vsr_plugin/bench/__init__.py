"""How fast this machine runs a model, next to the machine's own limit and to what people use instead.

`Settings` say what to measure; `inference` measures the network and the machine's ceiling, `job` whole files, `peers`
other programs at the same job; `report` puts all of it together, and `chart` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from ..execution import Execution

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Absent", "Ceiling", "Settings", "Timing"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure.

    Attributes:
        model: Name.
        scale: Whole number.
        width: Width of the input, in pixels; even, because of 4:2:0.
        height: ″
        frames: Length of the clip.
        runs: Number of runs of each measurement.
        weights: A file in place of the shipped weights, as `load_model` takes it.
        execution: As for `Upscaler`.
    """

    model: str = "espcn"
    scale: int = 3
    width: int = 480
    height: int = 270
    frames: int = 60
    runs: int = 5
    weights: Path | None = None
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a frame took, in each of several runs.

    Attributes:
        name: What was measured.
        seconds: Seconds per frame, one for each run.
        flops: Floating-point operations a frame needs; 0 if none are counted.
        bytes: Bytes of samples read and written per frame; 0 if not counted.
        codec: The encoder at the end; empty if nothing is encoded.
        note: What else must be known to read the figure.
    """

    name: str
    seconds: tuple[float, ...]
    flops: int = 0
    bytes: int = 0
    codec: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        """The median of the runs, in seconds."""
        return median(self.seconds)

    @property
    def fps(self) -> float:
        """Frames per second of the median run."""
        return 1 / self.median

    @property
    def gflops(self) -> float | None:
        """10⁹ operations per second of the median run."""
        return self.flops / self.median / 1e9 if self.flops else None

    @property
    def gigabytes(self) -> float | None:
        """10⁹ bytes per second of the median run."""
        return self.bytes / self.median / 1e9 if self.bytes else None


@dataclass(frozen=True, slots=True)
class Absent:
    """Something that could not be measured here.

    Attributes:
        name: What was not measured.
        why: The reason, in a few words.
        remedy: The command that fixes it; empty if there is none.
    """

    name: str
    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that this machine reaches, measured in the same run.

    Attributes:
        gflops: 10⁹ operations per second of a large matrix product in the network's precision.
        gigabytes: 10⁹ bytes per second read and written by a large copy.
    """

    gflops: float
    gigabytes: float
