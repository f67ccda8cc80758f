"""`make_plan`: decides where a film is cut."""

from __future__ import annotations

import math
from bisect import bisect_left
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

import numpy as np

from ..color_headers import Mpeg2
from ..damage import Damage
from ..decode import Source
from ..input import has_no_clock, input_name
from ..input_file import InputFile
from ..selection import Selection
from ..silent_colors import header_reader
from . import Opening, Plan, Segment
from .access import KeyFrame, is_random_access, key_frames

if TYPE_CHECKING:
    from ...frames import Frame
    from ...sizes import Target


def make_plan(path: str, selection: Selection, length: Fraction, *, strict: bool = False) -> Plan:
    """Read a film once, decoding only its first frame, and decide where to cut it.

    Args:
        path: Path of a file that can be read twice.
        selection: Which frames to take, and how to decode them.
        length: Length of a segment in seconds, as near as key frames allow.
        strict: Raise if a packet is damaged.

    Raises:
        InputError: the file is not a film, or there is no frame in the selected part.
        DamagedInputError: with ``strict``, a packet is damaged.
    """
    with closing(Source(path, selection, strict=strict)) as lead:
        first = next(lead)
        shift = int(lead.timeline.shift / lead.time_base)
        opening = Opening(without_samples(first), lead.first)
        end = lead.timeline.end
    begin = first.pts + shift
    stop = None if end is None else math.ceil(end / first.time_base)
    found = _scan(path, selection, strict=strict, stop=stop)
    if selection.frames is not None and not found.obstacle:
        last = bisect_left(found.shown, begin) + selection.frames
        counted = found.shown[last] if last < len(found.shown) else None
        stop = counted if stop is None else stop if counted is None else min(counted, stop)
    whole = found.obstacle
    if selection.deinterlace and not opening.first.flagged:
        whole = whole or "its first frame is not flagged as interlaced: how the others are read depends on all before"
    if found.jumps and selection.start is not None:
        whole = whole or "its clock jumps"
    keys = found.keys
    last_time = stop if stop is not None else found.shown[-1] if found.shown else begin
    cuts = [] if whole else _cuts(keys, begin, last_time, length / first.time_base)
    if not cuts and not whole:
        short = (last_time - begin) * first.time_base <= length * 3 / 2
        part = (selection.start, selection.duration, selection.frames) != (None, None, None)
        taken = "what is taken of it" if part else "it"
        whole = f"{taken} {'is too short for two segments' if short else 'has no key frame to cut it at'}"
    entries = [None, *(_entry(keys, at, deinterlace=selection.deinterlace) for at in cuts)]
    if selection.start is not None and (before := [at for at, key in enumerate(keys) if key.pts <= begin]):
        entries[0] = _entry(keys, before[-1], deinterlace=selection.deinterlace)
    firsts = [begin, *(keys[at].pts for at in cuts)]
    ends = [*firsts[1:], stop]
    places = [bisect_left(found.shown, time) for time in firsts]
    places.append(len(found.shown) if stop is None else bisect_left(found.shown, stop))
    return Plan(
        segments=tuple(
            Segment(number, firsts[number], ends[number], entries[number], places[number + 1] - places[number])
            for number in range(len(firsts))
        ),
        whole=whole,
        time_base=first.time_base,
        shift=shift,
        seek=not found.jumps,
        every_stream=found.every_stream,
        opening=opening,
    )


def without_samples(frame: Frame, target: Target | None = None) -> Frame:
    """Return the frame, enlarged if ``target`` is given, without memory for its samples: all are one element."""
    height, width = frame.height, frame.width
    if target is not None:
        height, width = target.height, target.width
        frame = replace(frame, sample_aspect_ratio=target.ratio)
    chroma = frame.color.chroma_shape(height, width)
    shapes = [
        chroma if index in (1, 2) and not frame.is_gray else (height, width) for index in range(len(frame.planes))
    ]
    one = np.zeros(1, frame.color.dtype)
    return replace(frame, planes=tuple(np.broadcast_to(one, shape) for shape in shapes))


@dataclass(slots=True)
class _Found:
    """Result of a scan.

    Attributes:
        shown: Timestamps of the frames, in display order.
        keys: Key frames, in the order of the file.
        jumps: How often the clock jumps.
        every_stream: Whether packets of all streams are needed to find jumps.
        obstacle: Why the film cannot be cut; None if it can.
    """

    shown: list[int] = field(default_factory=list)
    keys: list[KeyFrame] = field(default_factory=list)
    jumps: int = 0
    every_stream: bool = False
    obstacle: str | None = None


def _scan(path: str, selection: Selection, *, strict: bool, stop: int | None) -> _Found:
    found = _Found()
    damage = Damage(input_name(path), strict=strict, quiet=True)
    file = InputFile(path, Selection(frame_rate=selection.frame_rate), damage, every_stream=True)
    times: list[int] = []
    access: dict[int, bool] = {}
    with closing(file), closing(file.new_tally()) as tally:
        codec, header = file.stream.codec_context.name, file.stream.codec_context.extradata
        reader = header_reader(file, file.stream.codec_context)
        said = set()
        if has_no_clock(file.container) and "image2" not in file.container.format.name:
            found.obstacle = "nothing in it says when a frame is shown"
        for packet in file.packets(tally):
            if not packet.size:
                continue
            if packet.pts is None:
                found.obstacle = "not all its packets say when they are shown"
                break
            if packet.is_keyframe:
                if stop is not None and packet.pts > stop and min(times, default=0) < stop:
                    break
                access[len(times)] = is_random_access(bytes(packet), codec, header)
            if isinstance(reader, Mpeg2):  # its headers mean what those before them say
                said.add(reader.read(bytes(packet)))
            times.append(packet.pts)
            if not packet.is_discard:
                found.shown.append(packet.pts)
        found.jumps = file.timeline.jumps
        found.every_stream = file.timeline.may_leap
        if file.time_base != Fraction(file.stream.time_base.numerator, file.stream.time_base.denominator):
            found.obstacle = "its frames are closer than its clock can tell"
    if len(said) > 1:
        found.obstacle = "some of its headers do not state its colors"
    found.shown.sort()
    if not found.obstacle and len(set(times)) < len(times):
        found.obstacle = "several of its packets say that they are shown at one time"
    found.keys = key_frames(times, access)
    return found


def _cuts(keys: list[KeyFrame], begin: int, end: int, length: Fraction) -> list[int]:
    """Indices in ``keys`` of the first frames of all segments except the first.

    A segment has 3/4 to 3/2 of the length if the key frames allow it, and the last one at least half of it.

    Among the key frames near the intended end of a segment, one at which decoding can begin is preferred, and then one
    at a scene cut. No pixels are compared: encoders begin a GOP at a scene cut, and otherwise when a GOP reaches the
    maximum length, or, if set so, at multiples of it. Therefore, a key frame counts as a scene cut if there is none at
    the distance of the longest GOP before it.
    """
    times = sorted(key.pts for key in keys)
    usual = max((after - before for before, after in pairwise(times)), default=0)

    def is_due(at: int) -> bool:
        earlier = bisect_left(times, keys[at].pts - usual * Fraction(21, 20))
        return times[earlier] <= keys[at].pts - usual * Fraction(19, 20)

    def rank(at: int) -> tuple[bool, bool, Fraction]:
        return not keys[at].closed, is_due(at), abs(keys[at].pts - last - length)

    cuts: list[int] = []
    last = begin
    left = [at for at, key in enumerate(keys) if begin < key.pts <= end - length / 2]
    while left := [at for at in left if keys[at].pts >= last + length * 3 / 4]:
        near = list(takewhile(lambda at: keys[at].pts <= last + length * 3 / 2, left))  # noqa: B023
        cuts.append(min(near, key=rank) if near else left[0])
        last = keys[cuts[-1]].pts
    return cuts


def _entry(keys: list[KeyFrame], at: int, *, deinterlace: bool) -> int | None:
    """Where decoding begins for a segment that begins with a key frame; None for the beginning of the file.

    A deinterlacer needs the previous frame. Before a key frame that needs earlier frames, one GOP is enough: after it,
    nothing refers any more to what was missing at its beginning.
    """
    if keys[at].closed and not deinterlace:
        return keys[at].pts
    return keys[at - 1].pts if at else None
