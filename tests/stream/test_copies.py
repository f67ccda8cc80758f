"""Copied streams: what the container holds arrives, and what it does not hold is said. Judged by ffprobe and ffmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import av.logging
import pytest

from vsr_plugin.errors import OutputError
from vsr_plugin.stream import Encoding
from vsr_plugin.stream.copies import refusal
from vsr_plugin.stream.opening import refusal as encoder_refusal

from .conftest import Media, packets, probe, streams

Enlarge = Callable[..., Path]
_SHORT = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.4 -f lavfi -i sine=d=0.4 -map 0 -map 1 -c:v libx264 -preset ultrafast"


def _ffmpeg(command: str, file: Path) -> Path:
    arguments = ["ffmpeg", "-v", "error", "-y", *command.split(), str(file)]
    subprocess.run(arguments, cwd=file.parent, check=True, capture_output=True)
    return file


def _md5(file: Path, stream: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", str(file), "-map", f"0:{stream}", "-f", "md5", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


_COMMENT = "the disposition comment of audio stream 2: mov has no place for it"


def _dropped(caplog: pytest.LogCaptureFixture) -> list[str]:
    """All that is said to be dropped."""
    return [line.partition("dropping ")[2] for line in caplog.messages if "dropping" in line]


def _patched(file: Path, name: str, *changes: tuple[bytes, bytes]) -> Path:
    data = file.read_bytes()
    for old, new in changes:
        assert old in data
        assert len(old) == len(new)
        data = data.replace(old, new)
    target = file.with_name(name)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("in.mkv", "-c:a wmav2"),
        ("in.asf", "-c:a wmav1"),
        ("in.mkv", "-c:a adpcm_ms"),
        ("in.avi", "-c:a adpcm_ima_wav"),
        ("in.mov", "-c:a pcm_alaw -ar 8000"),
        ("in.avi", "-c:a pcm_mulaw -ar 8000"),
        ("in.mkv", "-c:a libspeex -ar 16000"),
        ("in.mkv", "-c:a adpcm_g726 -ar 8000"),
        ("in.mkv", "-c:a g723_1 -ar 8000"),
    ],
)
def test_matroska_holds_sound_that_has_a_tag_of_windows(
    media: Media, enlarge: Enlarge, tmp_path: Path, name: str, sound: str
) -> None:
    before = _ffmpeg(f"{_SHORT} {sound}", tmp_path / name)
    after = enlarge(before, "out.mkv", strict=True)
    assert [stream["codec_name"] for stream in streams(after)][1:] == [
        stream["codec_name"] for stream in streams(before)
    ][1:]
    assert _md5(after, "a") == _md5(before, "a")


@pytest.mark.parametrize(
    ("name", "sound", "output", "reason"),
    [
        ("in.mov", "-c:a adpcm_ima_qt", "out.mkv", "audio stream 1 (adpcm_ima_qt): matroska cannot hold it"),
        ("in.mkv", "-c:a wmav2", "out.mp4", "audio stream 1 (wmav2): mp4 cannot hold it"),
        ("in.mkv", "-c:a wmav2", "out.ts", "audio stream 1 (wmav2): mpegts could hold it, but players could not"),
        ("in.asf", "-c:a wmav2", "out.nut", "audio stream 1 (wmav2): nut could hold it, but players could not"),
        ("in.mkv", "-c:a adpcm_g726 -ar 8000", "out.nut", "(g726): nut could hold it, but players could not"),
        ("in.avi", "-c:a adpcm_ima_wav", "out.mov", "(adpcm_ima_wav): mov could hold it, but players could not"),
    ],
)
def test_sound_that_the_container_does_not_hold_is_said(
    media: Media,
    enlarge: Enlarge,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    sound: str,
    output: str,
    reason: str,
) -> None:
    before = _ffmpeg(f"{_SHORT} {sound}", tmp_path / name)
    after = enlarge(before, output)
    assert reason in caplog.text
    assert [stream["codec_type"] for stream in streams(after)] == ["video"]
    with pytest.raises(OutputError, match="would be lost"):
        enlarge(before, f"strict{Path(output).suffix}", strict=True)


@pytest.mark.usefixtures("media")
def test_a_transport_stream_holds_truehd(enlarge: Enlarge, tmp_path: Path) -> None:
    """Readers know it by its content, of which they need about a second."""
    film = "-f lavfi -i testsrc2=s=64x48:r=10:d=2 -f lavfi -i sine=d=2:r=48000 -c:v libx264 -preset ultrafast"
    before = _ffmpeg(f"{film} -c:a truehd -strict -2", tmp_path / "in.mkv")
    after = enlarge(before, "out.ts", strict=True)
    assert [stream["codec_name"] for stream in streams(after)] == ["h264", "truehd"]
    assert _md5(after, "a") == _md5(before, "a")


@pytest.mark.parametrize(("channels", "layout"), [(1, "1 channels"), (2, "stereo"), (6, "5.1"), (9, None)])
@pytest.mark.usefixtures("media")
def test_mp4_names_the_channels_of_sound_whose_container_does_not(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, channels: int, layout: str | None
) -> None:
    film = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -c:v libx264 -preset ultrafast"
    sound = f"-f s16le -ar 48000 -ac {channels} -t 0.2 -i /dev/zero -c:a pcm_s16le"
    before = _ffmpeg(f"{film.replace(' -c:v', f' {sound} -c:v')}", tmp_path / "in.mkv")
    after = enlarge(before, "out.mp4")
    with av.open(after) as container:
        assert [stream.codec_context.layout.name for stream in container.streams.audio] == [layout] * (channels < 9)
    dropped = [] if layout else ["audio stream 1 (pcm_s16le): mp4 cannot hold it"]
    assert _dropped(caplog) == dropped
    if layout:
        assert _md5(after, "a") == _md5(before, "a")


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ((b"S_TEXT/UTF8", b"S_TEXT/XXXX"), "out.mkv"),
        ((b"S_TEXT/UTF8", b"S_TEXT/XXXX"), "out.ts"),
        ((b"A_AAC", b"A_XXX"), "out.mkv"),
        ((b"A_AAC", b"A_XXX"), "out.mp4"),
    ],
)
def test_a_stream_of_an_unknown_codec_is_dropped_with_a_line(
    media: Media,
    enlarge: Enlarge,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: tuple[bytes, bytes],
    output: str,
) -> None:
    (tmp_path / "s.srt").write_bytes(media.folder.joinpath("s.srt").read_bytes())
    whole = _ffmpeg(
        f"-i {media('two_audio.mp4')} -i s.srt -map 0:v -map 0:a:0 -map 1 -c copy -c:s srt", tmp_path / "s.mkv"
    )
    unknown = _patched(whole, "unknown.mkv", change)
    index = 2 if b"TEXT" in change[0] else 1
    kind = "subtitle" if index == 2 else "audio"
    enlarge(unknown, output)
    assert f"dropping {kind} stream {index}: " in caplog.text
    with pytest.raises(OutputError, match=f"{kind} stream {index} would be lost"):
        enlarge(unknown, f"strict{Path(output).suffix}", strict=True)


@pytest.fixture
def telemetry(media: Media, tmp_path: Path) -> Callable[[str], Path]:
    """``telemetry("gpmd")``: a track of that kind beside chapters, as action cameras write it."""

    def make(kind: str) -> Path:
        whole = tmp_path / "all.mp4"
        whole.write_bytes(media("all.mp4").read_bytes())
        return _patched(whole, f"{kind}.mp4", (b"sbtl", b"meta"), (b"tx3g", kind.encode()))

    return make


@pytest.mark.parametrize("output", ["out.mp4", "out.mov"])
def test_telemetry_beside_chapters_crosses_over(
    telemetry: Callable[[str], Path], enlarge: Enlarge, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = telemetry("gpmd")
    after = enlarge(before, output, strict=output != "out.mov")
    assert _dropped(caplog) == ([_COMMENT] if output == "out.mov" else [])
    old, new = (
        next(stream["index"] for stream in streams(file) if stream["codec_tag_string"] == "gpmd")
        for file in (before, after)
    )
    assert packets(after, str(new)) == packets(before, str(old))
    chapters = [probe(file, "-show_chapters")["chapters"] for file in (before, after)]
    assert [chapter["tags"]["title"] for chapter in chapters[1]] == ["One", "Two"]
    tracks = [stream["codec_tag_string"] for stream in streams(after)]
    assert tracks.count("text") == 1


@pytest.mark.parametrize(("kind", "output"), [("gpmd", "mkv"), ("gpmd", "ts"), ("gpmd", "avi"), ("mett", "mp4")])
def test_telemetry_without_a_place_is_said(
    telemetry: Callable[[str], Path], enlarge: Enlarge, caplog: pytest.LogCaptureFixture, kind: str, output: str
) -> None:
    enlarge(telemetry(kind), f"out.{output}")
    assert "dropping data stream 3: " in caplog.text
    with pytest.raises(OutputError, match="data stream 3 would be lost"):
        enlarge(telemetry(kind), f"strict.{output}", strict=True)


def test_a_cover_comes_before_tags_that_mp4_holds_only_without_it(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = _ffmpeg(
        f"-i {media('plain.mp4')} -attach {media('cover.png')} -metadata:s:t mimetype=image/png -c copy "
        "-metadata title=T -metadata mood=calm",
        tmp_path / "in.mkv",
    )
    after = enlarge(before, "out.mp4")
    assert [stream["codec_name"] for stream in streams(after) if stream["disposition"]["attached_pic"]] == ["png"]
    assert probe(after, "-show_format")["format"]["tags"]["title"] == "T"
    assert "dropping the tag MOOD: mp4 has no place for it" in caplog.text
    with pytest.raises(OutputError, match="the tag MOOD would be lost"):
        enlarge(before, "strict.mp4", strict=True)
    with pytest.raises(OutputError, match="mov has no place for a cover"):
        enlarge(before, "strict.mov", strict=True)


@pytest.mark.parametrize(
    ("output", "lost"),
    [
        ("out.ts", ["the tag title", "the tag language=pt-BR of audio stream 1", "the chapters"]),
        ("out.avi", ["the tag language=pt-BR of audio stream 1", "the chapters"]),
        ("out.mp4", ["the tags language=pt-BR, MOOD of audio stream 1"]),
        ("out.mkv", []),
    ],
)
def test_tags_and_chapters_without_a_place_are_said(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, output: str, lost: list[str]
) -> None:
    mood = " -metadata:s:a mood=calm" if output.endswith("mp4") else ""
    command = f"-i {media('all.mkv')} -map 0:v -map 0:a:0 -c copy -metadata:s:a language=pt-BR{mood}"
    enlarge(_ffmpeg(command, tmp_path / "in.mkv"), output)
    said = [
        line.partition("dropping ")[2].partition(": ")[0] for line in caplog.text.splitlines() if "dropping" in line
    ]
    assert said == lost


def test_blu_ray_subtitles_have_no_place_in_plain_transport_streams(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segments = b"".join(  # one empty composition: presentation, and end
        b"PG" + (90 * pts).to_bytes(4, "big") + bytes(4) + kind + len(body).to_bytes(2, "big") + body
        for pts in (100, 300)
        for kind, body in ((b"\x16", b"\x00\x40\x00\x30\x10\x00\x00\x80\x00\x00\x00"), (b"\x80", b""))
    )
    (tmp_path / "s.sup").write_bytes(segments)
    before = _ffmpeg(f"-i {media('plain.mp4')} -i s.sup -map 0 -map 1 -c copy", tmp_path / "in.mkv")
    assert [stream["codec_name"] for stream in streams(enlarge(before, "out.m2ts"))] == ["h264", "hdmv_pgs_subtitle"]
    enlarge(before, "out.ts")
    assert "dropping subtitle stream 1 (pgssub): mpegts could hold it, but players could not read it" in caplog.text


def test_a_language_of_either_code_is_kept_in_quicktime(
    media: Media, enlarge: Enlarge, caplog: pytest.LogCaptureFixture
) -> None:
    after = enlarge(media("two_audio.mp4"), "out.mov")
    assert _dropped(caplog) == [_COMMENT]
    assert [stream["tags"]["language"] for stream in streams(after)[1:]] == ["eng", "ger"]


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv"])
def test_places_times_and_titles_in_any_spelling_are_kept(
    media: Media, enlarge: Enlarge, tmp_path: Path, output: str
) -> None:
    command = (
        f"-i {media('plain.mp4')} -c copy -metadata TITLE=T -metadata ARTIST=A -metadata location=+48.1000+011.5000/"
    )
    before = _ffmpeg(f"{command} -metadata CREATION_TIME=2016-05-31T17:01:35.000000Z", tmp_path / "in.mkv")
    tags = probe(enlarge(before, output, strict=True), "-show_format")["format"]["tags"]
    kept = {key.lower(): value for key, value in tags.items()}
    assert (kept["title"], kept["artist"], kept["location"]) == ("T", "A", "+48.1000+011.5000/")
    assert kept["creation_time"].startswith("2016-05-31T17:01:35.000000Z")


def test_tags_beside_sound_that_needs_packets_for_its_header_are_kept(
    media: Media, enlarge: Enlarge, tmp_path: Path
) -> None:
    before = _ffmpeg(f"{_SHORT} -c:a ac3 -metadata title=T -metadata:s:a language=eng", tmp_path / "in.mkv")
    after = enlarge(before, "out.mp4", strict=True)
    assert probe(after, "-show_format")["format"]["tags"]["title"] == "T"
    assert streams(after)[1]["tags"]["language"] == "eng"


def test_asking_muxers_and_encoders_in_several_threads_keeps_the_log_level(media: Media, tmp_path: Path) -> None:
    level = av.logging.get_level()

    def ask_muxer() -> None:
        with av.open(media("two_audio.mp4")) as film, av.open(tmp_path / "out.avi", "w") as output:
            for _ in range(20):
                assert refusal(output, film.streams[1]) is None

    def ask_encoder() -> None:
        for _ in range(20):
            assert encoder_refusal("ffv1", "yuv420p", {}) is None

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(ask) for ask in (ask_muxer, ask_encoder) * 2]:
            done.result()
    assert av.logging.get_level() == level


_SERVICE = "-metadata service_name=Eins -metadata service_provider=ARD"


def _service(file: Path) -> dict[str, str]:
    """What ffprobe finds of a service, among the tags of the file or of its program."""
    found = probe(file, "-show_format", "-show_programs")
    tags = found["format"].get("tags", {}) | (found["programs"][0]["tags"] if found["programs"] else {})
    return {key.lower(): value for key, value in tags.items() if key.lower().startswith("service_")}


@pytest.mark.parametrize("output", ["out.ts", "out.mp4", "out.mov", "out.mkv"])
def test_the_service_of_a_transport_stream_is_kept(media: Media, enlarge: Enlarge, tmp_path: Path, output: str) -> None:
    before = _ffmpeg(f"-i {media('two_audio.mp4')} -map 0 -c copy {_SERVICE}", tmp_path / "in.ts")
    after = enlarge(before, output, strict=True)
    assert _service(after) == {"service_name": "Eins", "service_provider": "ARD"}


def test_a_service_without_a_place_is_said(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = _ffmpeg(f"-i {media('plain.mp4')} -c copy {_SERVICE}", tmp_path / "in.ts")
    for output in ("out.avi", "out.y4m"):
        enlarge(before, output, encoding=None)
        assert "dropping the tags service_name, service_provider: " in caplog.text
        caplog.clear()
    unnamed = _ffmpeg(f"-i {media('plain.mp4')} -c copy", tmp_path / "unnamed.ts")
    enlarge(unnamed, "unnamed.y4m", encoding=None, strict=True)


def test_the_service_of_another_program_is_said(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    programs = "-program title=One:program_num=1:st=0 -program title=Two:program_num=2:st=1"
    before = _ffmpeg(f"-i {media('two_audio.mp4')} -map 0:v -map 0:a:0 -c copy {programs}", tmp_path / "in.ts")
    assert _service(enlarge(before, "out.mkv")) == {"service_name": "One"}
    assert "dropping the tag service_name of another program: " in caplog.text


@pytest.mark.parametrize(
    ("stream", "language", "kept"),
    [("a", "deu", True), ("a", "deu,fra", True), ("a", "pt-BR", False), ("v", "eng", False)],
)
def test_languages_without_a_place_in_a_transport_stream_are_said(
    media: Media,
    enlarge: Enlarge,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    stream: str,
    language: str,
    kept: bool,
) -> None:
    command = f"-i {media('two_audio.mp4')} -map 0:v -map 0:a:0 -c copy -metadata:s:{stream} language={language}"
    after = enlarge(_ffmpeg(command, tmp_path / "in.mkv"), "out.ts")
    found = [one.get("tags", {}).get("language") for one in streams(after) if one["codec_type"][0] == stream]
    assert found == [language if kept else None]
    assert (f"dropping the tag language={language} of " in caplog.text) != kept


def test_a_stream_for_which_the_others_leave_no_place_is_dropped(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    films = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.4 -f lavfi -i testsrc=s=32x32:r=25:d=0.4"
    before = _ffmpeg(f"{films} -map 0 -map 1 -c:v libx264 -preset ultrafast", tmp_path / "in.ts")
    after = enlarge(before, "out.m2ts")  # its numbers are given out for one film
    assert [(stream["codec_name"], stream["width"]) for stream in streams(after)] == [("h264", 128)]
    assert "dropping video stream 1 (h264): mpegts cannot hold it beside the other streams" in caplog.text
    with pytest.raises(OutputError, match="would be lost: mpegts cannot hold it beside"):
        enlarge(before, "strict.m2ts", strict=True)


def test_mxf_holds_pcm_beside_frames(enlarge: Enlarge, tmp_path: Path) -> None:
    before = _ffmpeg(f"{_SHORT} -c:a pcm_s16le -ar 48000", tmp_path / "in.mov")
    after = enlarge(before, "out.mxf", encoding=Encoding("mpeg2video"))
    assert [stream["codec_name"] for stream in streams(after)] == ["mpeg2video", "pcm_s16le"]
    assert len(packets(after, "a")) > 0


def test_an_attachment_is_not_put_into_a_transport_stream(enlarge: Enlarge, tmp_path: Path) -> None:
    (tmp_path / "font.ttf").write_bytes(b"font")
    attached = "-attach font.ttf -metadata:s:t mimetype=application/x-truetype-font"
    before = _ffmpeg(f"{_SHORT} -c:a aac {attached}", tmp_path / "in.mkv")
    with pytest.raises(OutputError, match="attachment stream 2 would be lost: mpegts cannot hold it"):
        enlarge(before, "strict.ts", strict=True)
    assert len(streams(enlarge(before, "out.ts"))) == 2


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("out.mkv", []),
        ("out.mp4", ["the disposition original of audio stream 2"]),
        ("out.ts", ["the disposition comment of audio stream 1", "the disposition default+original of audio stream 2"]),
        (
            "out.avi",
            [
                "the disposition comment of audio stream 1",
                "the disposition default+original+visual_impaired of audio stream 2",
            ],
        ),
    ],
)
def test_dispositions_that_are_lost_are_named(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, lost: list[str]
) -> None:
    marks = "-map 1 -c:a aac -disposition:a:0 comment -disposition:a:1 default+visual_impaired+original"
    enlarge(_ffmpeg(f"{_SHORT} {marks}", tmp_path / "in.mkv"), name)
    told = [line.partition("dropping ")[2].rpartition(": ")[0] for line in caplog.messages if "disposition" in line]
    assert told == lost


def test_a_dub_that_is_the_original_is_neither_in_matroska(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = _ffmpeg(f"{_SHORT} -c:a aac -disposition:a:0 dub+original", tmp_path / "in.nut")
    enlarge(before, "out.nut", strict=True)
    enlarge(before, "out.mkv")
    assert _dropped(caplog) == ["the disposition dub+original of audio stream 1: matroska has no place for it"]


@pytest.mark.parametrize(("name", "key"), [("out.mkv", "title"), ("again.mp4", "name")])
def test_the_title_of_an_mp4_track_stays_one(enlarge: Enlarge, tmp_path: Path, name: str, key: str) -> None:
    first = enlarge(_ffmpeg(f"{_SHORT} -c:a aac -metadata:s:a title=Ton", tmp_path / "in.mkv"), "in.mp4")
    with av.open(enlarge(first, name)) as after:
        assert after.streams.audio[0].metadata[key] == "Ton"


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_subtitles_that_are_not_shown_unasked_stay_so(
    media: Media, enlarge: Enlarge, tmp_path: Path, name: str
) -> None:
    marks = "-disposition:s:0 0 -disposition:s:1 default"
    whole = f"-i {media('two_audio.mp4')} -i {media.folder}/s.srt -map 0:v -map 0:a:0 -map 1 -map 1 -c copy -c:s srt"
    for wanted in ("-disposition:s:0 0 -disposition:s:1 0", marks):
        after = enlarge(_ffmpeg(f"{whole} {wanted}", tmp_path / "in.mkv"), name, overwrite=True)
        found = [one["disposition"]["default"] for one in streams(after) if one["codec_type"] == "subtitle"]
        assert found == [0, int(wanted == marks)]


@pytest.mark.parametrize(("name", "lost"), [
    ("out.webm", ["the disposition comment of audio stream 1"]),
    ("out.nut", ["the disposition hearing_impaired of video stream 0"]),
    ("out.mkv", []),
])  # fmt: skip
def test_what_webm_and_nut_do_not_say_of_a_stream_is_named(
    enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, lost: list[str]
) -> None:
    marks = "-c:a libopus -disposition:v hearing_impaired -disposition:a comment"
    codec = Encoding("libvpx", options={"deadline": "realtime"}) if name == "out.webm" else None
    enlarge(_ffmpeg(f"{_SHORT} {marks}", tmp_path / "in.mkv"), name, encoding=codec)
    assert [line.rpartition(": ")[0] for line in _dropped(caplog)][-1:] == lost


@pytest.mark.parametrize("output", ["out.y4m", "out_%d.png", "out.png"])
def test_tags_of_the_film_are_named_beside_images(
    media: Media, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    said = "-metadata:s:v title=Main -metadata:s:v language=deu -metadata:s:v comment=Short"
    before = _ffmpeg(f"-i {media('plain.mp4')} -c copy {said}", tmp_path / "in.mkv")
    enlarge(before, output, encoding=Encoding(), frames=1)
    what = "the tags language=deu, title, COMMENT of video stream 0"
    assert _dropped(caplog) == [f"{what}: {before.with_name(output).suffix} holds images only"]
    with pytest.raises(OutputError, match="of video stream 0 would be lost"):
        enlarge(before, f"strict_{output}", encoding=Encoding(), frames=1, strict=True)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (22050, 2), (48000, 1), (48000, 2)])
def test_avi_plays_yamaha_adpcm_at_its_own_rate(enlarge: Enlarge, tmp_path: Path, rate: int, channels: int) -> None:
    tone = f"-f lavfi -i sine=d=1:r={rate} -ac {channels} -c:a adpcm_yamaha"
    before = _ffmpeg(f"-f lavfi -i testsrc2=s=64x48:r=25:d=1 {tone} -c:v mpeg4", tmp_path / "in.mkv")
    after = enlarge(before, "out.avi", encoding=Encoding(codec="mpeg4"), strict=True)
    times, payloads = zip(*packets(after, "a"), strict=True)
    stated, same = zip(*packets(before, "a"), strict=True)
    assert payloads == same
    assert [float(time) for time in times] == pytest.approx([float(time) for time in stated], abs=0.002)
    assert _md5(after, "a") == _md5(before, "a")


def test_titles_stay_where_the_codec_of_the_input_has_no_place(enlarge: Enlarge, tmp_path: Path) -> None:
    film = "-f lavfi -i testsrc2=s=64x48:r=25:d=0.2 -c:v libvpx -deadline realtime -metadata title=T"
    after = enlarge(_ffmpeg(film, tmp_path / "in.webm"), "out.mov", strict=True)
    assert probe(after, "-show_format")["format"]["tags"]["title"] == "T"
