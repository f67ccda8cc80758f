"""What FFmpeg's Matroska cannot do alone: judged by ffprobe, and by mkvtoolnix where it is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import pytest

from vsr_plugin.errors import OutputError
from vsr_plugin.stream import Encoding
from vsr_plugin.stream.containers.matroska_header import state_aspect, unread

from .conftest import Media, frame_times, piped, probe, streams, video

Enlarge = Callable[..., Path]
needs_mkvtoolnix = pytest.mark.skipif(shutil.which("mkvmerge") is None, reason="no mkvmerge on the path")


@pytest.mark.parametrize(
    ("codec", "output"),
    [
        ("ffv1", "out.mkv"),
        ("libvpx-vp9", "out.mkv"),
        ("libvpx-vp9", "out.webm"),
        ("libsvtav1", "out.mkv"),
        ("libsvtav1", "out.webm"),
        ("prores_ks", "out.mkv"),
        ("libx264", "out.mkv"),
    ],
)
def test_every_codec_keeps_its_pixel_aspect_ratio(media: Media, enlarge: Enlarge, codec: str, output: str) -> None:
    after = enlarge(media("wide.mp4"), output, encoding=Encoding(codec=codec), frames=3, strict=True)
    assert video(after)["sample_aspect_ratio"] == "32:27"
    assert len(frame_times(after)) == 3
    if shutil.which("mkvinfo"):
        said = subprocess.run(["mkvinfo", "-v", "-v", after], capture_output=True, text=True, check=True).stdout
        assert "CRC" not in said or "invalid" not in said.lower()
        assert "Display unit: 3 (aspect ratio)" in said


@pytest.mark.parametrize(
    "mode", ["left_right", "top_bottom", "row_interleaved_rl", "col_interleaved_lr", "checkerboard_rl"]
)
@pytest.mark.parametrize("codec", ["ffv1", "libx264"])
def test_pixels_of_3d_keep_their_shape(media: Media, enlarge: Enlarge, tmp_path: Path, mode: str, codec: str) -> None:
    """The header states the shape of what one eye sees."""
    before = tmp_path / "in.mkv"
    words = ("-i", media("wide.mp4"), "-c", "copy", "-metadata:s:v", f"stereo_mode={mode}")
    subprocess.run(("ffmpeg", "-v", "error", *words, before), check=True)
    after = enlarge(before, "out.mkv", encoding=Encoding(codec=codec), frames=3, strict=True)
    assert video(after)["sample_aspect_ratio"] == video(before)["sample_aspect_ratio"]
    assert video(after)["tags"]["stereo_mode"] == mode


def test_the_ratio_is_that_of_the_enlarged_track(media: Media, enlarge: Enlarge, tmp_path: Path) -> None:
    both = tmp_path / "both.mkv"
    clips = ("-i", media("plain.mp4"), "-i", media("wide.mp4"), "-map", "0:v", "-map", "1:v", "-c", "copy")
    flags = ("-disposition:v:0", "0", "-disposition:v:1", "default")
    subprocess.run(("ffmpeg", "-v", "error", *clips, *flags, both), check=True)
    before = [stream.get("sample_aspect_ratio") for stream in streams(both)]
    after = streams(enlarge(both, "out.mkv", frames=3))
    large = max(range(2), key=lambda index: int(after[index]["width"]))
    assert [stream.get("sample_aspect_ratio") for stream in after] == before
    assert after[large]["sample_aspect_ratio"] == "32:27"


def test_a_file_without_room_or_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "some.mkv"
    for content in (b"", b"no matroska at all", bytes(range(256))):
        file.write_bytes(content)
        assert not state_aspect(file, Fraction(4, 3), 0)
        assert file.read_bytes() == content
        assert unread(BytesIO(content)) == []


def _chapter(number: int, start: int, end: int, *more: str) -> str:
    words = f"<ChapterString>{number}</ChapterString><ChapterLanguage>eng</ChapterLanguage>"
    title = f"<ChapterDisplay>{words}</ChapterDisplay>"
    times = f"<ChapterTimeStart>00:00:00.{start}</ChapterTimeStart><ChapterTimeEnd>00:00:00.{end}</ChapterTimeEnd>"
    return f"<ChapterAtom><ChapterUID>{number}</ChapterUID>{times}{title}{''.join(more)}</ChapterAtom>"


_XML = '<?xml version="1.0"?>'
_GERMAN = "<ChapterDisplay><ChapterString>Eins</ChapterString><ChapterLanguage>ger</ChapterLanguage></ChapterDisplay>"
_EDITION = f"<EditionEntry>{_chapter(9, 100, 200)}</EditionEntry>"


@needs_mkvtoolnix
@pytest.mark.parametrize(
    ("inside", "after", "what"),
    [
        ((_chapter(2, 200, 400),), "", "chapters within chapters"),
        (("<ChapterFlagHidden>1</ChapterFlagHidden>",), "", "that chapters are hidden"),
        ((_GERMAN,), "", "titles of chapters in more than one language"),
        ((), _EDITION, "all editions of the chapters but one"),
        ((), "", None),
    ],
)
def test_chapters_beyond_a_flat_list_are_told(
    media: Media,
    enlarge: Enlarge,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    inside: tuple[str, ...],
    after: str,
    what: str | None,
) -> None:
    xml = f"<Chapters><EditionEntry>{_chapter(1, 100, 600, *inside)}</EditionEntry>{after}</Chapters>"
    (tmp_path / "c.xml").write_text(f"{_XML}{xml}")
    before = tmp_path / "in.mkv"
    command = ["mkvmerge", "-q", "-o", before, "--chapters", tmp_path / "c.xml", media("plain.mp4")]
    subprocess.run([str(word) for word in command], check=True)
    result = enlarge(before, "out.mkv")
    assert probe(result, "-show_chapters")["chapters"]
    if what is None:
        assert "dropping" not in caplog.text
        return
    assert f"dropping {what}: FFmpeg does not read it" in caplog.text
    with pytest.raises(OutputError, match=f"{what} would be lost"):
        enlarge(before, "strict.mkv", strict=True)
    with piped(before.read_bytes(), tmp_path / "pipe") as pipe, pytest.raises(OutputError, match="would be lost"):
        enlarge(pipe, "piped.mkv", strict=True)


@needs_mkvtoolnix
@pytest.mark.parametrize(
    ("edition", "what"),
    [
        (_chapter(1, 400, 600) + _chapter(2, 100, 300), "chapters that begin no later than the one before"),
        (_chapter(1, 200, 400) + _chapter(2, 200, 600), "chapters that begin no later than the one before"),
        (_chapter(1, 100, 400, "<ChapterFlagEnabled>0</ChapterFlagEnabled>"), "that chapters are disabled"),
        (
            f"<EditionFlagOrdered>1</EditionFlagOrdered>{_chapter(1, 100, 400)}",
            "that chapters are to be played in another order",
        ),
        (_chapter(1, 100, 400) + _chapter(2, 400, 600), None),
    ],
)
def test_what_is_no_plain_list_of_chapters_is_told(
    media: Media, tmp_path: Path, edition: str, what: str | None
) -> None:
    (tmp_path / "c.xml").write_text(f"{_XML}<Chapters><EditionEntry>{edition}</EditionEntry></Chapters>")
    command = ["mkvmerge", "-q", "-o", tmp_path / "in.mkv", "--chapters", tmp_path / "c.xml", media("plain.mp4")]
    subprocess.run([str(word) for word in command], check=True)
    with (tmp_path / "in.mkv").open("rb") as file:
        assert unread(file) == ([] if what is None else [what])
    with av.open(str(tmp_path / "in.mkv")) as container:  # FFmpeg drops one indeed
        assert (len(container.chapters()) < edition.count("<ChapterAtom>")) == ("no later" in (what or ""))


def _tag(name: str, value: str, *more: str) -> str:
    return f"<Simple><Name>{name}</Name>{value}{''.join(more)}</Simple>"


_ONE, _TWO = "<String>One</String>", "<String>Two</String>"
_GERMAN_TWO = f"{_TWO}<TagLanguage>ger</TagLanguage>"


@needs_mkvtoolnix
@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ((_tag("ACTOR", _ONE) + _tag("ACTOR", _TWO),), "all but the last of the tags ACTOR"),
        ((_tag("ACTOR", _ONE), _tag("Actor", _TWO)), "all but the last of the tags Actor"),
        ((_tag("X", _ONE, _tag("Y", _ONE), _tag("Y", _TWO)),), "all but the last of the tags X/Y"),
        ((_tag("DATA", '<Binary format="hex">00FF</Binary>'),), "the binary tag DATA"),
        ((_tag("ACTOR", _ONE) + _tag("ACTOR", _ONE),), None),
        ((_tag("ACTOR", _ONE) + _tag("ACTOR", _GERMAN_TWO),), None),
        ((_tag("ACTOR", _ONE) + _tag("TITLE", _TWO),), None),
    ],
)
def test_tags_that_ffmpeg_does_not_read_are_told(
    media: Media, enlarge: Enlarge, tmp_path: Path, tags: tuple[str, ...], what: str | None
) -> None:
    (tmp_path / "t.xml").write_text(f"{_XML}<Tags>{''.join(f'<Tag>{tag}</Tag>' for tag in tags)}</Tags>")
    before = tmp_path / "in.mkv"
    command = ["mkvmerge", "-q", "-o", before, "--global-tags", tmp_path / "t.xml", media("plain.mp4")]
    subprocess.run([str(word) for word in command], check=True)
    with before.open("rb") as file:
        assert unread(file) == ([] if what is None else [what])
    if what is None:
        enlarge(before, "out.mkv", strict=True)
    else:
        with pytest.raises(OutputError, match=f"{what} would be lost"):
            enlarge(before, "out.mkv", strict=True)


@needs_mkvtoolnix
def test_languages_of_several_parts_are_told(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = tmp_path / "in.mkv"
    languages = ["--language", "0:pt-BR", "--language", "1:zh-Hant", "--language", "2:de"]
    subprocess.run(["mkvmerge", "-q", "-o", before, *languages, media("two_audio.mp4")], check=True)
    enlarge(before, "out.mkv")
    said = [line for line in caplog.text.splitlines() if "dropping" in line]
    assert len(said) == 2
    assert "dropping all but the first part of the language pt-BR of stream 0: FFmpeg does not read it" in said[0]
    with pytest.raises(OutputError, match="language pt-BR of stream 0 would be lost"):
        enlarge(before, "strict.mkv", strict=True)
    caplog.clear()
    with piped(before.read_bytes(), tmp_path / "pipe") as pipe:
        enlarge(pipe, "piped.mkv")
    assert len([line for line in caplog.text.splitlines() if "dropping" in line]) == 2


def test_titles_of_editions_are_told() -> None:
    """RFC 9559, section 5.1.7.1.6; few programs write them."""
    display = b"\x45\x20" + b"\x87" + b"\x45\x21\x84Long"  # EditionDisplay with an EditionString
    edition = b"\x45\xb9" + bytes([0x80 | len(display)]) + display
    chapters = b"\x10\x43\xa7\x70" + bytes([0x80 | len(edition)]) + edition
    segment = b"\x18\x53\x80\x67" + bytes([0x80 | len(chapters)]) + chapters
    assert unread(BytesIO(b"\x1a\x45\xdf\xa3\x80" + segment)) == ["the titles of editions"]
