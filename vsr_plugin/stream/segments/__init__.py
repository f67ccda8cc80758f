"""A film in segments: finished ones are kept, and other processes may make the rest.

    plan ─▶ segments ─ work ─▶ parts ─ join ─▶ the file

A segment is a pure function of the input, the settings and its bounds. Its part is stored in a folder next to the
output, with a manifest that identifies its film and settings. Everything else (sound, subtitles, chapters, …) is copied
once, when the parts are joined, by the same writer that writes a film in one go.

| module | what it does |
|---|---|
| `plan` | decides where a film is cut |
| `access` | finds the key frames at which decoding may begin |
| `section` | reads the frames of some segments, and the packets of the other streams |
| `original` | checks that the input has not changed since it was planned |
| `work` | makes parts from segments |
| `parts` | stores encoded packets on the disk |
| `manifest` | manages the folder of the parts, and checks that they belong to this film |
| `join` | joins the parts into the file |
| `executor` | makes the parts in this process, |
| `cluster`, `dispatch`, `worker`, `messages` | or in others, through Ray |
| `ship` | sends the input to workers on machines that cannot read it |
| `making` | manages the parts of one film while they are made, and checks that they fit together |
| `job` | does all of it |
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
        number: Number of the segment, from 0.
        first: Timestamp of the first frame.
        end: Timestamp of the first frame after the segment; None for the end of the film.
        entry: Timestamp of the key frame where decoding begins; None for the beginning of the file.
        frames: Expected number of frames.
    """

    number: int
    first: int
    end: int | None
    entry: int | None
    frames: int


@dataclass(frozen=True, slots=True)
class Opening:
    """Properties of the first frame that apply to the whole film.

    Attributes:
        frame: The decoded frame, without its samples.
        first: Its other properties.
    """

    frame: Frame
    first: FirstFrame


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a film is cut.

    Attributes:
        segments: One or more segments.
        whole: Why there is only one segment; None if there are more.
        time_base: Time base of all times in ticks, in seconds.
        shift: Ticks between the file's clock and the output's.
        seek: Whether reading can seek to a segment; otherwise, the file is read from its beginning.
        every_stream: Whether packets of all streams are needed to find where the clock of the file jumps.
        opening: Properties of the first frame.
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
    """Everything that determines a segment, except the network.

    Attributes:
        path: Path of the input.
        suffix: Suffix of the output, such as ``.mkv``.
        selection: Which frames to take, and how to decode them.
        encoding: How to encode.
        strict: Refuse damaged input, and outputs that would lose something.
        plan: Where the film is cut.
        identity: The input's `identity` when the film was planned.
        job: Checksum that identifies the job of the parts. Workers of a killed command may still write parts of another
            job into the same folder.
    """

    path: str
    suffix: str
    selection: Selection
    encoding: Encoding
    strict: bool
    plan: Plan
    identity: Mapping[str, Any]
    job: str
