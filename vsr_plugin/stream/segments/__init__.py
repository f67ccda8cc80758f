"""A film in segments: what is done is kept, and the rest may be done by others.

    plan ─▶ segments ─ work ─▶ parts ─ join ─▶ the file

A segment is a pure function of the input, the settings and its bounds. Its part lies in a folder beside the output with
a manifest that says what it belongs to. What is not in the parts (sound, subtitles, chapters, …) is copied once, when
they are joined, by the same writer that writes a film in one go.

| module | what it is |
|---|---|
| `plan` | where a film is cut |
| `access` | which key frames decoding may begin at |
| `section` | the frames of some segments, and the packets of the other streams |
| `original` | whether the input is still the one that was planned |
| `work` | segments into parts |
| `parts` | encoded packets on the disk |
| `manifest` | the folder of the parts, and whether they belong to this film |
| `join` | parts into the file |
| `executor` | who makes the parts: this process, |
| `cluster`, `dispatch`, `worker`, `messages` | or others, through Ray |
| `ship` | the input, for workers on machines that do not see it |
| `making` | the parts of one film while they are made, and whether they fit together |
| `job` | all of it |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from ...frames import Frame
    from ..encoding import Encoding
    from ..first_frame import FirstFrame
    from ..selection import Selection


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive frames of a film. Times are ticks of the file's clock.

    Attributes:
        number: From 0.
        first: Timestamp of the first frame.
        end: Timestamp of the first frame behind it; None for the end of the film.
        entry: Timestamp of the key frame where decoding begins; None for the beginning of the file.
        frames: How many there should be.
    """

    number: int
    first: int
    end: int | None
    entry: int | None
    frames: int


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first frame of a film decides for all others.

    Attributes:
        frame: As decoded, without its samples.
        first: What else it decides.
    """

    frame: Frame
    first: FirstFrame


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a film is cut.

    Attributes:
        segments: At least one.
        whole: Why there is only one, in words; None if there are more.
        time_base: Of all times in ticks, in seconds.
        shift: Ticks between the file's clock and the output's.
        seek: Whether a segment can be sought; else the file is read from its beginning.
        every_stream: Whether the packets of all streams tell where the clock of the file jumps.
        opening: What the first frame decides.
    """

    segments: tuple[Segment, ...]
    whole: str | None
    time_base: Fraction
    shift: int
    seek: bool
    every_stream: bool
    opening: Opening


@dataclass(frozen=True, slots=True)
class Film:
    """All that a segment is made of, beside the network.

    Attributes:
        path: Of the input.
        suffix: Of the output, such as ``.mkv``.
        selection: Which frames, and how they are decoded.
        encoding: How to encode.
        strict: Refuse damaged input, and what would drop something.
        plan: Where it is cut.
        identity: What tells the input from another, as it was when the film was planned.
        job: What its parts belong to, a checksum: parts of two jobs may be made at the same time in one folder, if
            workers of a command that was killed have not noticed yet.
    """

    path: str
    suffix: str
    selection: Selection
    encoding: Encoding
    strict: bool
    plan: Plan
    identity: Mapping[str, Any]
    job: str
