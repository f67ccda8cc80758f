"""Everything that is not the picture: judged by ffprobe, file against file."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import DamagedInputError, OutputError
from vsr_plugin.stream import Encoding, Selection, upscale_file

from .conftest import FAST, Make, Media, frame_times, packets, probe, rotated, streams, video

Enlarge = Callable[..., Path]


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("plain.mp4", "out.mp4"),
        ("two_audio.mp4", "out.mp4"),
        ("two_audio.mp4", "out.mov"),
        ("all.mkv", "out.mkv"),
        ("all.mp4", "out.mp4"),
        ("late.mp4", "out.mp4"),
        ("late.mkv", "out.mkv"),
        ("edited.mp4", "out.mp4"),
        ("vfr.mp4", "out.mp4"),
        ("vfr.mkv", "out.mkv"),
    ],
)
def test_times_and_packets_are_the_same(media: Media, enlarge: Enlarge, name: str, output: str) -> None:
    before, after = media(name), enlarge(media(name), output)
    assert frame_times(after) == frame_times(before)
    kinds = [stream["codec_type"] for stream in streams(before)]
    assert [stream["codec_type"] for stream in streams(after)] == kinds
    for index, kind in enumerate(kinds):
        if kind in ("audio", "subtitle"):
            assert packets(after, str(index)) == packets(before, str(index))


def test_ticks_are_the_same_in_mp4(media: Media, enlarge: Enlarge) -> None:
    before, after = media("vfr.mp4"), enlarge(media("vfr.mp4"), "out.mp4")
    assert video(after)["time_base"] == video(before)["time_base"]
    show = ("-select_streams", "v", "-show_entries", "frame=pts")
    assert probe(after, *show)["frames"] == probe(before, *show)["frames"]


def test_languages_dispositions_tags_and_chapters_survive(media: Media, enlarge: Enlarge) -> None:
    before, after = media("all.mkv"), enlarge(media("all.mkv"), "out.mkv")
    for old, new in zip(streams(before), streams(after), strict=True):
        assert new["disposition"] == old["disposition"]
        assert new["tags"].get("language") == old["tags"].get("language")
        assert new["tags"].get("filename") == old["tags"].get("filename")
    old, new = probe(before, "-show_chapters", "-show_format"), probe(after, "-show_chapters", "-show_format")
    assert new["chapters"] == old["chapters"]
    assert new["format"]["tags"]["title"] == "Chaptered"
    font = ["ffmpeg", "-v", "error", "-y", "-dump_attachment:t:0", str(after.parent / "font"), "-i", str(after)]
    subprocess.run(font, check=False)  # FFmpeg wants an output, too, and complains when it has dumped
    assert (after.parent / "font").read_bytes() == (media.folder / "font.ttf").read_bytes()


@pytest.mark.parametrize(
    ("name", "output"), [("cover.mp4", "out.mp4"), ("cover.mkv", "out.mkv"), ("cover.mp4", "out.mkv")]
)
def test_cover_art_survives(media: Media, enlarge: Enlarge, name: str, output: str) -> None:
    before, after = media(name), enlarge(media(name), output)
    cover = [stream for stream in streams(after) if stream["disposition"]["attached_pic"]]
    assert [(stream["codec_name"], stream["width"]) for stream in cover] == [("png", 64)]
    old = next(stream for stream in streams(before) if stream["disposition"]["attached_pic"])
    assert packets(after, str(cover[0]["index"]))[0][1] == packets(before, str(old["index"]))[0][1]


def test_subtitles_become_what_the_container_can_hold(
    media: Media, enlarge: Enlarge, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        after = enlarge(media("all.mkv"), "out.mp4")
    found = [stream for stream in streams(after) if stream["codec_type"] == "subtitle"]
    assert [stream["codec_name"] for stream in found] == ["mov_text", "mov_text"]
    assert found[0]["tags"]["language"] == "fra"
    text = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", after, "-map", "0:s:0", "-f", "srt", "-"], capture_output=True
    )
    assert b"00:00:00,223 --> 00:00:00,723\nHello" in text.stdout
    assert b"World" in text.stdout
    said = [record.getMessage() for record in caplog.records]
    assert "all.mkv: dropping attachment stream 5: mp4 cannot hold it" in said
    assert any(line.startswith("all.mkv: dropping positions and other styles of subtitle stream 4") for line in said)
    assert not any("subtitle stream 3" in line and "dropping" in line for line in said)


def test_strict_refuses_what_would_be_dropped(media: Media, enlarge: Enlarge, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"styles of subtitle stream 4 \((ssa|ass)\) would be lost: mov_text holds"):
        enlarge(media("all.mkv"), "out.mp4", strict=True)
    assert list(tmp_path.iterdir()) == []


def test_chapters_that_end_before_the_film_begins_are_named(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marks = tmp_path / "marks.txt"
    marks.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=300\ntitle=One\n")
    late = tmp_path / "late.mov"
    command = f"-itsoffset 0.5 -i {media('plain.mp4')} -i {marks} -map 0 -map_chapters 1 -c copy {late}"
    subprocess.run(["ffmpeg", "-v", "error", *command.split()], check=True)
    enlarge(late, "out.avi", encoding=Encoding(codec="mpeg4"))
    assert "late.mov: dropping the chapters: they end before the film begins" in caplog.text
    with pytest.raises(OutputError, match="the chapters would be lost"):
        enlarge(late, "strict.avi", encoding=Encoding(codec="mpeg4"), strict=True)


def test_a_part_takes_its_sound_and_chapters_along(media: Media, enlarge: Enlarge) -> None:
    after = enlarge(media("all.mp4"), "out.mp4", start=Fraction(1, 2), duration=Fraction(1, 2))
    found = streams(after)
    assert [float(stream["start_time"]) for stream in found[:2]] == pytest.approx([0, 0], abs=0.025)
    assert float(found[1]["duration"]) == pytest.approx(0.5, abs=0.05)
    chapters = [
        (chapter["tags"]["title"], chapter["end_time"]) for chapter in probe(after, "-show_chapters")["chapters"]
    ]
    assert [title for title, _ in chapters] == ["One", "Two"]
    whole = {digest for _, digest in packets(media("all.mp4"), "a:0")}
    assert {digest for _, digest in packets(after, "a:0")} < whole


def test_a_copied_film_begins_with_a_key_frame(enlarge: Enlarge, tmp_path: Path) -> None:
    words = ["-f", "lavfi", "-i", "testsrc2=s=64x48:d=3", "-map", "0", "-map", "0", "-g:0", "10", "-g:1", "25"]
    subprocess.run(["ffmpeg", "-v", "error", *words, tmp_path / "two.mp4"], check=True)
    after = enlarge(tmp_path / "two.mp4", "out.mp4", start=Fraction(13, 10), frames=2)
    found = probe(after, "-select_streams", "v", "-show_entries", "packet=stream_index,flags")["packets"]
    first = {packet["stream_index"]: packet["flags"] for packet in reversed(found)}
    assert all(flags.startswith("K") for flags in first.values())


def test_a_number_of_frames_takes_as_much_sound(media: Media, enlarge: Enlarge) -> None:
    after = enlarge(media("two_audio.mp4"), "out.mp4", frames=10)
    assert [float(stream["duration"]) for stream in streams(after)] == pytest.approx([0.4] * 3, abs=0.05)


def test_damaged_sound_is_counted_and_the_rest_kept(
    media: Media, enlarge: Enlarge, nearest: Upscaler, tmp_path: Path
) -> None:
    whole = bytearray(media("transport.ts").read_bytes())
    sound = [at for at in range(0, len(whole), 188) if int.from_bytes(whole[at + 1 : at + 3]) & 0x1FFF == 0x101]
    for at in sound[6:18:3]:  # a lost packet here and there
        whole[at : at + 188] = b"\x47\x1f\xff\x10" + bytes(184)
    broken = tmp_path / "broken.ts"
    broken.write_bytes(whole)
    report = upscale_file(broken, tmp_path / "out.mkv", nearest, encoding=FAST)
    assert report.damaged > 0
    assert len(frame_times(tmp_path / "out.mkv")) == 38
    with pytest.raises(DamagedInputError):
        upscale_file(broken, tmp_path / "strict.mkv", nearest, encoding=FAST, strict=True)


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv"])
def test_rotation_survives(media: Media, enlarge: Enlarge, tmp_path: Path, output: str) -> None:
    before = rotated(media, tmp_path, 90)
    rotation = [video(file)["side_data_list"][0]["rotation"] for file in (before, enlarge(before, output))]
    assert rotation == [-90, -90] or rotation == [90, 90]


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv"])
def test_hdr10_metadata_survives_in_header_and_bitstream(media: Media, enlarge: Enlarge, output: str) -> None:
    before, after = media("hdr10.mp4"), enlarge(media("hdr10.mp4"), output)
    colors = ("color_space", "color_primaries", "color_transfer", "color_range", "pix_fmt")
    assert [video(after)[key] for key in colors] == [video(before)[key] for key in colors]
    show = ("-select_streams", "v", "-read_intervals", "%+#1", "-show_frames")
    old, new = (probe(file, *show)["frames"][0]["side_data_list"] for file in (before, after))
    wanted = [
        entry for entry in old if "display metadata" in entry["side_data_type"] or "light" in entry["side_data_type"]
    ]
    assert len(wanted) == 2
    for entry in wanted:
        assert entry in new
    kinds = {entry["side_data_type"] for entry in video(after)["side_data_list"]}
    assert kinds == {"Mastering display metadata", "Content light level metadata"}


def test_what_no_encoder_can_write_is_said(
    shared: Path, media: Media, enlarge: Enlarge, caplog: pytest.LogCaptureFixture
) -> None:
    phone = shared / "video/exoplayer/dolbyVision-hdr.MOV"
    after = enlarge(phone, "out.mov")
    assert "dropping Dolby Vision" in caplog.text
    tags = probe(after, "-show_format")["format"]["tags"]
    assert tags["com.apple.quicktime.model"] == "iPhone 14 Pro"
    assert [stream["codec_type"] for stream in streams(after)] == ["video", "audio", "data", "data", "data"]


def test_a_subtitle_that_does_not_decode_is_counted_and_the_rest_kept(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    times = ("00:00:00,000 --> 00:00:00,100", "00:00:00,200 --> 00:00:00,300")
    words = ("Café".encode("latin-1"), b"plain")
    text = b"".join(
        b"%d\n%s\n%s\n\n" % (n, t.encode(), w) for n, (t, w) in enumerate(zip(times, words, strict=True), 1)
    )
    (tmp_path / "a.srt").write_bytes(text)
    source = tmp_path / "in.mkv"
    command = (
        "ffmpeg",
        "-v",
        "error",
        "-i",
        media("plain.mp4"),
        "-i",
        tmp_path / "a.srt",
        "-map",
        "0:v",
        "-map",
        "1:0",
    )
    subprocess.run((*command, "-c", "copy", source), check=True)
    out = enlarge(source, "out.mp4")
    assert [stream["codec_name"] for stream in streams(out)] == ["h264", "mov_text"]
    assert "does not decode" in caplog.text


def test_a_stream_that_begins_late_is_named(
    make: Make, nearest: Upscaler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise, coded = "-f lavfi -i testsrc2=s=320x240:r=25:d={},noise=alls=60:allf=t", "-c:v mpeg2video -q:v 2"
    silent = make(f"{noise.format(9)} {coded}", "silent.mpg").read_bytes()
    sound = "-f lavfi -i sine=d=1 -c:a mp2 -output_ts_offset 9"
    sounding = make(f"{noise.format(1)} {sound} {coded}", "sounding.mpg").read_bytes()
    after = make(f"{noise.format(3)} {coded} -output_ts_offset 10", "after.mpg").read_bytes()
    file = tmp_path / "late.mpg"
    file.write_bytes(silent + sounding + after)
    selection = Selection(start=Fraction(17, 2), duration=Fraction(2))
    upscale_file(file, tmp_path / "out.mkv", nearest, selection, encoding=FAST)
    assert "dropping audio stream 1 (mp2): it begins later than FFmpeg looks for streams" in caplog.text
    with pytest.raises(OutputError, match="would be lost"):
        upscale_file(file, tmp_path / "strict.mkv", nearest, selection, encoding=FAST, strict=True)
