"""Sound is copied without being decoded: what is missing of it is told, and what is whole is not called damaged."""

from __future__ import annotations

import struct
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.logging
import pytest

from vsr_plugin.engine import Upscaler
from vsr_plugin.stream import Source, upscale_file
from vsr_plugin.stream.containers import mov
from vsr_plugin.stream.containers.walk import BrokenError
from vsr_plugin.stream.input_file import InputFile
from vsr_plugin.stream.sound import fits, lacking

from .conftest import FAST, Make

if TYPE_CHECKING:
    from collections.abc import Iterator

_VIDEO = "-f lavfi -i testsrc2=s=64x48:r=25:d=2"
_SOUND = "-f lavfi -i sine=d=2:r=48000"
_H264 = "-c:v libx264 -preset ultrafast -g 10"
_GAP = "-af aselect=not(between(t\\,0.6\\,1.3))"


def _packets(file: Path) -> int:
    with av.open(file) as container:
        return sum(bool(packet.size) for packet in container.demux(container.streams.audio[0]))


def _damaged(file: Path) -> int:
    source = Source(file, keep_packets=True)
    with closing(source):
        assert list(source)
        source.release()
        return source.damaged


@pytest.mark.parametrize(
    ("sound", "name"),
    [
        (f"{_SOUND} {_H264} {_GAP} -c:a aac", "gap.ts"),
        (f"{_SOUND} {_H264} {_GAP} -c:a ac3", "gap.m2ts"),
        (f"{_SOUND} {_H264} {_GAP} -c:a libopus", "opus.ts"),
        (f"{_SOUND} {_H264} {_GAP} -c:a dca -strict -2", "dts.ts"),
        (f"{_SOUND} {_H264} {_GAP} -c:a ac3", "gap.mp4"),
        (f"{_SOUND} {_H264} {_GAP} -c:a aac", "aac.mp4"),
        (f"{_SOUND} {_H264} {_GAP} -c:a pcm_s16le", "gap.mov"),
        (f"{_SOUND} -c:v mpeg2video {_GAP} -c:a mp2", "gap.mpg"),
        (f"{_SOUND} {_H264} {_GAP} -c:a libmp3lame -ar 44100", "gap.flv"),
        (f"-itsoffset 0.7 {_SOUND} {_H264} -c:a libmp3lame -q:a 2", "late.mp4"),
        (f"-f lavfi -i sine=d=0.9 {_H264} -c:a eac3", "short.ts"),
        ("-f lavfi -i sine=d=3.5 -c:v wmv2 -c:a wmav2", "long.wmv"),
        ("-f lavfi -i sine=d=3.5:r=48000 -c:v mpeg2video -c:a ac3 -ac 6 -b:a 448k", "long.vob"),
        (f"-f lavfi -i sine=d=2.6 {_H264} -bf 2 -c:a aac -movie_timescale 1", "seconds.mp4"),
        (f"-f lavfi -i sine=d=1.6 {_H264} -bf 2 -c:a aac -movie_timescale 2", "halves.mp4"),
        (f"-itsoffset 0.3 -f lavfi -i sine=d=2.3 {_H264} -bf 2 -c:a aac -movie_timescale 1", "late_seconds.mp4"),
        (f"-f lavfi -i sine=d=2.3:r=48000 {_H264} -c:a pcm_s16le -movie_timescale 3", "thirds.mov"),
        (f"-f lavfi -i sine=d=0.7 {_H264} -bf 2 -c:a aac -movie_timescale 3", "edited_thirds.mp4"),
        (f"-f lavfi -i anoisesrc=d=2:r=48000 {_H264} -c:a libopus -application voip -dtx 1", "dtx.mp4"),
    ],
)
def test_sound_with_gaps_or_of_another_length_is_whole(make: Make, sound: str, name: str) -> None:
    assert _damaged(make(f"{_VIDEO} {sound}", name)) == 0


@pytest.mark.parametrize("sound", ["aac", "ac3", "pcm_s16le"])
@pytest.mark.parametrize(
    ("box", "at", "value"),
    [
        ("stsz", 4, 7 << 16),  # one size for all
        ("stsz", 8, 11),  # how many
        ("stts", 8, 9),  # how many of the first duration
        ("stts", 12, 9000),  # their duration
        ("stco", 12, 1 << 30),  # where the second chunk is
        ("stsc", 12, 50),  # packets of the first
        ("mdhd", 12, 700_000),  # ticks of a second
        ("elst", 8, 200),  # how much is shown
        ("elst", 12, 90_000),  # from where on
    ],
)
def test_an_index_of_sound_that_contradicts_itself_is_damage(
    make: Make, tmp_path: Path, sound: str, box: str, at: int, value: int
) -> None:
    name = "a.mov" if sound == "pcm_s16le" else "a.mp4"
    data = bytearray(make(f"{_VIDEO} {_SOUND} {_H264} -c:a {sound}", f"{sound}{name}").read_bytes())
    struct.pack_into(">I", data, _in_sound(data, box.encode()) + 8 + at, value)
    file = tmp_path / name
    file.write_bytes(data)
    assert _damaged(file) > 0


@pytest.mark.parametrize("speed", [0, 1 << 15])
def test_an_edit_that_stands_still_or_is_slow_is_no_damage(make: Make, tmp_path: Path, speed: int) -> None:
    data = bytearray(make(f"{_VIDEO} {_SOUND} {_H264} -c:a aac", "aaca.mp4").read_bytes())
    edits = _in_sound(data, b"elst") + 16
    (duration,) = struct.unpack_from(">I", data, edits)
    struct.pack_into(">I", data, edits, 2 * duration)
    struct.pack_into(">I", data, edits + 8, speed)
    file = tmp_path / "slow.mp4"
    file.write_bytes(data)
    assert _damaged(file) == 0


def _box(name: bytes, *body: bytes) -> bytes:
    content = b"".join(body)
    return struct.pack(">I4s", 8 + len(content), name) + content


@pytest.mark.parametrize("stts", [b"", bytes(4), struct.pack(">II", 0, 9)])
def test_tables_that_are_too_short_are_damage(stts: bytes) -> None:
    tables = _box(b"stsz", struct.pack(">III", 0, 4, 1)), _box(b"stts", stts)
    kind, clock = _box(b"hdlr", bytes(8), b"soun"), _box(b"mdhd", bytes(12), struct.pack(">II", 48000, 0))
    media = _box(b"mdia", kind, clock, _box(b"minf", _box(b"stbl", *tables)))
    for movie in (_box(b"mvhd"), _box(b"mvhd", bytes(20)) + _box(b"trak", media)):
        with pytest.raises(BrokenError):
            mov._tracks(movie)


def test_of_a_frame_of_sound_that_is_cut_the_lack_is_known() -> None:
    frame = b"\x0b\x77\0\0\x08\x40" + bytes(250)  # 64 kbit/s at 48 kHz
    assert (lacking("ac3", frame), lacking("ac3", frame[:100]), lacking("ac3", b"no")) == (0, 156, None)
    core = b"\x7f\xfe\x80\x01\xfc\x3c" + (95 << 4).to_bytes(2) + bytes(88)
    short = b"\x64\x58\x20\x25\0" + (29 << 13).to_bytes(5) + bytes(20)
    long = b"\x64\x58\x20\x25\0" + (1 << 37 | 39 << 5).to_bytes(5) + bytes(30)
    assert (lacking("dts", core + short), lacking("dts", core + long), lacking("dts", core[:90])) == (0, 0, 6)


@pytest.mark.parametrize("sound", ["libopus -b:a 96k", "dca -strict -2"])
def test_sound_whose_headers_are_overwritten_in_a_transport_stream_is_damage(
    make: Make, tmp_path: Path, sound: str
) -> None:
    whole = make(f"{_VIDEO} -f lavfi -i anoisesrc=d=2:r=48000 {_H264} -c:a {sound}", "noise.ts")
    data = whole.read_bytes()
    with av.open(whole) as container:
        stream = container.streams.audio[0].id.to_bytes(2)
    places = [at for at in range(0, len(data), 188) if bytes((data[at + 1] & 0x1F, data[at + 2])) == stream]
    lost = 0
    for at in places[40:80]:
        damaged = bytearray(data)
        damaged[at + 20 : at + 170] = b"\xff" * 150
        file = tmp_path / "a.ts"
        file.write_bytes(damaged)
        if _packets(file) != _packets(whole):
            lost += 1
            assert _damaged(file) > 0
    assert lost > 1


def _without_units(data: bytes, stream: int, units: range, *, numbered: bool) -> bytes:
    """A transport stream without some headers of a stream and what follows them; ``numbered`` as if nothing lacked."""
    kept, unit, number = bytearray(), -1, 0
    for at in range(0, len(data), 188):
        packet = bytearray(data[at : at + 188])
        if int.from_bytes(packet[1:3]) & 0x1FFF == stream:
            unit += packet[1] >> 6 & 1
            if unit in units:
                continue
            if numbered:
                packet[3] = packet[3] & 0xF0 | number
                number = (number + 1) % 16
        kept += packet
    return bytes(kept)


_CODECS = ["libopus", "dca -strict -2", "aac", "ac3", "eac3", "mp2", "libmp3lame"]


@pytest.mark.parametrize("sound", _CODECS)
def test_sound_that_is_missing_as_a_whole_is_damage(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, sound: str
) -> None:
    small = "-pes_payload_size 1000"  # units of less than 16 packets, with which their numbers would return
    whole = make(f"{_VIDEO} {_SOUND} {_H264} -c:a {sound} {small}", "small.ts")
    data = whole.read_bytes()
    with av.open(whole) as container:
        stream = container.streams.audio[0].id
    assert _damaged(whole) == 0
    file = tmp_path / "a.ts"
    for first in (3, 6):
        file.write_bytes(_without_units(data, stream, range(first, first + 1), numbered=True))
        assert _damaged(file) == 0, "a pause"
        file.write_bytes(_without_units(data, stream, range(first, first + 1), numbered=False))
        assert _damaged(file) == 1
    assert " s of sound are missing before byte " in caplog.text


def test_sound_of_joined_files_is_whole(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each counts its packets from 0; the clock goes on, leaps ahead, or begins again."""
    recipe = f"-f lavfi -i testsrc2=s=64x48:r=25:d=1 -f lavfi -i sine=d=1:r=48000 {_H264} -c:a ac3"
    parts = [make(f"{recipe} -output_ts_offset {begin}", "part.ts").read_bytes() for begin in (0, 1, 21)]
    file = tmp_path / "joined.ts"
    for first, second in ((0, 1), (0, 2), (0, 0)):
        file.write_bytes(parts[first] + parts[second])
        _damaged(file)
        assert "sound are missing" not in caplog.text


def _in_sound(data: bytearray, box: bytes) -> int:
    """Where this box of the track of sound begins."""
    for begin, end in _boxes(data, 0, len(data), b"moov", b"trak"):
        if b"soun" in data[begin:end]:
            return data.index(box, begin, end) - 4
    raise AssertionError("no sound")


def _boxes(data: bytearray, at: int, end: int, *path: bytes) -> Iterator[tuple[int, int]]:
    while at + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, at)
        if name == path[0]:
            yield from [(at, at + length)] if len(path) == 1 else _boxes(data, at + 8, at + length, *path[1:])
        at += length


@pytest.mark.parametrize(
    ("sound", "name", "mark"),
    [
        ("aac", "a.ts", b"\xff\xf1"),
        ("ac3", "a.m2ts", b"\x0b\x77"),
        ("ac3", "a.vob", b"\x0b\x77"),
        ("mp2", "a.vob", b"\xff\xfd\xe4"),
        ("libmp3lame", "a.ts", b"\xff\xfb"),
    ],
)
def test_the_last_packets_of_sound_without_their_first_bytes_are_damage(
    make: Make, tmp_path: Path, sound: str, name: str, mark: bytes
) -> None:
    video = "-c:v mpeg2video" if name == "a.vob" else _H264
    data = bytearray(make(f"{_VIDEO} {_SOUND} {video} -c:a {sound}", f"{sound}{name}").read_bytes())
    at = data.rindex(mark)
    data[at : at + 2] = b"no"
    file = tmp_path / name
    file.write_bytes(data)
    assert _damaged(file) > 0


def test_a_damaged_packet_of_sound_is_told_once(make: Make, tmp_path: Path) -> None:
    whole = make(f"{_VIDEO} {_SOUND} {_H264} -c:a libmp3lame", "mp3.mp4")
    with av.open(str(whole)) as container:
        at = [packet.pos for packet in container.demux(audio=0) if packet.size][20]
    data = bytearray(whole.read_bytes())
    assert at is not None
    data[at : at + 20] = bytes(20)
    file = tmp_path / "a.mp4"
    file.write_bytes(data)
    assert _damaged(file) == 1


def test_lost_sound_is_told_of_a_film_in_segments_too(make: Make, nearest: Upscaler, tmp_path: Path) -> None:
    data = bytearray(make(f"{_VIDEO} {_SOUND} {_H264} -c:a aac", "a.ts").read_bytes())
    at = data.rindex(b"\xff\xf1")
    data[at : at + 2] = b"no"
    file = tmp_path / "lost.ts"
    file.write_bytes(data)
    report = upscale_file(file, tmp_path / "out.mkv", nearest, encoding=FAST, resume=True)
    assert (report.frames, report.damaged > 0) == (50, True)


@pytest.mark.parametrize(
    ("codec", "form", "options"),
    [
        ("aac", "adts", "-c:a aac"),
        ("ac3", "ac3", "-c:a ac3 -ar 44100"),
        ("eac3", "eac3", "-c:a eac3"),
        ("mp2", "mp2", "-c:a mp2"),
        ("mp3", "mp3", "-c:a libmp3lame -q:a 3 -id3v2_version 0 -write_xing 0"),
        ("mp3", "mp3", "-c:a libmp3lame -ar 22050 -id3v2_version 0 -write_xing 0"),
        ("mp3", "mp3", "-c:a libmp3lame -ar 8000 -id3v2_version 0 -write_xing 0"),
    ],
)
def test_frames_of_sound_fill_what_the_encoder_wrote(make: Make, codec: str, form: str, options: str) -> None:
    data = make(f"{_SOUND} {options} -f {form}", f"{abs(hash(options))}.{form}").read_bytes()
    assert fits(codec, data)
    assert not fits(codec, data + b"\0")
    assert not fits(codec, data[1:])


def test_errors_that_a_demuxer_logs_are_damage_of_a_film_in_segments_too(
    make: Make, nearest: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make(f"{_VIDEO} {_SOUND} {_H264} -c:a aac", "logged.mkv")
    packets = InputFile.packets

    def logged(read: InputFile, *arguments: Any) -> Iterator[Any]:
        for packet in packets(read, *arguments):
            av.logging.log(av.logging.ERROR, "matroska,webm", "broken")
            yield packet

    monkeypatch.setattr(InputFile, "packets", logged)
    length = Fraction(1, 2)
    report = upscale_file(file, tmp_path / "out.mkv", nearest, encoding=FAST, segment_length=length, resume=True)
    assert len(report.segments) > 1
    assert report.damaged > 0


def test_sound_in_which_no_frame_is_found_is_dropped_with_the_true_reason(
    make: Make, nearest: Upscaler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray(make(f"{_VIDEO} {_SOUND} {_H264} -c:a mp2", "mp2.ts").read_bytes())
    for at in range(0, len(data), 188):
        if data[at + 2] == 1 and data[at + 1] & 0x1F == 1:  # of the sound
            start = at + 5 + data[at + 4] if data[at + 3] & 0x20 else at + 4
            start += 9 + data[start + 8] if data[at + 1] & 0x40 else 0
            data[start : at + 188] = b"\x55" * (at + 188 - start)
    file = tmp_path / "headless.ts"
    file.write_bytes(data)
    upscale_file(file, tmp_path / "out.mkv", nearest, encoding=FAST)
    assert "its parameters are not in the file" in caplog.text
