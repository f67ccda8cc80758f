"""Films with anything in them into any container: all comes out as it went in, or just the difference is said.

Streams, tags, chapters, dispositions, side data and cropping are drawn at random. ffprobe judges streams and chapters,
PyAV tags, dispositions and what frames say, for Debian's ffprobe does not know all of them.
"""

from __future__ import annotations

import logging
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from vsr_plugin.errors import OutputError
from vsr_plugin.stream import Encoding
from vsr_plugin.stream.side_data import MasteringDisplay

from .conftest import FAST, HDR10, Media, probe, with_aperture, with_units

Enlarge = Callable[..., Path]

_PICTURE = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.4"
_X264 = "-c:v libx264 -preset ultrafast -bf 0 -x264-params aud=1:keyint=5:scenecut=0"
_BT709 = "-color_primaries bt709 -color_trc bt709 -colorspace bt709 -color_range tv"
_CAPTIONS = b"\0\0\0\1\x06\x04\x0e\xb5\x00\x31GA94\x03\x41\xff\xfc\x94\x2c\xff\x80"
_VIDEO = {
    "plain.mkv": f"{_PICTURE} {_X264} {_BT709}",
    "wide.mkv": f"{_PICTURE} -vf setsar=4/3 {_X264}",
    "hdr.mkv": f"{_PICTURE} -pix_fmt yuv420p10le -c:v libx265 -preset ultrafast -x265-params {HDR10} "
    "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc",
    "mpeg4.mkv": f"{_PICTURE} -c:v mpeg4 -q:v 3",
    "mpeg2.mkv": f"{_PICTURE} -c:v mpeg2video -q:v 3",
    "ffv1.mkv": f"{_PICTURE} -c:v ffv1 -pix_fmt yuv422p10le {_BT709}",
    "vp9.mkv": f"{_PICTURE} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1 {_BT709}",
}
_COVER = "-f lavfi -i color=red:s=32x32 -frames:v 1"
_TONE = "-f lavfi -i sine={}:r=48000:d=0.4 -ac 2"
_SOUND = {
    "aac": "-c:a aac", "mp3": "-c:a libmp3lame", "ac3": "-c:a ac3", "opus": "-c:a libopus", "flac": "-c:a flac",
    "pcm_s16le": "-c:a pcm_s16le", "mp2": "-c:a mp2", "wmav2": "-c:a wmav2",
}  # fmt: skip
# container → what ffmpeg puts into it: video, sound, subtitles
_INPUTS: dict[str, tuple[str, str, str]] = {
    "mkv": ("plain captions wide hdr mpeg4 mpeg2 ffv1 vp9", "aac mp3 ac3 opus flac pcm_s16le wmav2", "srt ass"),
    "mp4": ("plain captions wide hdr mpeg4", "aac mp3 ac3 opus flac", "mov_text"),
    "mov": ("plain captions wide hdr mpeg4", "aac mp3 ac3 pcm_s16le", "mov_text"),
    "webm": ("vp9", "opus", "webvtt"),
    "ts": ("plain captions wide hdr mpeg2", "aac mp2 ac3 opus", ""),
    "nut": ("plain captions wide mpeg4 mpeg2 ffv1", "aac mp3 ac3 opus pcm_s16le", ""),
    "avi": ("mpeg4", "mp3 ac3 pcm_s16le", ""),
    "flv": ("plain captions", "aac mp3", ""),
    "asf": ("mpeg4", "wmav2 mp3", ""),
}
_OUTPUTS = [
    ("mp4", FAST), ("mp4", FAST), ("mp4", Encoding(codec="mpeg4")), ("mov", FAST), ("mov", Encoding(codec="prores_ks")),
    ("mkv", FAST), ("mkv", FAST), ("mkv", Encoding(codec="ffv1")), ("mkv", Encoding(codec="mpeg2video")), ("ts", FAST),
    ("m2ts", FAST), ("nut", FAST), ("flv", Encoding(codec="libx264", preset="ultrafast")),
    ("avi", Encoding(codec="mpeg4")), ("asf", Encoding(codec="mpeg4")), ("y4m", Encoding()), ("png", Encoding()),
    ("webm", Encoding(codec="libvpx", options={"deadline": "realtime"})),
]  # fmt: skip
_TAGS = {"title": "A film", "artist": "Somebody", "comment": "It is short", "mood": "calm", "date": "2024-05-06"}
_MARKS = ["default", "forced", "comment", "hearing_impaired", "visual_impaired", "original"]
_CHAPTERS = ";FFMETADATA1\n" + "".join(
    f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={title}\n"
    for start, end, title in ((0, 200, "One"), (200, 400, "Two"))
)


def _ffmpeg(folder: Path, *words: str | Path) -> None:
    command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def parts(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``parts("wide.mkv")``, ``parts("aac.mka")``, …: one stream, made once."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,200\nHello\n\n2\n00:00:00,250 --> 00:00:00,400\nBye\n")
    (folder / "chapters.txt").write_text(_CHAPTERS)
    (folder / "font.ttf").write_bytes(bytes(range(256)))

    def make(name: str) -> Path:
        file = folder / name
        if file.exists():
            return file
        if name == "captions.mkv":
            bare = folder / "bare.h264"
            _ffmpeg(folder, *_VIDEO["plain.mkv"].split(), bare)
            with_units(bare, _CAPTIONS, range(10), file)
            assert "A53_CC" in _shown(file)["said"]
        elif name == "cover.png":
            _ffmpeg(folder, *_COVER.split(), name)
        elif file.suffix == ".mka":
            codec = name.removesuffix(".mka")
            tone = _TONE.format(200 + 100 * list(_SOUND).index(codec))
            _ffmpeg(folder, *f"{tone} {_SOUND[codec]}".split(), name)
        else:
            _ffmpeg(folder, *_VIDEO[name].split(), name)
        return file

    return make


Parts = Callable[[str], Path]


def _drawn(chance: random.Random, parts: Parts, folder: Path) -> Path:
    """A film of 10 frames with whatever its container holds."""
    kind = chance.choice(list(_INPUTS))
    films, sounds, subtitles = (words.split() for words in _INPUTS[kind])
    inputs: list[str | Path] = [parts(f"{chance.choice(films)}.mkv")]
    said: list[str | Path] = []
    for number in range(chance.choice([0, 1, 1, 2, 3]) if kind != "flv" else 1):
        inputs.append(parts(f"{chance.choice(sounds)}.mka"))
        said += _of_stream(chance, f"a:{number}")
    for number in range(chance.choice([0, 0, 1, 2]) if subtitles else 0):
        inputs.append(parts("cover.png").parent / "s.srt")
        said += [f"-c:s:{number}", chance.choice(subtitles), *_of_stream(chance, f"s:{number}")]
    if kind == "mp4" and chance.random() < 0.25:
        inputs.append(parts("cover.png"))
        said += ["-disposition:v:1", "attached_pic"]
    said += [word for number in range(len(inputs)) for word in ("-map", str(number))]
    if kind == "mkv" and chance.random() < 0.25:
        name, what = chance.choice([("font.ttf", "font/ttf"), ("cover.png", "image/png")])
        said += ["-attach", parts(name), "-metadata:s:t", f"mimetype={what}"]
    for key, value in _TAGS.items():
        if chance.random() < 0.3:
            said += ["-metadata", f"{key}={value}"]
    if kind in ("mp4", "mov") and chance.random() < 0.3:
        said += ["-metadata:s:v", f"rotate={chance.choice([90, 180, 270])}"]
    if kind == "mkv" and chance.random() < 0.2:
        said += ["-metadata:s:v", "stereo_mode=left_right"]
    if kind == "mov" and chance.random() < 0.3:
        said += ["-timecode", "01:02:03:04"]
    said += _of_stream(chance, "v:0")
    if chance.random() < 0.4:
        inputs.append(parts("cover.png").parent / "chapters.txt")
        said += ["-map_chapters", str(len(inputs) - 1)]
    if chance.random() < 0.2:
        said += ["-output_ts_offset", "0.5"]
    words = [word for file in inputs for word in ("-i", file)]
    film = folder / f"in.{kind}"
    _ffmpeg(parts("cover.png").parent, *words, "-strict", "-2", "-c", "copy", *said, film)
    if kind == "mkv" and shutil.which("mkvmerge") and chance.random() < 0.3:
        whole = film.rename(folder / "whole.mkv")
        subprocess.run(["mkvmerge", "-q", "--cropping", "0:4,2,6,8", "-o", film, whole], check=True)
    if kind == "mp4" and chance.random() < 0.3:
        film.write_bytes(with_aperture(film.read_bytes(), 54, 38))
    return film


def _of_stream(chance: random.Random, stream: str) -> list[str]:
    words = []
    if chance.random() < 0.5:
        words += [f"-metadata:s:{stream}", f"language={chance.choice(['eng', 'deu', 'fra'])}"]
    if chance.random() < 0.3:
        words += [f"-metadata:s:{stream}", f"title=Title of {stream}"]
    marks = [mark for mark in _MARKS if chance.random() < 0.2]
    return [*words, f"-disposition:{stream}", "+".join(marks) or "0"]


_STALE = re.compile(
    "encoder|software|duration.*|_statistics.*|bps.*|number_of.*|handler_name|vendor_id|major_brand|minor_version|compatible_brands"
    "|filename|mimetype|deviceconformancetemplate|wmfsdk.*|isvbr|program_.*|stereo_mode"
)
_UNSAID = {
    ("language", "und"), ("service_name", "Service01"), ("service_provider", "FFmpeg"),
    ("creation_time", "1970-01-01T00:00:00.000000Z"),  # FFmpeg's, of an ASF file that states none
}  # fmt: skip
_IMAGES = ("y4m", "png")


def _shown(path: Path) -> dict[str, Any]:
    """What a file says of its streams, and its first frame of itself."""
    found = probe(path, "-show_streams", "-show_chapters", "-show_format", "-show_programs")
    with av.open(path) as container:  # whose FFmpeg reads more of tags and marks than an older ffprobe
        found["format"]["tags"] = dict(container.metadata)
        for program in found["programs"]:
            found["format"]["tags"] |= program.get("tags", {})
        for one, stream in zip(found["streams"], container.streams, strict=False):
            one["tags"] = dict(stream.metadata)
            if isinstance(stream, av.VideoStream):  # an older ffprobe does not know of cropping
                one["sample_aspect_ratio"] = stream.sample_aspect_ratio or None
            if isinstance(stream, av.AudioStream):  # nor of FLAC in FLV
                one["codec_name"] = stream.codec_context.codec.canonical_name
            marks = Disposition(stream.disposition)
            one["disposition"] |= {mark: int(bool(marks & Disposition[mark])) for mark in _MARKS}
        frame = next(container.decode(video=0))
        images = path.suffix in (".png", ".y4m")  # PyAV crashes with the side data of PNG
        found["said"] = {} if images else {kind.name: bytes(data) for kind, data in frame.side_data.items()}
    return found


def _tags(one: dict[str, Any]) -> dict[str, str]:
    return {
        key.lower(): value
        for key, value in one.get("tags", {}).items()
        if not _STALE.fullmatch(key.lower()) and (key.lower(), value) not in _UNSAID
    }


def _film(found: dict[str, Any]) -> dict[str, Any]:
    return next(
        one for one in found["streams"] if one["codec_type"] == "video" and not one["disposition"]["attached_pic"]
    )


_LANGUAGES = {"deu": "ger", "fra": "fre", "ger": "deu", "fre": "fra"}


def _same_tag(key: str, value: str, after: dict[str, str]) -> bool:
    others = [other for name, other in after.items() if key.startswith("service") or not name.startswith("service")]
    return value in others or (key == "language" and _LANGUAGES.get(value, value) == after.get(key))


def _same_sound(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two streams are not sound of two codecs; MP4 has one name for all layers of MPEG's."""
    names = {"mp2" if one.get("codec_name") == "mp3" else one.get("codec_name") for one in (old, new)}
    return old["codec_type"] != "audio" or len(names) == 1


def _differences(before: dict[str, Any], after: dict[str, Any], kind: str) -> dict[str, str]:
    """Each difference, and a pattern of the line that says it."""
    found: dict[str, str] = {}
    images = kind in _IMAGES

    def tags(where: str, old: dict[str, str], new: dict[str, str]) -> None:
        for key, value in old.items():
            if not _same_tag(key, value, new):
                name = f"language={value}" if key == "language" else key
                found[f"tag {key} of {where or 'the file'}"] = rf"(?i)dropping the tags? [^:]*\b{name}\b[^:]*{where}: "

    tags("", _tags(before["format"]), _tags(after["format"]) | (_tags(_film(after)) if kind == "y4m" else {}))
    titles = [[chapter.get("tags", {}).get("title") for chapter in one["chapters"]] for one in (before, after)]
    starts = [[float(chapter["start_time"]) for chapter in one["chapters"]] for one in (before, after)]
    if titles[0] != titles[1] or starts[0] != pytest.approx(starts[1], abs=0.002):
        found["chapters"] = "dropping the chapters: "
    left = [one for one in after["streams"] if one["codec_type"] != "data"]
    film = _film(after)
    for index, old in enumerate(before["streams"]):
        where = f"{old['codec_type']} stream {index}"
        if old is _film(before):
            new = film
            left.remove(film)
            tags(f" of {where}", _tags(old), {} if images else _tags(film))
        else:
            cover = old["disposition"]["attached_pic"]
            if old["codec_type"] == "data":
                continue  # a time code, which is a tag, too, or the titles of chapters
            found_again = next(
                (
                    one
                    for one in left
                    if one["codec_type"] == old["codec_type"] and one["disposition"]["attached_pic"] == cover
                ),
                None,
            )
            missing = rf"dropping {where}\b" if not images else rf"dropping [^:]*\d {old['codec_type']} streams?\b"
            if found_again is None or not _same_sound(old, found_again):
                found[where] = missing
                continue
            new = found_again
            left.remove(new)
            if old["codec_type"] == "subtitle" and old.get("codec_name") != new.get("codec_name"):
                found[f"codec of {where}"] = rf"{where} \(\w+\) becomes"
                if old.get("codec_name") == "ass":
                    found[f"styles of {where}"] = f"dropping positions and other styles of {where}"
            tags(f" of {where}", _tags(old), _tags(new))
        if images or old["codec_type"] == "attachment":
            continue
        first = new is next(one for one in after["streams"] if one["codec_type"] == old["codec_type"])
        for mark in _MARKS:
            value = old["disposition"][mark]
            taken = mark == "default" and first and old["codec_type"] != "subtitle"  # players take the first
            if value != new["disposition"][mark] and not taken:
                found[f"{mark} of {where}"] = (
                    rf"dropping the disposition [^:]*\b{mark}\b[^:]* of {where}: " if value else "nothing says this"
                )
    if left:
        found["streams"] = "nothing says this"
    ratios = [Fraction(one["sample_aspect_ratio"] or 1) for one in (_film(before), film)]
    if (_film(before)["width"] > _film(before)["height"]) != (film["width"] > film["height"]):
        ratios[0] = 1 / ratios[0]  # the frames were turned
    if ratios[0] != ratios[1]:
        found["shape"] = "dropping the pixel aspect ratio "
    for name, words in _SIDES.items():
        if name in before["said"] and not _same_side(name, before["said"][name], after["said"].get(name)):
            found[name] = words  # noqa: PERF403
    return found


_SIDES = {
    "DISPLAYMATRIX": "dropping the rotation: |rotating the frames",
    "MASTERING_DISPLAY_METADATA": "dropping HDR metadata: ",
    "CONTENT_LIGHT_LEVEL": "dropping HDR metadata: ",
    "A53_CC": "dropping closed captions: ",
    "STEREO3D": "dropping 3D: ",
}


def _same_side(name: str, old: bytes, new: bytes | None) -> bool:
    """Whether a frame says the same; of a display in other fractions."""
    if new is None or name != "MASTERING_DISPLAY_METADATA":
        return old == new
    one, other = (MasteringDisplay.parse(data) for data in (old, new))
    return one is not None and other is not None and one.integers() == other.integers()


def judged(chance: random.Random, parts: Parts, enlarge: Enlarge, folder: Path, log: Any) -> list[str]:
    """What is wrong with a film that was drawn and enlarged; ``log`` has the messages."""
    film = _drawn(chance, parts, folder)
    suffix, encoding = chance.choice(_OUTPUTS)
    before = _shown(film)
    if suffix == "flv" and sum(one["codec_type"] == "audio" for one in before["streams"]) > 1:
        suffix = "nut"  # only new players find several sounds in FLV
    name = {"png": "out_%d.png"}.get(suffix, f"out.{suffix}")
    log.clear()
    enlarge(film, name, encoding=encoding)
    lines, after = list(log.messages), _shown(folder / name.replace("%d", "1"))
    differences = _differences(before, after, suffix)
    unsaid = [what for what, words in differences.items() if not any(re.search(words, line) for line in lines)]
    lost = [line for line in lines if "dropping" in line]
    alarms = [line for line in lost if not any(re.search(words, line) for words in differences.values())]
    refused = False
    try:
        enlarge(film, f"strict_{name}", encoding=encoding, strict=True)
    except OutputError:
        refused = True
    mistakes = [f"not said: {what}" for what in unsaid] + [f"a false alarm: {line}" for line in alarms]
    if refused != (bool(lost) or any("and no other times" in line for line in lines)):
        mistakes.append(f"strict refused: {refused}, dropped: {lost}")
    return [f"{film.name} to {name}: {mistake}" for mistake in mistakes]


_SEEDS = (10, 38, 46, 51, 69, 80, 102, 111)


@pytest.mark.parametrize(
    "seed", [*_SEEDS, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(200) if seed not in _SEEDS)]
)
def test_whatever_a_film_has_comes_out_or_is_said(
    parts: Parts, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        assert judged(random.Random(seed), parts, enlarge, tmp_path, caplog) == []


_CUT = (5, 22, 28, 33, 42)


@pytest.mark.parametrize(
    "seed", [*_CUT, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100) if seed not in _CUT)]
)
def test_in_segments_the_same_comes_out_and_is_said(
    parts: Parts, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    wrong: list[str] = []

    def run(film: Path, name: str, **options: Any) -> Path:
        """As `enlarge`, in segments, after a comparison with one go."""
        if name.endswith((".png", ".y4m")):
            return enlarge(film, name, **options)
        if options.get("strict"):
            return enlarge(film, name, resume=True, segment_length=Fraction(1, 5), **options)
        whole = enlarge(film, f"whole_{name}", **options)
        said = {line.replace("whole_", "") for line in caplog.messages}
        caplog.clear()
        cut = enlarge(film, name, resume=True, segment_length=Fraction(1, 5), **options)
        also = {line for line in caplog.messages if "joining" not in line and "is not cut" not in line}
        wrong.extend(f"said once only: {line}" for line in said ^ also)
        one, other = _shown(whole), _shown(cut)
        for found in (one, other):
            found["format"] = found["format"]["tags"]  # names and sizes are others
            for stream in found["streams"]:
                stream.pop("bit_rate", None)
        wrong.extend(f"{what}: {one[what]}, then {other[what]}" for what in one if one[what] != other[what])
        return cut

    with caplog.at_level(logging.INFO, "vsr_plugin"):
        assert judged(random.Random(seed), parts, run, tmp_path, caplog) == []
    assert wrong == []
