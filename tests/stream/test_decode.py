from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWDeviceType

from vsr_plugin.errors import DamagedInputError, InputError, UsageError
from vsr_plugin.frames import ChromaLocation, Matrix, Range
from vsr_plugin.stream import Selection, Source
from vsr_plugin.stream.color import read_color
from vsr_plugin.stream.damage import Tally
from vsr_plugin.stream.first_frame import FirstFrame
from vsr_plugin.stream.selection import HWACCELS

from .conftest import Media, frame_times


def _picture(width: int, height: int, fmt: str = "yuv420p") -> av.VideoFrame:
    picture = av.VideoFrame(width, height, fmt)
    picture.colorspace = 2
    return picture


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((1280, 2), Matrix.BT709),
        ((1278, 576), Matrix.SMPTE170M),
        ((720, 578), Matrix.BT709),
        ((480, 270), Matrix.SMPTE170M),
    ],
)
def test_untagged_video_follows_the_rule(size: tuple[int, int], matrix: Matrix) -> None:
    color, guesses = read_color(_picture(*size))
    assert color.matrix is matrix
    assert color.range is Range.LIMITED
    assert guesses == ["BT.709" if matrix is Matrix.BT709 else "BT.601", "limited range"]


def test_tags_are_believed() -> None:
    picture = _picture(64, 64)
    picture.colorspace, picture.color_range, picture.chroma_location = 9, 2, 3
    picture.color_primaries, picture.color_trc = 9, 16
    color, guesses = read_color(picture)
    assert (color.matrix, color.range, color.chroma_location) == (Matrix.BT2020_NCL, Range.FULL, ChromaLocation.TOPLEFT)
    assert (color.primaries, color.transfer) == (9, 16)
    assert guesses == []


@pytest.mark.parametrize(
    ("fmt", "matrix", "color_range"),
    [
        ("rgb24", Matrix.RGB, Range.FULL),
        ("gray", Matrix.SMPTE170M, Range.FULL),
        ("yuvj420p", Matrix.SMPTE170M, Range.FULL),
        ("nv12", Matrix.SMPTE170M, Range.LIMITED),
    ],
)
def test_formats_say_what_tags_do_not(fmt: str, matrix: Matrix, color_range: Range) -> None:
    color, _ = read_color(_picture(64, 64, fmt))
    assert (color.matrix, color.range) == (matrix, color_range)


def test_the_log_says_what_was_assumed(media: Media, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        list(Source(media("vfr.mp4")))
        list(Source(media("plain.mp4")))
    assert [record.getMessage() for record in caplog.records] == [
        "vfr.mp4 does not say how its colors are stored: read as BT.601 in limited range"
    ]


@pytest.mark.parametrize(
    ("name", "matrix"),
    [("bt601", Matrix.SMPTE170M), ("BT709", Matrix.BT709), ("bt2020nc", Matrix.BT2020_NCL), (5, Matrix.BT470BG)],
)
@pytest.mark.parametrize(("word", "color_range"), [("full", Range.FULL), ("tv", Range.LIMITED), (None, None)])
def test_colors_are_read_as_they_are_named(
    media: Media, name: object, matrix: Matrix, word: Any, color_range: Range | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a file that says BT.709 in limited range."""
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        frame = next(Source(media("plain.mp4"), Selection(matrix=name, range=word)))  # type: ignore[arg-type]
    assert (frame.color.matrix, frame.color.range) == (matrix, color_range or Range.LIMITED)
    assert not caplog.records


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"matrix": "bt708"}, "Unknown matrix 'bt708'. Expected one of bt709, "),
        ({"matrix": "rgb"}, "Expected a matrix of YUV, got rgb: leave matrix out"),
        ({"range": "wide"}, "Unknown range 'wide'. Expected one of limited, full"),
    ],
)
def test_colors_that_nothing_has_are_refused(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Selection(**wish)


def test_rgb_has_no_matrix(media: Media) -> None:
    with pytest.raises(UsageError, match="Expected YUV for a matrix, got RGB: leave matrix out"):
        next(Source(media("cover.png"), Selection(matrix=Matrix.BT709)))


@pytest.mark.parametrize(
    "name", ["plain.mp4", "vfr.mp4", "vfr.mkv", "late.mkv", "edited.mp4", "transport.ts", "odd.mkv"]
)
def test_times_are_ffprobes(media: Media, name: str) -> None:
    source = Source(media(name))
    times = [float(frame.pts * frame.time_base) for frame in source]
    assert times == pytest.approx([float(time) for time in frame_times(media(name))], abs=1e-6)
    assert source.damaged == 0


def test_frames_are_what_the_decoder_gave(media: Media) -> None:
    ours = list(Source(media("ten.mp4")))
    with av.open(str(media("ten.mp4"))) as container:
        theirs = list(container.decode(video=0))
    assert len(ours) == len(theirs)
    assert ours[3].color.depth == 10
    assert ours[3].planes[0].tolist() == theirs[3].to_ndarray()[: ours[3].height].tolist()


def test_a_part_begins_at_zero_and_ends_in_time(media: Media) -> None:
    source = Source(media("plain.mp4"), Selection(start=Fraction(1, 2), duration=Fraction(1, 2)))
    times = [frame.pts * frame.time_base for frame in source]
    assert times[0] == 0
    assert source.shift == Fraction(12, 25)  # the frame on show at half a second
    assert len(times) == 13
    assert len(list(Source(media("plain.mp4"), Selection(frames=7)))) == 7


@pytest.mark.parametrize(("start", "duration", "count"), [(0.04, 0.08, 2), (0.2, 0.12, 3), (0.68, 0.04, 1)])
def test_floats_are_the_decimal_numbers_that_they_stand_for(
    media: Media, start: float, duration: float, count: int
) -> None:
    given: Any = {"start": start, "duration": duration}
    assert len(list(Source(media("plain.mp4"), Selection(**given)))) == count
    assert Selection(**given).start == Fraction(str(start))
    assert Selection(start=np.float64(start)).start == Fraction(str(start))  # type: ignore[arg-type]


@pytest.mark.parametrize("start", ["0.2", "0.21", "0.239"])
def test_a_part_is_as_long_as_asked_wherever_it_begins(media: Media, start: str) -> None:
    assert len(list(Source(media("plain.mp4"), Selection(start=Fraction(start), duration=Fraction(1))))) == 25


@pytest.mark.parametrize("start", ["1.1", "2.0", "2.3", "3.1"])
def test_a_part_of_a_transport_stream_is_whole(media: Media, start: str) -> None:
    source = Source(media("groups.ts"))
    origin = source.container.start_time / 1_000_000
    times = [float(frame.pts * frame.time_base) - origin for frame in source]
    expected = [time for time in times if time + 0.04 > float(start) + 1e-6 and time < float(start) + 0.5 - 1e-6]
    part = Source(media("groups.ts"), Selection(start=Fraction(start), duration=Fraction(1, 2)))
    got = [float(frame.pts * frame.time_base) for frame in part]
    assert got == pytest.approx([time - expected[0] for time in expected], abs=1e-3)


def test_cover_art_is_no_film(media: Media) -> None:
    with pytest.raises(InputError, match="expected a video stream, got audio streams only"):
        Source(media("song.mp3"))


def test_a_frame_rate_is_for_what_has_no_clock(media: Media) -> None:
    with pytest.raises(UsageError, match="has timestamps: leave frame_rate out"):
        Source(media("plain.mp4"), Selection(frame_rate=Fraction(10)))


def elementary(file: Path, size: str) -> Path:
    """17 frames of H.264 without a container."""
    source = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d=0.68")
    subprocess.run(["ffmpeg", "-v", "error", *source, "-c:v", "libx264", "-preset", "ultrafast", file], check=True)
    return file


def test_elementary_streams_count_frames(media: Media, tmp_path: Path) -> None:
    frames = list(Source(elementary(tmp_path / "a.264", "96x54")))
    assert [frame.pts for frame in frames] == [48000 * index for index in range(17)]


def test_interlaced_pictures_are_refused_with_the_remedy(media: Media) -> None:
    with pytest.raises(InputError, match="use deinterlace=True"):
        list(Source(media("interlaced.mkv")))


def test_deinterlacing_keeps_count_and_time(media: Media) -> None:
    plain = frame_times(media("interlaced.mkv"))
    source = Source(media("interlaced.mkv"), Selection(deinterlace=True))
    assert [float(frame.pts * frame.time_base) for frame in source] == pytest.approx([float(time) for time in plain])


def test_a_change_of_size_midway_is_refused(media: Media, tmp_path: Path) -> None:
    small, large = (elementary(tmp_path / f"{size}.264", size) for size in ("96x54", "192x108"))
    (tmp_path / "both.264").write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(InputError, match="changes its size from 96×54 to 192×108"):
        list(Source(tmp_path / "both.264"))


@pytest.mark.parametrize("name", ["fast.mp4", "all.mkv"])
def test_damage_is_counted_or_refused(media: Media, name: str) -> None:
    file = media.cut(name, 0.6)
    source = Source(file)
    frames = list(source)
    assert 0 < len(frames) < 38
    assert source.damaged > 0
    with pytest.raises(DamagedInputError):
        list(Source(file, strict=True))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("invalid-bitstream.webm", "not one frame"),
        ("subsample_encrypted_altref.webm", "is encrypted: decrypt it first"),
        ("sample_with_sdt.ts", "not one frame|no frame"),
    ],
)
def test_what_holds_no_picture_says_so(shared: Path, file: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(Source(shared / "video/exoplayer" / file))


@pytest.mark.parametrize(("words", "kind"), [("-map 0:a", "audio"), ("-map 0:s", "subtitle")])
def test_files_without_video_say_what_they_hold(media: Media, tmp_path: Path, words: str, kind: str) -> None:
    file = tmp_path / "a.mkv"
    subprocess.run(["ffmpeg", "-v", "error", "-i", media("all.mkv"), *words.split(), "-c", "copy", file], check=True)
    with pytest.raises(InputError, match=f"{kind} streams only"):
        list(Source(file))


def test_missing_and_foreign_files_say_so(media: Media, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        Source(tmp_path / "nothing.mp4")
    with pytest.raises(InputError, match="not a video or image"):
        Source(media.folder / "text.txt")
    with pytest.raises(InputError, match="folder"):
        Source(tmp_path)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.mp4"):
        Source(tmp_path / "empty.mp4")


def test_a_source_closed_early_lets_go_of_its_file(media: Media) -> None:
    source = Source(media("plain.mp4"))
    next(source)
    source.close()
    source.close()
    assert list(source) == []


def test_a_codec_that_ffmpeg_lacks_is_named(media: Media) -> None:
    strange = media.folder / "strange.mkv"
    whole = media("vfr.mkv").read_bytes()
    assert b"V_MPEG4/ISO/AVC" in whole
    strange.write_bytes(whole.replace(b"V_MPEG4/ISO/AVC", b"V_STRANGE/CODEC"))
    with pytest.raises(InputError, match=r"strange\.mkv: no decoder"):
        Source(strange)


def test_without_the_hardware_it_decodes_in_software(media: Media, caplog: pytest.LogCaptureFixture) -> None:
    frames = list(Source(media("plain.mp4"), Selection(hwaccel="cuda")))
    assert len(frames) == 38
    assert "decoding in software" in caplog.text


def test_hardware_that_ffmpeg_does_not_know_is_refused() -> None:
    assert set(HWACCELS) == {kind.name for kind in HWDeviceType} - {"none"}
    with pytest.raises(UsageError, match=r"Unknown hwaccel 'abacus'\. Expected one of amf, cuda, d3d11va, "):
        Selection(hwaccel="abacus")


def test_a_part_of_an_image_sequence(media: Media, tmp_path: Path) -> None:
    picture = media("cover.png").read_bytes()
    for index in range(10):
        (tmp_path / f"f_{index}.png").write_bytes(picture)
    part = list(Source(tmp_path / "f_%d.png", Selection(start=Fraction(2, 10), frame_rate=Fraction(10))))
    assert [frame.pts for frame in part] == list(range(8))


@pytest.mark.parametrize("name", ["plain.mp4", "vfr.mkv", "groups.ts"])
def test_a_start_among_b_frames_shows_what_is_seen_there_and_decodes_less(
    media: Media, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures that nobody sees, and that no other is made of, are not decoded."""
    whole = list(Source(media(name)))
    decoded: list[int] = []
    check = FirstFrame.changes

    def counted(self: FirstFrame, picture: av.VideoFrame, ratio: Fraction | None) -> str | None:
        decoded.append(picture.pts or 0)
        return check(self, picture, ratio)

    monkeypatch.setattr(FirstFrame, "changes", counted)
    skipped = 0
    for index, frame in enumerate(whole[1:-2], 1):
        decoded.clear()
        start = (frame.pts - whole[0].pts) * frame.time_base + Fraction(1, 1000)
        source = Source(media(name), Selection(start=start))
        first, second = next(source), next(source)
        source.close()
        for found, expected in ((first, frame), (second, whole[index + 1])):
            assert all(np.array_equal(a, b) for a, b in zip(found.planes, expected.planes, strict=True)), (name, index)
        skipped += sum(min(decoded) <= other.pts < frame.pts for other in whole) - sum(
            pts < frame.pts for pts in decoded
        )
    assert skipped > len(whole)


def test_packets_without_a_time_are_decoded(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in transport streams, which need not state it for each."""
    packets = Source.packets

    def timeless(self: Source, tally: Tally) -> Iterator[Any]:
        for index, packet in enumerate(packets(self, tally)):
            if index % 3:
                packet.pts = None
            yield packet

    monkeypatch.setattr(Source, "packets", timeless)
    for start in range(20, 60):
        part = [frame.pts for frame in Source(media("groups.ts"), Selection(start=Fraction(start, 25), frames=9))]
        with monkeypatch.context() as patch:
            patch.setattr("vsr_plugin.stream.frame_decoder._TELLS_REFERENCES", ())
            assert part == [
                frame.pts for frame in Source(media("groups.ts"), Selection(start=Fraction(start, 25), frames=9))
            ]


def test_a_source_that_is_cancelled_reads_no_further(media: Media) -> None:
    cancelled = False
    source = Source(media("groups.ts"), cancelled=lambda: cancelled)
    next(source)
    cancelled = True
    assert len(list(source)) < 30  # what the decoder holds is a few of a hundred
    assert source.damaged == 0


def test_frames_are_cropped_as_the_header_says(tmp_path: Path) -> None:
    crop = "h264_metadata=crop_left=8:crop_top=4:crop_right=8:crop_bottom=4"
    clip = ["-f", "lavfi", "-i", "testsrc2=s=64x36:r=25:d=0.2", "-c:v", "libx264", "-qp", "0", "-bsf:v", crop]
    subprocess.run(["ffmpeg", "-v", "error", *clip, "in.mp4"], cwd=tmp_path, check=True)
    output = ["-vf", "extractplanes=y", "-f", "rawvideo", "-"]
    unaligned = ["ffmpeg", "-v", "error", "-flags", "unaligned", "-i", "in.mp4", *output]
    truth = subprocess.run(unaligned, cwd=tmp_path, check=True, capture_output=True).stdout
    with closing(Source(tmp_path / "in.mp4")) as frames:
        luma = [frame.planes[0] for frame in frames]
    assert luma[0].shape == (40, 48)  # of 64×48, in whole macroblocks
    assert b"".join(plane.tobytes() for plane in luma) == truth
