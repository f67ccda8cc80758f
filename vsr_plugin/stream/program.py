"""`read_programs`: programs of a transport stream, which PyAV gives only in FFmpeg's description of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av.logging

from .ffmpeg_log import captured

if TYPE_CHECKING:
    from av.container import InputContainer

SERVICE_TAGS = ("service_name", "service_provider")  # of DVB's table of services (ETSI EN 300 468, section 6.2.33)
_LINE = re.compile(r"  (?:(?:  )+(service_name|service_provider) *: (.*)|Stream #0:(\d+).*|(?:No )?(Program\b).*)")
_FROM_THE_MUXER = {"Service01", "FFmpeg"}  # what FFmpeg writes where nobody named them


@dataclass
class Program:
    """One program: the tags of its service, and the indices of its streams."""

    tags: dict[str, str] = field(default_factory=dict)
    streams: set[int] = field(default_factory=set)


def read_programs(container: InputContainer) -> list[Program]:
    """All programs; empty where the container is no transport stream."""
    programs: list[Program] = []
    if container.format.name != "mpegts":
        return programs
    with captured(av.logging.INFO):
        lines = container.dumps_format().splitlines()
    for name, value, stream, begins in (match.groups() for match in map(_LINE.fullmatch, lines) if match):
        if begins:
            programs.append(Program())
        elif programs and stream:
            programs[-1].streams.add(int(stream))
        elif programs and name and value not in _FROM_THE_MUXER:
            programs[-1].tags[name] = value
    return programs
