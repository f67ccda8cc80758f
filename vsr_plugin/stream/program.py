"""Facts that PyAV provides only in FFmpeg's description of a file: programs of a transport stream, late streams."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import av.logging

from .ffmpeg_log import captured

if TYPE_CHECKING:
    from av.container import InputContainer

SERVICE_TAGS = ("service_name", "service_provider")  # from DVB's service descriptor (ETSI EN 300 468, section 6.2.33)
_LINE = re.compile(r"  (?:(?:  )+(service_name|service_provider) *: (.*)|Stream #0:(\d+).*|(?:No )?(Program\b).*)")
_STREAM = re.compile(r" +Stream #0:(\d+)\S*: (\w+): (\w+).*")
_FROM_THE_MUXER = {"Service01", "FFmpeg"}  # FFmpeg's defaults for unnamed services


@dataclass
class Program:
    """One program: the tags of its service, and the indices of its streams."""

    tags: dict[str, str] = field(default_factory=dict)
    streams: set[int] = field(default_factory=set)


def read_programs(container: InputContainer) -> list[Program]:
    """Return all programs; empty if the container is not a transport stream."""
    programs: list[Program] = []
    if container.format.name != "mpegts":
        return programs
    for name, value, stream, begins in (match.groups() for match in map(_LINE.fullmatch, _lines(container)) if match):
        if begins:
            programs.append(Program())
        elif programs and stream:
            programs[-1].streams.add(int(stream))
        elif programs and name and value not in _FROM_THE_MUXER:
            programs[-1].tags[name] = value
    return programs


def late_streams(container: InputContainer) -> list[str]:
    """Describe the streams that began after the file was opened; their packets are not read."""
    found = [match.groups() for match in map(_STREAM.fullmatch, _lines(container)) if match]
    return [
        f"{kind.lower()} stream {index} ({codec})"
        for index, kind, codec in found
        if int(index) >= len(container.streams)
    ]


def _lines(container: InputContainer) -> list[str]:
    with captured(av.logging.INFO):
        return container.dumps_format().splitlines()
