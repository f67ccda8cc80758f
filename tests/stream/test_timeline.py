"""Time: what comes out of odd clocks, and what outputs that cannot hold the times do; judged by ffprobe."""

from __future__ import annotations

import logging
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import InputError, OutputError, UsageError
from vsr_plugin.stream import Encoding, Selection, Source, upscale_file
from vsr_plugin.stream.encode import encode
from vsr_plugin.stream.packets import PacketQueue
from vsr_plugin.stream.rate import ConstantRate
from vsr_plugin.stream.timecode import later

from .conftest import FAST, HDR10, Make, Media, packets, probe, streams, video

Enlarge = Callable[..., Path]

REORDERED = Encoding(codec="libx264", options={"preset": "ultrafast", "bf": "2"})
_VIDEO = "-f lavfi -i testsrc2=s=64x48:r=25:d=1"
_SOUND = "-f lavfi -i sine=d=1"
_X264 = "-c:v libx264 -preset ultrafast -bf 2"
_RECIPES = {
    "b.mp4": f"{_VIDEO} {_SOUND} {_X264} -c:a aac",
    "plain_b.mp4": f"{_VIDEO} {_SOUND} -c:v libx264 -preset ultrafast -bf 0 -c:a aac",
    "b.ts": "-i b.mp4 -c copy",
    "b.flv": "-i b.mp4 -c copy",
    "b.avi": "-i b.mp4 -c:v copy -c:a libmp3lame",
    "divx.avi": f"{_VIDEO} {_SOUND} -c:v mpeg4 -bf 2 -c:a libmp3lame",
    "packed.avi": f"{_VIDEO} {_SOUND} -c:v libxvid -bf 2 -c:a libmp3lame",
    "keys.ts": f"{_VIDEO} {_SOUND} {_X264} -g 5 -c:a mp2",
    "keys.m2ts": f"{_VIDEO} {_SOUND} {_X264} -g 5 -c:a aac",
    "keys.mpg": f"{_VIDEO} {_SOUND} -c:v mpeg2video -g 5 -bf 2 -c:a mp2",
    "keys.avi": f"{_VIDEO} {_SOUND} -c:v mpeg4 -g 5 -bf 2 -c:a libmp3lame",
    "plain.avi": f"{_VIDEO} -c:v libx264 -preset ultrafast -bf 0",
    "wrapping.ts": "-i b.mp4 -c copy -muxdelay 0 -muxpreload 0 -mpegts_copyts 1 -output_ts_offset 95443.2",
    "fast.mkv": "-f lavfi -i testsrc2=s=64x48:r=2000:d=0.05 -c:v libx264 -preset ultrafast",
    "ntsc.mp4": f"-f lavfi -i testsrc2=s=64x48:r=30000/1001:d=1 {_X264}",
    "gaps.mp4": f"-i b.mp4 -vf select='not(mod(n\\,3))+not(mod(n\\,7))' -vsync vfr {_X264} -c:a copy",
    "silent_gaps.mp4": "-i gaps.mp4 -an -c copy",
    "gaps.mkv": "-i gaps.mp4 -c copy",
    "begins_late.mp4": "-itsoffset 0.7 -i b.mp4 -i b.mp4 -map 0:v -map 1:a -c copy",
    "begins_late.mkv": "-i begins_late.mp4 -c copy",
    "sounds_late.mp4": "-i b.mp4 -itsoffset 0.5 -i b.mp4 -map 0:v -map 1:a -c copy",
    "code.mov": "-i b.mp4 -c copy -timecode 01:02:03:04",
    "hdr_code.mov": "-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -pix_fmt yuv420p10le -c:v libx265 -preset ultrafast "
    f"-x265-params {HDR10} -timecode 01:02:03:04",
    "drop.mov": "-i ntsc.mp4 -c copy -timecode 00:00:59;20",
    "cues.mkv": "-i b.mp4 -i s.srt -map 0 -map 1 -c copy -c:s srt",
}


@pytest.fixture
def made(media: Media) -> Callable[[str], Path]:
    """``made("b.mp4")``: the file of this name, of the recipes above."""

    def make(name: str) -> Path:
        file = media.folder / f"time_{name}"
        if not file.exists():
            words = [f"time_{word}" if word in _RECIPES else word for word in _RECIPES[name].split()]
            for word in _RECIPES[name].split():
                if word in _RECIPES:
                    make(word)
            command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", *words, file.name]
            subprocess.run(command, cwd=media.folder, check=True, capture_output=True)
        return file

    return make


Made = Callable[[str], Path]


def shown(path: Path) -> list[float]:
    """When ffprobe shows each frame."""
    frames = probe(path, "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time")["frames"]
    return [float(frame.get("best_effort_timestamp_time", "nan")) for frame in frames]


def even(count: int, first: float = 0.0, rate: float = 25) -> Any:
    return pytest.approx([first + index / rate for index in range(count)], abs=6e-4)


@pytest.mark.parametrize("output", ["out.mp4", "out.mkv"])
def test_a_clock_that_jumps_back_goes_on(
    made: Made, enlarge: Enlarge, tmp_path: Path, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    twice = tmp_path / "twice.ts"
    twice.write_bytes(made("b.ts").read_bytes() * 2)
    after = enlarge(twice, output)
    assert shown(after) == even(50, 1.48)
    assert "twice.ts: its clock jumps from 2.360 s to 1.400 s: what follows goes on without a gap" in caplog.messages
    sound = packets(after, "a:0")
    assert len(sound) == len(packets(twice, "a:0"))
    times = [float(time) for time, _ in sound]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(3.45, abs=0.06)


def test_joined_files_are_not_damaged(made: Made, enlarge: Enlarge, tmp_path: Path) -> None:
    twice = tmp_path / "twice.ts"
    twice.write_bytes(made("b.ts").read_bytes() * 2)
    assert len(shown(enlarge(twice, "out.mkv", strict=True))) == 50


def test_a_part_may_lie_behind_a_jump(made: Made, enlarge: Enlarge, tmp_path: Path) -> None:
    twice = tmp_path / "twice.ts"
    twice.write_bytes(made("b.ts").read_bytes() * 2)
    assert shown(enlarge(twice, "out.mkv", start=Fraction(3, 2))) == even(14)


_SMALL = "-c:v libx264 -preset ultrafast -g 10"


def _content(path: Path, **selection: Any) -> list[tuple[bytes, Fraction]]:
    """(samples, time in the file) of each frame."""
    source = Source(path, Selection(**selection), strict=True, keep_packets=True)
    frames = [(frame.planes[0].tobytes(), frame.pts * frame.time_base) for frame in source]
    source.release()
    return [(samples, time + source.shift) for samples, time in frames]


@pytest.mark.parametrize(("name", "times"), [
    ("keys.ts", 2), ("keys.ts", 3), ("keys.m2ts", 2), ("keys.mpg", 2), ("keys.avi", 1), ("b.mp4", 1),
    ("begins_late.mp4", 1), ("begins_late.mkv", 1), ("wrapping.ts", 1), ("gaps.mkv", 1), ("b.flv", 1),
])  # fmt: skip
def test_a_part_is_what_the_whole_has_there(made: Made, tmp_path: Path, name: str, times: int) -> None:
    """Wherever it begins, and wherever the clock of the file jumps."""
    film = tmp_path / name
    film.write_bytes(made(name).read_bytes() * times)
    whole = _content(film)
    assert len(whole) == (25 * times if "gaps" not in name else 11)
    with av.open(film) as container:
        origin = Fraction(container.start_time or 0, 1_000_000)
    length = whole[-1][1] - origin
    for eighth in range(8):
        start = length * eighth / 8 + Fraction(1, 50)
        first = max((index for index, (_, time) in enumerate(whole) if time <= origin + start), default=0)
        assert _content(film, start=start) == whole[first:], eighth
        assert _content(film, start=start, frames=3) == whole[first : first + 3], eighth
        end = whole[first][1] + Fraction(1, 5)  # as many frames, if the first is not shown for longer than usual
        if 0 <= origin + start - whole[first][1] < Fraction(1, 25):
            expected = [frame for frame in whole[first:] if frame[1] < end]
            assert _content(film, start=start, duration=Fraction(1, 5)) == expected, eighth


def test_a_part_may_lie_behind_a_small_jump_of_a_long_film(make: Make, tmp_path: Path) -> None:
    """The clock goes back by less than the distance of two places at which a search would look at it."""
    one, other = (
        make(f"-f lavfi -i testsrc2=s=32x32:r=5:d=90 -vf hue=h={hue} {_SMALL} -output_ts_offset {begin}", "part.ts")
        for hue, begin in ((0, 0), (90, 89.6))
    )
    film = tmp_path / "joined.ts"
    film.write_bytes(one.read_bytes() + other.read_bytes())
    whole = _content(film)
    assert len(whole) == 900
    with av.open(film) as container:
        origin = Fraction(container.start_time or 0, 1_000_000)
    assert _content(film, start=whole[700][1] - origin, frames=3) == whole[700:703]


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "mpeg1video"])
def test_a_part_of_avi_begins_at_its_frame(make: Make, codec: str) -> None:
    """It states no times, and the frames that come out after a seek do not tell how many were lost before them."""
    film = make(f"-f lavfi -i testsrc2=s=64x48:r=25:d=3 -c:v {codec} -g 12 -bf 2", "long.avi")
    whole = _content(film)
    assert [time for _, time in whole] == [Fraction(index, 25) for index in range(75)]
    for index in range(1, 75, 6):
        assert _content(film, start=whole[index][1], frames=3) == whole[index : index + 3], index


@pytest.mark.parametrize("name", ["b.avi", "divx.avi", "plain.avi"])
def test_frames_of_avi_are_shown_in_the_order_of_their_places(made: Made, enlarge: Enlarge, name: str) -> None:
    after = enlarge(made(name), "out.mp4")
    assert shown(after) == even(25)


def test_no_packed_frame_of_avi_is_lost(made: Made, enlarge: Enlarge) -> None:
    """Two frames lie in one chunk; ffmpeg itself writes an empty one for some that libxvid delays."""
    assert b"DivX503b1393p" in made("packed.avi").read_bytes(), "the encoder's mark of packed frames"
    after = enlarge(made("packed.avi"), "out.mp4", encoding=Encoding("libx264", options={"qp": "0"}))
    first, *others = shown(after)
    assert first == 0
    assert others == even(22, 4 / 25)
    decode = "-v error -vsync passthrough -pix_fmt gray -f rawvideo -"
    before = subprocess.run(["ffmpeg", "-i", made("packed.avi"), *decode.split()], capture_output=True, check=True)
    expected = np.frombuffer(before.stdout, np.uint8).reshape(23, 48, 64)
    with av.open(after) as container:
        got = [frame.reformat(format="gray").to_ndarray() for frame in container.decode(video=0)]
    assert np.array_equal(np.stack(got)[:, ::2, ::2], expected)


_FLASH = "color=black:s=64x48:r=25:d=2,drawbox=c=white:t=fill:enable='between(t,0.99,1.19)'"
_BEEP = "aevalsrc='if(between(t,1,1.2),sin(2*PI*1000*t),0)':s=48000:d=2"


@pytest.mark.parametrize("codec", ["libx264 -preset ultrafast", "mpeg4"])
@pytest.mark.parametrize("reordered", [0, 2])
def test_a_flash_and_a_beep_stay_together_in_avi(make: Make, enlarge: Enlarge, codec: str, reordered: int) -> None:
    """AVI states no presentation times; FFmpeg's own reading shows reordered frames one or two frames late."""
    recipe = f"-f lavfi -i {_FLASH} -f lavfi -i {_BEEP} -c:v {codec} -bf {reordered} -c:a pcm_s16le"
    after = enlarge(make(recipe, f"flash_{codec[:5]}_{reordered}.avi"), "out.mkv")
    found = ["-vf", "blackdetect=d=0.1", "-af", "silencedetect=n=-30dB:d=0.1", "-f", "null", "-"]
    command = ["ffmpeg", "-nostats", "-i", str(after), *found]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    flash, beep = (re.search(rf"{what}_end: ?([\d.]+)", said) for what in ("black", "silence"))
    assert flash
    assert beep
    assert float(flash[1]) == pytest.approx(1, abs=2e-3)
    assert float(beep[1]) == pytest.approx(1, abs=2e-3)


def test_nothing_begins_before_zero(made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture) -> None:
    after = enlarge(made("wrapping.ts"), "out.mp4")
    assert len(shown(after)) == 25
    begins = {stream["codec_type"]: float(stream["start_time"]) for stream in streams(after)}
    before = {stream["codec_type"]: float(stream["start_time"]) for stream in streams(made("wrapping.ts"))}
    assert begins["audio"] == 0
    assert begins["video"] - begins["audio"] == pytest.approx(before["video"] - before["audio"], abs=1e-4)
    assert "begins at -0.541 s: all its times are moved so that it begins at 0" in caplog.text


def test_frames_closer_than_the_clock_tells_keep_apart(made: Made, enlarge: Enlarge) -> None:
    times = shown(enlarge(made("fast.mkv"), "out.mp4"))
    assert len(set(times)) == 100
    assert times == even(100, 0, 2000)


@pytest.mark.parametrize("output", ["out.ts", "out.m2ts", "out.flv", "out.nut"])
def test_a_shift_of_all_times_is_said(
    made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        after = enlarge(made("b.mp4"), output, encoding=REORDERED)
    assert shown(after) == even(25, 0.08)
    assert f"{output}: all times are 0.080 s later" in caplog.text


@pytest.mark.parametrize(
    ("output", "said"), [("out.mkv", True), ("out.flv", True), ("out.mp4", False), ("out.ts", False)]
)
def test_rounding_to_milliseconds_is_said(
    made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str, said: bool
) -> None:
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        enlarge(made("ntsc.mp4"), output)
    assert ("times are rounded to 1 ms" in caplog.text) == said


_COUNTING = [
    ("out.avi", REORDERED),
    ("out.mxf", REORDERED),
    ("out.y4m", Encoding()),
    ("out.mpg", Encoding(codec="mpeg2video")),
    ("out.vob", Encoding(codec="mpeg2video")),
    ("out.h264", REORDERED),
    ("out.avi", Encoding(codec="mpeg4", options={"bf": "2"})),
]


@pytest.mark.parametrize(("output", "encoding"), _COUNTING)
def test_outputs_of_a_constant_rate_repeat_frames(
    made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str, encoding: Encoding
) -> None:
    after = enlarge(made("gaps.mp4"), output, encoding=encoding)
    times = shown(after)
    assert len(times) == 25
    assert output == "out.h264" or times[:20] == even(20, times[0])  # an elementary stream has no times
    assert video(after)["r_frame_rate"] == "25/1"
    assert f"{output}: 14 frames repeated and 0 dropped to keep the times" in caplog.messages
    with pytest.raises(OutputError, match="holds 25 frames per second and no other times"):
        enlarge(made("silent_gaps.mp4"), f"strict_{output}", encoding=encoding, strict=True)


def test_frames_are_not_reordered_where_not_every_one_is_timed(made: Made, enlarge: Enlarge) -> None:
    assert video(enlarge(made("b.mp4"), "out.mpg", encoding=REORDERED))["has_b_frames"] == 0
    assert video(enlarge(made("b.mp4"), "out.ts", encoding=REORDERED))["has_b_frames"] > 0


@pytest.mark.parametrize(("output", "encoding"), _COUNTING)
def test_a_constant_rate_stays_as_it_is(
    made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str, encoding: Encoding
) -> None:
    after = enlarge(made("ntsc.mp4"), output, encoding=encoding)
    times = shown(after)
    assert output == "out.h264" or times[:25] == even(25, times[0], 30000 / 1001)
    assert video(after)["r_frame_rate"] == "30000/1001"
    assert "repeated" not in caplog.text
    assert "written" not in caplog.text


def test_images_hold_no_times(made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture) -> None:
    enlarge(made("silent_gaps.mp4"), "out_%02d.png", encoding=Encoding())
    assert (
        "out_%02d.png: images hold no times, and the frame at 0.120 s is not where its number says" in caplog.messages
    )
    with pytest.raises(OutputError, match="images hold no times"):
        enlarge(made("silent_gaps.mp4"), "strict_%02d.png", encoding=Encoding(), strict=True)


@pytest.mark.parametrize(("output", "encoding"), _COUNTING)
def test_a_late_start_is_kept_by_repeating_the_first_frame(
    made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str, encoding: Encoding
) -> None:
    times = shown(enlarge(made("begins_late.mp4"), output, encoding=encoding))
    assert len(times) == 43
    assert output == "out.h264" or times[:42] == even(42, times[0])  # ffprobe has no time for the last of MPEG's
    assert "the first frame is written 18 more times up to 0.700 s" in caplog.text


def test_late_sound_has_no_place_in_avi(made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture) -> None:
    enlarge(made("sounds_late.mp4"), "out.avi", encoding=REORDERED)
    assert "dropping the 0.476 s before audio stream 1 begins: avi has no place for it" in caplog.text
    with pytest.raises(OutputError, match="would be lost: avi has no place"):
        enlarge(made("sounds_late.mp4"), "strict.avi", encoding=REORDERED, strict=True)


@pytest.mark.parametrize("name", ["gaps.mp4", "begins_late.mp4"])
@pytest.mark.parametrize(
    ("output", "codec"),
    [
        ("out.mp4", "mpeg4"),
        ("out.mkv", "mpeg2video"),
        ("out.asf", "wmv2"),
        ("out.wmv", "wmv2"),
        ("out.mp4", "mpeg2video"),
    ],
)
def test_encoders_that_count_keep_the_times_of_containers_that_do_not(
    made: Made, enlarge: Enlarge, name: str, output: str, codec: str
) -> None:
    after = enlarge(made(name), output, encoding=Encoding(codec=codec))
    moved = 0.0233 if output in ("out.asf", "out.wmv") else 0  # the sound's priming
    assert shown(after) == pytest.approx([time + moved for time in shown(made(name))], abs=1e-3)


def test_frames_without_a_place_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    rate = ConstantRate("out.avi", Fraction(10), strict=False)
    times = [Fraction(0), Fraction(1, 10), Fraction(12, 100), Fraction(5, 10)]
    assert [rate.repeats(time) for time in times] == [0, 0, -1, 3]
    rate.finish()
    assert "out.avi: 3 frames repeated and 1 dropped to keep the times" in caplog.messages


@pytest.mark.parametrize(
    ("start", "code"), [(None, "01:02:03:04"), (Fraction(1, 2), "01:02:03:16"), (Fraction(24, 25), "01:02:04:03")]
)
def test_a_time_code_goes_on_where_the_cut_begins(
    made: Made, enlarge: Enlarge, start: Fraction | None, code: str
) -> None:
    after = enlarge(made("code.mov"), "out.mov", start=start)
    found = streams(after)
    assert [stream["codec_type"] for stream in found] == ["video", "audio", "data"]
    assert {stream["tags"].get("timecode") for stream in found} == {code, None}
    assert video(after)["tags"]["timecode"] == code


@pytest.mark.parametrize(
    ("name", "encoding"), [("out.mp4", Encoding(codec="libsvtav1")), ("out.mov", Encoding(codec="prores_ks"))]
)
def test_a_time_code_stays_beside_hdr_metadata(made: Made, enlarge: Enlarge, name: str, encoding: Encoding) -> None:
    after = enlarge(made("hdr_code.mov"), name, encoding=encoding)
    assert video(after)["tags"]["timecode"] == "01:02:03:04"
    assert [stream["codec_type"] for stream in streams(after)] == ["video", "data"]


@pytest.mark.parametrize("output", ["out.y4m", "out_%02d.png"])
def test_a_time_code_has_no_place_beside_images(
    made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, output: str
) -> None:
    enlarge(made("hdr_code.mov"), output, encoding=Encoding())
    assert "dropping the tag timecode of video stream 0: " in caplog.text
    with pytest.raises(OutputError, match="would be lost"):
        enlarge(made("hdr_code.mov"), f"strict_{output}", encoding=Encoding(), strict=True)


def test_a_drop_frame_time_code_leaves_out_two_numbers(
    made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture
) -> None:
    after = enlarge(made("drop.mov"), "out.mov", start=Fraction(1, 2))
    assert video(after)["tags"]["timecode"] == "00:01:00;06"
    assert "dropping" not in caplog.text, "the rate is that of the film, at which there is such a code"


@pytest.mark.parametrize(
    ("code", "frames", "rate", "expected"),
    [
        ("00:00:59;29", 1, Fraction(30000, 1001), "00:01:00;02"),
        ("00:09:59;29", 1, Fraction(30000, 1001), "00:10:00;00"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("23:59:59:24", 1, Fraction(25), "00:00:00:00"),
        ("00:00:00:00", 107892, Fraction(30000, 1001), "00:59:56:12"),
        ("00:00:00;00", 107892, Fraction(30000, 1001), "01:00:00;00"),
        ("00:00:00;00", 0, Fraction(25), None),
        ("00:00:00:25", 0, Fraction(25), None),
        ("soon", 0, Fraction(25), None),
    ],
)
def test_time_codes_count(code: str, frames: int, rate: Fraction, expected: str | None) -> None:
    assert later(code, frames / rate, rate) == expected


@pytest.mark.parametrize("frames", [6, 15, 22, 24])
@pytest.mark.parametrize(
    ("output", "encoding"),
    [
        ("out.mov", Encoding(codec="mpeg4")),
        ("out.mov", Encoding(codec="prores_ks")),
        ("out.mov", Encoding(preset="ultrafast", options={"tune": "zerolatency"})),
        ("out.mkv", FAST),
    ],
)
def test_cues_end_where_the_cut_does(
    made: Made, enlarge: Enlarge, output: str, encoding: Encoding, frames: int
) -> None:
    after = enlarge(made("cues.mkv"), output, encoding=encoding, frames=frames)
    show = ("-select_streams", "s", "-show_entries", "packet=pts_time,duration_time,size")
    cues = [cue for cue in probe(after, *show)["packets"] if int(cue["size"]) > 2]  # MP4 fills gaps with empty ones
    end = frames / 25
    expected = [(begin, min(stop, end)) for begin, stop in ((0.2, 0.7), (0.8, 1.4)) if begin < end]
    got = [(float(cue["pts_time"]), float(cue["pts_time"]) + float(cue["duration_time"])) for cue in cues]
    assert got == [pytest.approx(cue, abs=0.025) for cue in expected]


def test_a_cue_that_began_before_the_cut_is_seen_from_its_start(made: Made, enlarge: Enlarge) -> None:
    after = enlarge(made("cues.mkv"), "out.mkv", start=Fraction(2, 5))
    show = ("-select_streams", "s", "-show_entries", "packet=pts_time,duration_time")
    cues = [(float(cue["pts_time"]), float(cue["duration_time"])) for cue in probe(after, *show)["packets"]]
    # The frame on show at 0.4 s of the file, which begins at 0.023 s, is that of 0.383 s.
    assert cues == [pytest.approx((0, 0.34), abs=0.002), pytest.approx((0.44, 0.6), abs=0.002)]


@pytest.mark.parametrize("name", ["b.ts", "b.flv", "b.avi", "gaps.mkv", "begins_late.mkv", "cues.mkv"])
def test_a_pipe_is_read_once_with_all_its_streams(made: Made, enlarge: Enlarge, tmp_path: Path, name: str) -> None:
    whole = enlarge(made(name), "whole.mkv")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes(made(name).read_bytes()))
    feeder.start()
    piped = enlarge(pipe, "piped.mkv")
    feeder.join()
    assert shown(piped) == shown(whole)
    for index, stream in enumerate(streams(whole)):
        if stream["codec_type"] != "video":
            before, after = packets(whole, str(index)), packets(piped, str(index))
            assert [digest for _, digest in after] == [digest for _, digest in before]
            assert [float(time) for time, _ in after] == pytest.approx([float(time) for time, _ in before], abs=0.0011)


def test_a_pipe_that_a_shell_names_is_read(made: Made, enlarge: Enlarge) -> None:
    """As bash's ``<(command)`` does."""
    with subprocess.Popen(["cat", made("b.ts")], stdout=subprocess.PIPE) as process:
        assert process.stdout
        after = enlarge(f"/dev/fd/{process.stdout.fileno()}", "out.mkv")
    assert shown(after) == pytest.approx(shown(made("b.ts")), abs=6e-4)
    assert len(packets(after, "a")) == len(packets(made("b.ts"), "a"))


@pytest.mark.parametrize("name", ["b.ts", "b.flv"])
def test_standard_input_may_be_any_format(
    made: Made, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made(name).open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        source = Source("-", keep_packets=True)
        encode(source, tmp_path / "out.mkv", source, FAST)
    assert [stream["codec_type"] for stream in streams(tmp_path / "out.mkv")] == ["video", "audio"]
    assert shown(tmp_path / "out.mkv") == pytest.approx(shown(made(name)), abs=6e-4)


def test_an_index_at_the_end_cannot_come_through_a_pipe(nearest: Upscaler, tmp_path: Path) -> None:
    whole = (Path(__file__).parents[2] / "examples/clip.mp4").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed() -> None:
        with suppress(BrokenPipeError):
            pipe.write_bytes(whole)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with pytest.raises(InputError, match="cannot be read from a pipe"):
        upscale_file(pipe, tmp_path / "out.mkv", nearest, encoding=FAST)
    feeder.join()


def test_sound_is_not_lost_by_a_source_that_keeps_no_packets(made: Made, tmp_path: Path) -> None:
    source = Source(made("b.mp4"))
    with pytest.raises(UsageError, match="keep_packets"):
        encode(source, tmp_path / "out.mp4", source, FAST)
    assert list(tmp_path.iterdir()) == []


def test_a_queue_spills_what_it_has_no_room_for(made: Made) -> None:
    queue = PacketQueue(in_memory=300)
    with av.open(str(made("b.mp4"))) as container:
        stored = []
        for packet in container.demux():
            if packet.size:
                sides = [(side.data_type, bytes(side)) for side in packet.iter_sidedata()]
                stored.append((bytes(packet), packet.stream_index, packet.pts, packet.dts, packet.duration, sides))
                queue.put(packet)
        got = [queue.take(0), *iter(queue.get, None)]
        after = [
            (bytes(one), one.stream_index, one.pts, one.dts, one.duration,
             [(side.data_type, bytes(side)) for side in one.iter_sidedata()])
            for one in got if one is not None
        ]  # fmt: skip
        first = next(index for index, packet in enumerate(stored) if packet[1] == 0)
        stored.insert(0, stored.pop(first))
        assert after == stored
    queue.close()
    assert queue.get() is None
    queue.put(av.Packet(b"late"))
    assert queue.get() is None


@pytest.mark.parametrize("name", ["out.y4m", "out_%02d.png"])
def test_no_packets_are_kept_for_an_output_without_a_place_for_them(made: Made, tmp_path: Path, name: str) -> None:
    source = Source(made("b.mp4"), keep_packets=True)
    queue = source.queue
    assert queue is not None
    kept = []
    encode(source, tmp_path / name, source, Encoding(), on_frame=lambda _: kept.append(queue.get()))
    assert kept == [None] * 25


_OUTPUTS = [
    ("mp4", FAST), ("mp4", REORDERED), ("mov", Encoding(codec="prores_ks")), ("mkv", REORDERED), ("ts", REORDERED),
    ("flv", REORDERED), ("nut", REORDERED), ("avi", REORDERED), ("asf", REORDERED), ("mp4", Encoding(codec="mpeg4")),
    ("mkv", Encoding(codec="mpeg2video")), ("webm", Encoding(codec="libvpx", options={"deadline": "realtime"})),
    ("y4m", Encoding()),
]  # fmt: skip
_INPUTS = ["b.mp4", "b.ts", "b.flv", "b.avi", "ntsc.mp4", "gaps.mp4", "gaps.mkv", "begins_late.mp4", "sounds_late.mp4"]


def _explained(text: str, got: list[float], expected: list[float]) -> bool:
    """Whether the times are those expected but for what was said of just that difference."""
    shift, near = 0.0, 2e-5
    if said := re.search(r"all times are ([\d.]+) s (later|earlier)", text):
        shift, near = float(said[1]) * (1 if said[2] == "later" else -1), near + 5e-4
    if said := re.search(r"frames come ([\d.]+) s earlier beside", text):
        shift, near = shift - float(said[1]), near + 5e-4
    if said := re.search(r"times are rounded to ([\d.]+) ms", text):
        near += float(said[1]) / 1000
    moved = [time + shift for time in expected]
    if said := re.search(r"holds ([\d.]+) frames per second and no other times", text):
        near += 0.5 / float(said[1])
        return all(min(abs(time - one) for one in got) <= near for time in moved)
    return len(got) == len(moved) and got == pytest.approx(moved, abs=near)


@pytest.mark.parametrize("seed", [*range(24), 716])
def test_times_come_out_as_they_went_in_or_the_difference_is_said(
    made: Made, enlarge: Enlarge, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Any container × codec × rate × start × streams."""
    chance = random.Random(seed)
    name, (suffix, encoding) = chance.choice(_INPUTS), chance.choice(_OUTPUTS)
    start = chance.choice([None, None, Fraction(1, 4), Fraction(1, 2)])
    frames = chance.choice([None, None, 7])
    source = Source(made(name), Selection(start=start, frames=frames))
    expected = [float(frame.pts * frame.time_base) for frame in source]
    with caplog.at_level(logging.INFO, "vsr_plugin"):
        after = enlarge(made(name), f"out.{suffix}", encoding=encoding, start=start, frames=frames)
    got = shown(after)
    assert _explained(caplog.text, got, expected), (name, suffix, encoding.codec, start, frames)
    sound = [stream for stream in streams(after) if stream["codec_type"] == "audio"]
    if sound and suffix not in ("avi",) and start is None and "sound" not in name:
        before = [stream for stream in streams(made(name)) if stream["codec_type"] == "audio"]
        gap = got[0] - float(sound[0]["start_time"])
        assert gap == pytest.approx(expected[0] - float(before[0]["start_time"]), abs=0.03)
