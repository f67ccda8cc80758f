"""Streams copied packet for packet: asks the output's muxer which of them it can store, and with which tags."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import av
from av.bitstream import BitStreamFilterContext
from av.error import FFmpegError
from av.stream import Disposition

from .ffmpeg_log import captured
from .program import SERVICE_TAGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from av.container import InputContainer, OutputContainer

    from .input_file import InputFile

MP4_KINDS = ("ipod", "mov", "mp4")
# For each type, a codec that PyAV accepts for all containers that can store more codecs than PyAV lists.
_HOLDERS = {"audio": "aac", "video": "mpeg4", "subtitle": "subrip"}
# Encoders for containers that cannot store MPEG-4.
_FILMS = {"flv": "libx264", "mxf": "mpeg2video"}
# What muxers log when they write something that no reader knows.
_DOUBT = re.compile(r"may not be recognized|may be unplayable")
# Decoders that need the size of a packet or the bits of a sample, which NUT does not store.
_SIZED = re.compile(r"wma|g726|adpcm_g726|cook|sipr|atrac3")
_NO_TAG = "\0\0\0\0"
# Bits per sample of codecs whose bit rate is misstated in every file that FFmpeg has encoded; AVI's muxer counts by it.
_BITS = {"adpcm_yamaha": 4}
_STATING_AAC = ("flv", "matroska", "mov")  # in other formats, each packet states it
# Tags that the muxer writes itself, or that apply to the old file only.
_STALE_TAGS = re.compile(
    r"major_brand|minor_version|compatible_brands|encoder|software|alpha_mode|(_statistics_|bps|duration|number_of_|source_id).*",
    re.IGNORECASE,
)
# Tags that muxers and cameras write by themselves in every file: their loss is not reported.
_TRIVIAL_TAGS = {"handler_name", "vendor_id"}
_NO_TIME = "1970-01-01T00:00:00.000000Z"  # MP4's time if the clock was not set
# Languages with two codes: the one that FFmpeg has no QuickTime number for → the one that it has.
_QUICKTIME_LANGUAGES = {
    "bod": "tib", "cze": "ces", "cym": "wel", "deu": "ger", "ell": "gre", "eus": "baq", "fas": "per",
    "fre": "fra", "hye": "arm", "isl": "ice", "kat": "geo", "mkd": "mac", "msa": "may", "mya": "bur",
    "nld": "dut", "nob": "nor", "rum": "ron", "slo": "slk", "sqi": "alb", "swe": "sve", "zho": "chi",
}  # fmt: skip
_ISO_LANGUAGES = re.compile(r"\w{3}(,\w{3})*")  # in a transport stream: ISO 639-2 (ISO/IEC 13818-1, section 2.6.18)
_OF_FILES = {"creation_time", "filename", "mimetype"}  # tags of files, and of streams that are files within a file
# Dispositions that describe the frames, and not the use of the stream.
_OF_FRAMES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_ONE_FLAG = Disposition.dub | Disposition.original  # of Matroska, which therefore has none of a stream that is both
_SAID_TWICE = {
    Disposition.hearing_impaired: Disposition.captions,
    Disposition.visual_impaired: Disposition.descriptions,
}
_IMPAIRED = Disposition.hearing_impaired | Disposition.visual_impaired
_USES = Disposition.dub | Disposition.original | Disposition.comment
# Dispositions that containers store, for those where a header in memory does not show them. Transport streams store
# them in tables (ETSI EN 300 468, section 6.2.39), which are written with the first packet.
_DISPOSITIONS = {
    "matroska": Disposition.default | Disposition.forced | _USES | _IMPAIRED,
    "mpegts": _IMPAIRED | Disposition.clean_effects,
    "nut": Disposition.default | _USES | Disposition.lyrics | Disposition.karaoke,
    "webm": Disposition.default | Disposition.forced,
}
_3D = "stereo_mode"  # Matroska's tag, which FFmpeg also reads as side data
_NOT_IN_WEBM = {"anaglyph_green_magenta", "block_lr", "block_rl"}  # values of the tag with which WebM's muxer fails
_HOLDS_ALL_TAGS = ("matroska", "nut", "webm")
_ITUNES_TAGS = {
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
    "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "episode_sort", "season_number",
    "media_type", "hd_video", "gapless_playback", "compilation", "track", "disc", "creation_time",
}  # fmt: skip


class MemoryFile(io.BytesIO):
    """A file in memory with a name: some muxers check its suffix."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@contextmanager
def trial(output: OutputContainer, **options: str) -> Iterator[OutputContainer]:
    """Open a container of the same kind, name and options in memory, to try what its muxer does."""
    options = {**output.container_options, **options}
    attempt = av.open(MemoryFile(output.name), "w", format=output.format.name, container_options=options)
    try:
        yield attempt
    finally:
        with suppress(FFmpegError):  # MXF cannot write its trailer without frames
            attempt.close()


def add_copy(output: OutputContainer, stream: Any) -> Any:
    """Add a stream to ``output`` with the codec, the parameters and the time base of ``stream``.

    PyAV accepts the codecs that FFmpeg lists for a container. Matroska can also store any codec with a tag in Windows'
    lists (WMA, ADPCM, A-law, …), and a codec without a decoder can be copied, too. Such a stream is added with a codec
    that PyAV accepts, and then gets the parameters of ``stream``; the muxer may refuse it when it writes the header.

    Raises:
        ValueError: ``output`` cannot store streams of this type.
    """
    channels = _usual_layout(output, stream)
    try:
        added: Any = output.add_stream_from_template(stream, opaque=True)
    except ValueError:
        holder = _HOLDERS.get(stream.type)
        if holder is None:
            raise
        with trial(output) as place:
            added = output.add_stream_from_template(place.add_stream(holder), opaque=True)
        BitStreamFilterContext("null", stream, added)
        added.codec_context.codec_tag = _NO_TAG  # it is another container's; the muxer finds its own
        added.time_base = stream.time_base
    if channels:
        added.codec_context.layout = channels
    context = stream.codec_context
    bits = _BITS.get(context.name) if stream.type == "audio" and context is not None else None
    if bits:
        added.codec_context.bit_rate = bits * context.sample_rate * context.layout.nb_channels
    return added


def _usual_layout(output: OutputContainer, stream: Any) -> str | None:
    """Return FFmpeg's usual layout for PCM's number of channels; None if ``output`` needs none, or the layout is known.

    Matroska does not store which channels they are. MP4 must, in its index, which is written last.

    Raises:
        ValueError: there is no usual layout for this number of channels.
    """
    if stream.type != "audio" or output.format.name not in ("ipod", "mp4"):
        return None
    context = stream.codec_context
    if context is None or not context.name.startswith("pcm_") or not context.layout.name.endswith(" channels"):
        return None
    return str(av.AudioLayout(f"{context.layout.nb_channels}c").name)


def refusal(output: OutputContainer, stream: Any, others: Sequence[Any] = ()) -> str | None:
    """Why ``output`` does not take this stream; None if it does.

    Args:
        output: The output, before its header is written.
        stream: A stream of the input.
        others: Streams of the input that are added to ``output`` in any case.
    """
    kind = output.format.name
    if stream.disposition & Disposition.attached_pic and kind not in ("matroska", "mp4", "ipod"):
        return f"{kind} has no place for a cover"
    if stream.type == "data" and kind not in (*MP4_KINDS, "mpegts"):
        return f"{kind} cannot hold it"
    if stream.type == "attachment" and kind != "matroska":  # a transport stream would take it, but drop its bytes
        return f"{kind} cannot hold it"
    alone = True
    with captured() as said:
        try:
            with trial(output) as attempt:
                added = add_copy(attempt, stream)
                attempt.start_encoding()
                if kind == "mpegts":  # its tables are written with the first packet
                    packet = av.Packet(bytes(16))
                    packet.stream, packet.pts, packet.dts = added, 0, 0
                    with suppress(FFmpegError):
                        attempt.mux_one(packet)
        except (FFmpegError, ValueError):
            alone = False
    together = _holds_all(output, [*others, stream]) if others else alone
    if not alone and not together:  # MXF stores sound only together with frames
        known = stream.codec_context is not None or stream.type in ("attachment", "data")
        return f"{kind} cannot hold it" if known else f"FFmpeg has no decoder for it, and {kind} does not take it so"
    if not together and _holds_all(output, others):
        return f"{kind} cannot hold it beside the other streams"
    doubted = any(_DOUBT.search(line) for _, _, line in said) or _is_unreadable(output, stream)
    if stream.container.format.name != kind and doubted:
        return f"{kind} could hold it, but players could not read it there"
    return None


def _is_unreadable(output: OutputContainer, stream: Any) -> bool:
    """Whether the muxer would write, without a warning, sound that cannot be decoded from the file."""
    if stream.type != "audio" or stream.codec_context is None:
        return False
    return output.format.name == "nut" and bool(_SIZED.match(stream.codec_context.name))


def lacks_parameters(stream: Any) -> bool:
    """Whether the parameters to decode sound are unknown: FFmpeg found no frame, or the stream is only damage."""
    if stream.type == "audio" and not stream.codec_context.sample_rate:
        return True
    aac = stream.codec_context.name == "aac" and not stream.codec_context.extradata
    return aac and stream.container.format.name.startswith(_STATING_AAC)


def _holds_all(output: OutputContainer, streams: Sequence[Any]) -> bool:
    """Whether the muxer can write a header for these streams together."""
    try:
        with captured(), trial(output) as attempt:
            for stream in streams:
                add_copy(attempt, stream)
            attempt.start_encoding()
    except (FFmpegError, ValueError):
        return False
    return True


def kept_tags(tags: Mapping[str, str], kind: str = "") -> dict[str, str]:
    """Select the tags that also apply to the new file, in the form that a container of ``kind`` takes."""
    kept = {key: value for key, value in tags.items() if not _STALE_TAGS.fullmatch(key)}
    if kind in (*MP4_KINDS, "matroska", "webm") and "name" in kept:  # FFmpeg's name of an MP4 track's title
        kept.setdefault("title", kept.pop("name"))
    if kind == "webm" and kept.get(_3D) in _NOT_IN_WEBM:
        del kept[_3D]
    if kind == "mov" and "language" in kept:
        kept["language"] = _QUICKTIME_LANGUAGES.get(kept["language"], kept["language"])
    return kept


def custom_tags(tags: Mapping[str, str]) -> list[str]:
    """Names of a file's tags that are not on iTunes' list, the only ones that MP4 stores without an option."""
    return sorted(key for key in kept_tags(tags) if key.partition("-")[0].lower() not in _ITUNES_TAGS)


def told_tags(tags: Mapping[str, str]) -> str | None:
    """Describe the tags of a file whose loss is to be reported; None if there are none."""
    missing = _missing(tags, {})
    return _named(missing) if missing else None


def all_but_images(source: InputFile) -> list[str]:
    """Describe all that an input has besides its frames."""
    told = {_3D: None, "title": "Color"}  # the first is side data of the frames, too; libavif calls all images so
    tags = {key: value for key, value in source.tags.items() if told.get(key, "") not in (None, value)}
    film = told_tags(tags)
    found = (
        source.companions,
        told_tags(source.file_tags),
        f"{film} of video stream {source.stream_index}" if film else None,
        "the chapters" if source.has_chapters else None,
    )
    return [what for what in found if what]


def unheld(output: OutputContainer, streams: Sequence[Any]) -> list[str]:
    """Describe the tags, dispositions and chapters that the file would lose, found by writing a header in memory.

    Args:
        output: The output with all its tags and chapters, before its header is written.
        streams: The streams of the input that are written to it.
    """
    kind = output.format.name
    holds_all = kind in _HOLDS_ALL_TAGS
    held, placed = (None, list(streams)) if holds_all else _held(output, streams)
    lost = []
    untold = {name: "" for name in SERVICE_TAGS if kind == "mpegts"}
    if not holds_all and (missing := _missing(output.metadata, held.metadata if held else untold)):
        lost.append(_named(missing))
    for index, stream in enumerate(placed):
        told = _OF_FILES | {_3D} if stream.type == "video" and _is_3d(stream) else _OF_FILES
        tags = {key: value for key, value in stream.metadata.items() if key.lower() not in told}
        if held and index < len(held.streams):
            kept: Mapping[str, str] = held.streams[index].metadata
        elif held:  # FLV's streams are found by their first packets
            kept = {}
        else:
            kept = {"language": _untold_language(tags.get("language", ""), stream.type, kind)}
        if not holds_all and (missing := _missing(tags, kept)):
            lost.append(f"{_named(missing)} of {stream.type} stream {stream.index}")
        if held and index < len(held.streams):
            kept_marks = Disposition(held.streams[index].disposition)
        else:
            kept_marks = _DISPOSITIONS.get(kind, Disposition(0))
            if kind == "mpegts" and stream.type == "video":  # it stores those of sound and subtitles only
                kept_marks = Disposition(0)
        if kind in ("matroska", "webm") and Disposition(stream.disposition) & _ONE_FLAG == _ONE_FLAG:
            kept_marks &= ~_ONE_FLAG
        first = all(other.type != stream.type for other in placed[:index])  # players choose it by default
        marks = (
            Disposition(stream.disposition) & ~kept_marks & ~(_OF_FRAMES | Disposition.default if first else _OF_FRAMES)
        )
        for one, other in _SAID_TWICE.items():  # FFmpeg sets both for one entry in the file
            if stream.disposition & one and stream.disposition & other:
                marks &= ~other
        if marks:
            lost.append(
                f"the disposition {'+'.join(str(mark.name) for mark in marks)} of {stream.type} stream {stream.index}"
            )
    if output.chapters() and not holds_all and not (held and held.chapters()):
        lost.append("the chapters")
    if held is not None:
        held.close()
    return lost


def _is_3d(stream: Any) -> bool:
    return "stereo_3d" in stream.codec_context.coded_side_data


def _untold_language(language: str, kind: str, container: str) -> str:
    """The language that a stream keeps, for containers where a header in memory does not show it."""
    if container != "mpegts" or (kind in ("audio", "subtitle") and _ISO_LANGUAGES.fullmatch(language)):
        return language
    return ""


def _held(output: OutputContainer, streams: Sequence[Any]) -> tuple[InputContainer | None, list[Any]]:
    """Write the header of ``output`` in memory and open it; also return the streams in it. None if it is unreadable."""
    options = {}
    if output.format.name in MP4_KINDS:  # makes the muxer write the header before the packets
        options["movflags"] = f"{output.container_options.get('movflags', '')}+empty_moov+default_base_moof"
    placed = []
    try:
        with trial(output, **options) as attempt:
            attempt.metadata.update(output.metadata)
            attempt.set_chapters(output.chapters())
            for stream in streams:
                with suppress(ValueError):  # the output cannot store it
                    added = _stand_in(attempt, stream)
                    added.metadata.update(kept_tags(stream.metadata, output.format.name))
                    added.disposition = Disposition(stream.disposition)
                    placed.append(stream)
            attempt.start_encoding()
            memory = attempt.file.file
            attempt.close()
        return av.open(io.BytesIO(memory.getvalue()), "r"), placed
    except FFmpegError:
        # MP4 can write the headers of some codecs (AC-3) only after their first packet: check the others.
        early = [stream for stream in streams if _held(output, [stream])[0]] if len(streams) > 1 and options else []
        return _held(output, early) if 0 < len(early) < len(streams) else (None, list(streams))


def _stand_in(output: OutputContainer, stream: Any) -> Any:
    """Add a stand-in to ``output`` for a stream that changes its codec: an encoded film, or converted subtitles.

    Raises:
        ValueError: ``output`` cannot store streams of this type.
    """
    if stream.type == "video" and not stream.disposition & _OF_FRAMES:
        rate = stream.average_rate  # the rate of time codes
        if rate is None or max(rate.numerator, rate.denominator) >= 1 << 16:  # MPEG-4 has 16 bits for each
            rate = 25
        with suppress(ValueError):
            film: Any = output.add_stream(_FILMS.get(output.format.name, "mpeg4"), rate=rate)
            film.width, film.height, film.pix_fmt = 64, 64, "yuv420p"
            return film
    try:
        return add_copy(output, stream)
    except ValueError:
        if stream.type != "subtitle":
            raise
        with trial(output) as place:
            return output.add_stream_from_template(place.add_stream("mov_text"), opaque=True)


def _missing(tags: Mapping[str, str], held: Mapping[str, str]) -> list[str]:
    """Names of tags that ``held`` has neither by name nor by value; languages are compared by value."""
    names, values = {key.lower(): value for key, value in held.items()}, set(held.values())
    missing = []
    for key, value in kept_tags(tags).items():
        name = key.lower()
        if name == "language":
            other_form = len(value) == len(names.get(name, "")) == 3  # deu and ger are the same
            if value not in ("und", names.get(name)) and not other_form:
                missing.append(f"{key}={value}")
        elif name not in _TRIVIAL_TAGS and name not in names and value not in values and value != _NO_TIME:
            missing.append(key)
    return missing


def _named(tags: Sequence[str]) -> str:
    return f"the tag{'s' * (len(tags) > 1)} {', '.join(tags)}"
