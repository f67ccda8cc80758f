"""Nothing of an input is lost without a word, and nothing is called damaged that is whole."""

from __future__ import annotations

import itertools
import random
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
from PIL import Image

from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import DamagedInputError, InputError
from vsr_plugin.stream import Selection, Source, upscale_file
from vsr_plugin.stream.containers.gif import fits
from vsr_plugin.stream.damage import Damage

from .conftest import FAST, Make, Media, frame_times, piped

_FILM = "-f lavfi -i testsrc2=s=64x48:r=25:d=1.6 -f lavfi -i sine=d=1.6"
_H264 = "-c:v libx264 -preset ultrafast -bf 2 -g 10 -c:a aac -b:a 32k"
_VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10 -c:a libopus -b:a 32k"
_MPEG2 = "-c:v mpeg2video -g 10 -bf 2 -c:a mp2"
_TRACKS, _CLUSTER = b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"  # elements of Matroska
_KEY = f"-encryption_scheme cenc-aes-ctr -encryption_key {'76' * 16} -encryption_kid {'a7' * 16}"


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (f"{_FILM} {_H264}", "a.mp4"),
        (f"{_FILM} {_H264}", "a.mkv"),
        (f"{_FILM} {_H264}", "a.mov"),
        (f"{_FILM} {_H264}", "a.ts"),
        (f"{_FILM} {_H264}", "a.m2ts"),
        (f"{_FILM} {_H264}", "a.flv"),
        (f"{_FILM} {_H264}", "a.nut"),
        (f"{_FILM} {_H264} -write_index 0", "unindexed.nut"),
        (f"{_FILM} {_MPEG2} -b:v 1M", "b.nut"),
        (f"{_FILM} {_H264} -movflags frag_keyframe+empty_moov", "fragments.mp4"),
        (f"{_FILM} {_H264} -movflags frag_every_frame+empty_moov+default_base_moof+dash", "dash.mp4"),
        (f"{_FILM} {_H264} -live 1", "live.mkv"),
        (f"{_FILM} {_H264} -reserve_index_space 4096", "cues.mkv"),
        (f"{_FILM} {_H264} -vf select='not(mod(n\\,3))+not(mod(n\\,7))' -vsync vfr", "vfr.mkv"),
        (f"{_FILM} {_H264} -vf select='lt(n\\,2)+gt(n\\,35)' -vsync vfr", "sparse.mp4"),
        (f"{_FILM} -t 3.1 {_H264} -shortest", "odd.mkv"),
        (f"{_FILM} {_VP9}", "a.webm"),
        (f"{_FILM} -c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -c:a libopus", "altref.webm"),
        (f"{_FILM} -c:v libvpx-vp9 -auto-alt-ref 1 -lag-in-frames 16 -cpu-used 8 -c:a libopus", "altref9.webm"),
        (f"{_FILM} {_MPEG2}", "a.ts"),
        (f"{_FILM} {_MPEG2}", "a.mpg"),
        (f"{_FILM} {_MPEG2}", "a.vob"),
        (f"{_FILM} -c:v mpeg4 -bf 2 -c:a mp3", "a.avi"),
        (f"{_FILM} -c:v libxvid -bf 2 -c:a mp3", "xvid.avi"),
        (f"{_FILM} -c:v mjpeg -c:a pcm_s16le", "a.mov"),
        (f"{_FILM} -c:v wmv2 -c:a wmav2", "a.wmv"),
        (f"{_FILM} -c:v msmpeg4 -b:v 2M -c:a pcm_s16le -packet_size 1600", "small.asf"),
        (f"{_FILM} -c:v libtheora -c:a libvorbis", "a.ogv"),
        (f"{_FILM} -c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=10:open-gop=1", "hevc.mkv"),
        (f"{_FILM} -c:v ffv1 -level 3 -c:a flac", "a.mkv"),
        ("-f lavfi -i testsrc2=s=64x48:r=25:d=1 -pix_fmt yuv420p", "a.y4m"),
        ("-f lavfi -i testsrc2=s=64x48:r=25:d=1 -c:v libx264", "a.h264"),
        ("-f lavfi -i testsrc2=s=64x48:r=10:d=1", "a.gif"),
    ],
)  # fmt: skip
def test_whole_files_are_whole(make: Make, tmp_path: Path, recipe: str, name: str) -> None:
    file = make(recipe, name)
    half = Fraction(1, 2)
    for part in (None, Selection(start=Fraction(1, 3)), Selection(start=half, duration=half), Selection(frames=3)):
        source = Source(file, part)
        assert list(source)
        assert source.damaged == 0, part


@pytest.mark.skipif(shutil.which("mkvpropedit") is None, reason="no mkvpropedit on the path")
@pytest.mark.parametrize(("how", "name"), [(_H264, "plain.mkv"), (f"{_H264} -live 1", "stream.mkv"), (_VP9, "a.webm")])
def test_a_file_whose_list_of_tracks_an_editor_moved_is_whole(make: Make, tmp_path: Path, how: str, name: str) -> None:
    file = tmp_path / name
    shutil.copy(make(f"{_FILM} {how}", name), file)
    subprocess.run(["mkvpropedit", "-q", file, "--edit", "track:a1", "--set", f"name={'long ' * 200}"], check=True)
    data = file.read_bytes()
    assert data.rindex(_TRACKS) > data.rindex(_CLUSTER)
    frames, damaged = _read(file)
    assert (frames, damaged) == (len(frame_times(file)), 0)
    at, lost = len(data) // 2, len(data) // 4
    file.write_bytes(data[:at] + bytes(lost) + data[at + lost :])
    assert _read(file)[1] > 0


@pytest.mark.parametrize("name", ["cut.mkv", "cut.mp4", "cut.mov", "cut.ts", "cut.webm"])
def test_copies_that_begin_in_mid_stream_are_whole(make: Make, name: str) -> None:
    source = make(f"{_FILM} {_VP9 if name == 'cut.webm' else _H264}", f"whole.{name[4:]}")
    file = make(f"-ss 0.7 -i {source} -c copy", name)
    assert _read(file)[1] == 0


@pytest.mark.parametrize("codec", ["-c:v libx264 -x264-params open-gop=1:bframes=3", "-c:v mpeg2video -bf 2", "hevc"])
@pytest.mark.parametrize("left", [0.3, 0.6])
def test_transport_streams_recorded_from_anywhere_are_whole(
    make: Make, tmp_path: Path, codec: str, left: float
) -> None:
    hevc = "-c:v libx265 -preset ultrafast -x265-params log-level=error:open-gop=1:bframes=4:b-pyramid=1:keyint=10"
    whole = make(f"{_FILM} {hevc if codec == 'hevc' else codec} -g 10 -c:a ac3", f"{codec.split()[-1][-5:]}.ts")
    data = whole.read_bytes()
    file = tmp_path / "from.ts"
    file.write_bytes(data[int(len(data) // 188 * left) * 188 :])
    assert _read(file)[1] == 0


def _read(file: Path, selection: Selection | None = None) -> tuple[int, int]:
    source = Source(file, selection)
    return len(list(source)), source.damaged


def _cut(make: Make, tmp_path: Path, recipe: str, name: str, left: float) -> tuple[Path, Path]:
    whole = make(recipe, name)
    cut = tmp_path / name
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * left)])
    return whole, cut


@pytest.mark.parametrize("left", [0.4513, 0.8013, 0.951])
@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (f"{_FILM} {_H264}", "a.mkv"),
        (f"{_FILM} {_H264} -live 1", "live.mkv"),
        (f"{_FILM} {_VP9}", "a.webm"),
        (f"{_FILM} {_H264} -movflags faststart", "fast.mp4"),
        (f"{_FILM} {_H264} -movflags frag_keyframe+empty_moov", "fragments.mp4"),
        (f"{_FILM} {_H264}", "a.ts"),
        (f"{_FILM} {_MPEG2}", "b.ts"),
        (f"{_FILM} {_H264}", "a.m2ts"),
        (f"{_FILM} {_H264}", "a.flv"),
        (f"{_FILM} {_H264}", "a.nut"),
        (f"{_FILM} {_H264} -write_index 0", "unindexed.nut"),
        (f"{_FILM} {_MPEG2} -b:v 1M", "b.nut"),
        (f"{_FILM} -c:v mpeg4 -bf 2 -c:a mp3", "a.avi"),
        (f"{_FILM} -c:v wmv2 -c:a wmav2", "a.wmv"),
        (f"{_FILM} -c:v libtheora -c:a libvorbis", "a.ogv"),
        (f"{_FILM} {_MPEG2}", "a.vob"),
        (f"{_FILM} {_MPEG2} -c:a pcm_s16le -ar 48000", "a.mxf"),
        (f"{_FILM} -an -c:v libvpx -deadline realtime", "a.ivf"),
        ("-f lavfi -i testsrc2=s=64x48:r=10:d=1", "a.gif"),
        ("-f lavfi -i testsrc2=s=64x48:r=10:d=1", "a.apng"),
    ],
)
def test_what_is_cut_is_damaged(make: Make, tmp_path: Path, recipe: str, name: str, left: float) -> None:
    whole, cut = _cut(make, tmp_path, recipe, name, left)
    assert _read(cut)[1] > 0
    with pytest.raises(DamagedInputError):
        list(Source(cut, strict=True))
    for file, damaged in ((cut, True), (whole, False)):
        with piped(file.read_bytes(), tmp_path / "pipe") as pipe:
            assert (_read(pipe)[1] > 0) == damaged
        with file.open("rb") as opened, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", SimpleNamespace(buffer=opened))
            assert (_read(Path("-"))[1] > 0) == damaged


@pytest.mark.parametrize(
    ("recipe", "name", "mark"),
    [
        (f"{_FILM} -c:v libtheora -c:a libvorbis", "a.ogv", b"OggS"),
        (f"{_FILM} {_MPEG2} -c:a pcm_s16le -ar 48000", "a.mxf", b"\x06\x0e\x2b\x34"),
        (f"{_FILM} {_H264} -cluster_time_limit 300", "a.mkv", b"\x1f\x43\xb6\x75"),
        ("-f lavfi -i testsrc2=s=64x48:r=10:d=1.6", "a.apng", b"fdAT"),
    ],
)
def test_damage_counts_up_to_the_end_of_the_part(
    make: Make, tmp_path: Path, recipe: str, name: str, mark: bytes
) -> None:
    data = make(recipe, name).read_bytes()
    file = tmp_path / name
    file.write_bytes(_without(data, mark, data.count(mark) // 2))
    for part, damaged in ((None, True), (Fraction(7, 5), True), (Fraction(1, 5), False)):
        assert (_read(file, Selection(duration=part))[1] > 0) == damaged, part
        with piped(file.read_bytes(), tmp_path / "pipe") as pipe:
            assert (_read(pipe, Selection(duration=part))[1] > 0) == damaged, part


def test_a_clock_that_jumps_is_damage_where_files_are_not_joined(make: Make, tmp_path: Path) -> None:
    data = bytearray(make(f"{_FILM} {_H264} -cluster_time_limit 300", "a.mkv").read_bytes())
    times = [match.start() + 14 for match in re.finditer(b"\x1f\x43\xb6\x75.{8}\xe7\x82", data, re.DOTALL)]
    assert len(times) > 2
    for cluster, change in itertools.product(times[:3], (0x02, 0x04, 0x40)):
        changed = data.copy()
        changed[cluster] ^= change
        file = tmp_path / "jumps.mkv"
        file.write_bytes(changed)
        for part in (None, Selection(duration=Fraction(7, 5))):
            frames, damaged = _read(file, part)
            assert damaged > 0 or (part and frames == 35), (cluster, change, part, frames)


def _without(data: bytes, mark: bytes, number: int) -> bytes:
    """The data with one byte of the ``number``-th mark changed."""
    at = [match.start() for match in re.finditer(re.escape(mark), data)][number]
    return data[:at] + bytes([data[at] ^ 0x05]) + data[at + 1 :]


def test_lost_clusters_blocks_and_groups_of_matroska_are_found(make: Make, tmp_path: Path) -> None:
    whole = make(f"{_FILM} {_H264}", "a.mkv")
    frames, _ = _read(whole)
    data = whole.read_bytes()
    cluster = data.index(b"\x1f\x43\xb6\x75")
    first = data.index(b"\xa3", cluster)  # SimpleBlock: its name, its size, its track
    size = 9 - data[first + 1].bit_length()
    for number, change in enumerate(
        (
            _without(data, b"\x1f\x43\xb6\x75", 1),
            data[:first] + b"\xa5" + data[first + 1 :],
            data[: first + 1 + size] + b"\x8f" + data[first + 2 + size :],  # another track
            data[: first + 1] + b"\x01" + data[first + 2 :],  # another size
        )
    ):
        file = tmp_path / f"{number}.mkv"
        file.write_bytes(change)
        found, damaged = _read(file)
        assert found <= frames, number
        assert damaged > 0, number


def test_frames_missing_from_the_end_of_an_index_are_found(make: Make, tmp_path: Path) -> None:
    """The media lie behind the index, and the last of them are gone, between two frames."""
    whole = make(f"{_FILM} {_H264} -an -movflags faststart", "silent.mp4")
    with Source(whole).container as container:
        stream = container.streams.video[0]
        positions = sorted(entry.pos for entry in stream.index_entries)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: positions[-3]])
    frames, damaged = _read(cut)
    assert (frames, damaged) == (37, 1)


def test_a_frame_that_decodes_to_nothing_is_missed(make: Make, tmp_path: Path) -> None:
    """VP8 says in one bit whether a frame is shown."""
    whole = make(f"{_FILM} -c:v libvpx -deadline realtime -g 10 -an", "vp8.webm")
    data = bytearray(whole.read_bytes())
    with Source(whole).container as container:
        packet = next(packet for index, packet in enumerate(container.demux(video=0)) if index == 13)
        at = bytes(data).index(bytes(packet)[:40])
    data[at] &= ~0x10 & 0xFF
    file = tmp_path / "hidden.webm"
    file.write_bytes(data)
    assert _read(file) == (39, 1)


def test_what_leads_to_a_lost_key_frame_is_missed(make: Make, tmp_path: Path) -> None:
    whole = make(f"{_FILM} {_H264} -an", "silent.mkv")
    data = bytearray(whole.read_bytes())
    with Source(whole).container as container:
        packet = bytes(next(container.demux(video=0)))
    at = bytes(data).index(packet)
    while at < len(data) and data[at + 4] & 0x1F != 5:  # NAL units: the one with the key frame gets another type
        at += 4 + int.from_bytes(data[at : at + 4])
    data[at + 4] = 0
    file = tmp_path / "keyless.mkv"
    file.write_bytes(data)
    frames, damaged = _read(file)
    assert frames < 40
    assert damaged > 0


@pytest.mark.parametrize("how", ["file", "redirected", "pipe"])
def test_y4m_that_ends_within_a_frame_is_damaged(
    make: Make, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make("-f lavfi -i testsrc2=s=64x48:r=25:d=0.4 -pix_fmt yuv420p", "a.y4m").read_bytes()
    for left, expected in ((0, (10, 0)), (1, (9, 1)), (4000, (9, 1)), (4614, (9, 0)), (4616, (8, 1))):
        file = tmp_path / f"{left}.y4m"
        file.write_bytes(data[: len(data) - left])
        if how == "pipe":
            with subprocess.Popen(["cat", str(file)], stdout=subprocess.PIPE) as process:
                monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=process.stdout))
                assert _read(Path("-")) == expected, left
        elif how == "redirected":
            with file.open("rb") as opened:
                monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=opened))
                assert _read(Path("-")) == expected, left
        else:
            assert _read(file) == expected, left


def test_chunks_of_avi_that_are_not_read_are_damage(make: Make, tmp_path: Path) -> None:
    """Its index says how many there are."""
    data = make(f"{_FILM} -c:v mpeg4 -bf 0 -an", "silent.avi").read_bytes()
    file = tmp_path / "lost.avi"
    at = [match.start() for match in re.finditer(b"00dc", data)][17]
    file.write_bytes(data[:at] + b"xxxx" + data[at + 4 :])
    frames, damaged = _read(file)
    assert frames < 40
    assert damaged > 0


@pytest.mark.parametrize("number", [3, 6, 9])
def test_a_frame_of_asf_that_is_not_continued_is_damage(make: Make, tmp_path: Path, number: int) -> None:
    """Each payload says of which frame it is and where in it it belongs."""
    data = bytearray(make(f"{_FILM} -c:v wmv2 -c:a wmav2", "a.wmv").read_bytes())
    begin = data.index(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")) + 50
    data[begin + 3200 * number : begin + 3200 * (number + 1)] = data[begin + 3200 * (number - 1) :][:3200]
    file = tmp_path / "twice.wmv"
    file.write_bytes(data)
    assert _read(file)[1] > 0
    with piped(file.read_bytes(), tmp_path / "pipe") as pipe:
        assert _read(pipe)[1] > 0


def test_a_cut_image_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "cut.jpg"
    Image.effect_noise((200, 160), 60).save(file, quality=90)
    assert _read(file) == (1, 0)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    assert _read(file) == (1, 1)


def test_what_follows_a_whole_image_is_no_damage(tmp_path: Path) -> None:
    file = tmp_path / "more.jpg"
    Image.effect_noise((64, 48), 60).save(file)
    file.write_bytes(file.read_bytes() + b"more \xff\xda of another kind")
    assert _read(file) == (1, 0)


def test_damage_is_counted_by_several_threads() -> None:
    counts = [0]

    class Slow(Damage):
        @property
        def count(self) -> int:
            found = counts[-1]
            time.sleep(1e-4)  # others run
            return found

        @count.setter
        def count(self, value: int) -> None:
            counts.append(value)

    damage = Slow("film.mkv", strict=False, quiet=True)

    def add() -> None:
        for _ in range(20):
            damage.add("a hole")

    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(add)
    assert damage.count == 80


def test_empty_packets_end_nothing(make: Make) -> None:
    """Theora codes by them that the frame before is shown on."""
    file = make(f"{_FILM} -c:v libtheora -c:a libvorbis", "a.ogv")
    source = Source(file)
    times = [float(frame.pts * frame.time_base) for frame in source]
    assert times == pytest.approx([float(time) for time in frame_times(file)], abs=1e-6)
    assert times[-1] > 1.5


def test_encrypted_streams_are_refused(make: Make) -> None:
    with pytest.raises(InputError, match=r"cenc\.mp4 is encrypted: decrypt it first"):
        list(Source(make(f"{_FILM} {_H264} {_KEY}", "cenc.mp4")))


def test_a_file_of_a_header_alone_holds_no_frame(make: Make, tmp_path: Path) -> None:
    data = make(f"{_FILM} {_H264} -movflags frag_keyframe+empty_moov", "fragments.mp4").read_bytes()
    file = tmp_path / "init.mp4"
    file.write_bytes(data[: data.index(b"moof") - 4])
    with pytest.raises(InputError, match=r"init\.mp4: there are no frames in this file"):
        list(Source(file))


def test_a_header_that_the_decoder_does_not_take_is_one_error(make: Make, tmp_path: Path) -> None:
    whole = make(f"{_FILM} -c:v ffv1 -level 3 -c:a flac", "a.mkv")
    with Source(whole).container as container:
        header = container.streams.video[0].codec_context.extradata
    assert header
    file = tmp_path / "header.mkv"
    file.write_bytes(whole.read_bytes().replace(header, header[:8] + b"\xff" * (len(header) - 8)))
    with pytest.raises(DamagedInputError, match=r"header\.mkv: the decoder ffv1 does not take what the header says"):
        list(Source(file))


@pytest.mark.parametrize("start", [Fraction(1, 5), Fraction(6, 5)])
def test_a_part_of_a_cut_file_is_damaged_where_it_lacks_frames(make: Make, tmp_path: Path, start: Fraction) -> None:
    for recipe, name in ((f"{_FILM} {_H264}", "a.mkv"), (f"{_FILM} {_H264} -movflags faststart", "fast.mp4")):
        _, cut = _cut(make, tmp_path, recipe, name, 0.9)
        source = Source(cut, Selection(start=start))
        assert list(source)
        assert source.damaged > 0, name
        source = Source(cut, Selection(start=Fraction(1, 5), duration=Fraction(2, 5)))
        assert list(source)
        assert source.damaged == 0, name


def test_a_duration_tag_of_another_file_is_no_damage(media: Media, tmp_path: Path) -> None:
    cut = tmp_path / "cut.nut"
    whole = tmp_path / "whole.mkv"
    subprocess.run(("ffmpeg", "-v", "error", "-i", media("plain.mp4"), "-c", "copy", whole), check=True)
    subprocess.run(("ffmpeg", "-v", "error", "-i", whole, "-c", "copy", "-t", "0.2", cut), check=True)
    source = Source(cut)
    assert len(list(source)) > 0
    assert source.damaged == 0


@pytest.mark.parametrize("order", [("near.ts", "far.ts"), ("far.ts", "near.ts")])
def test_files_that_were_joined_are_whole_whichever_way_the_clock_jumps(
    make: Make, tmp_path: Path, order: tuple[str, str]
) -> None:
    near = make(f"{_FILM} {_H264}", "near.ts")
    parts = {"near.ts": near, "far.ts": make(f"-i {near} -c copy -output_ts_offset 100", "far.ts")}
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts[name].read_bytes() for name in order))
    assert _read(joined) == (80, 0)


@pytest.mark.parametrize(("name", "recipe"), [
    ("a.mp4", f"{_FILM} {_H264}"), ("a.mov", f"{_FILM} {_H264} -movflags faststart"),
    ("fragments.mp4", f"{_FILM} {_H264} -movflags frag_keyframe+empty_moov"), ("a.flv", f"{_FILM} {_H264}"),
    ("a.mkv", f"{_FILM} {_H264}"), ("a.nut", f"{_FILM} {_H264}"), ("a.wmv", f"{_FILM} -c:v wmv2 -c:a wmav2"),
    ("a.mxf", f"{_FILM} {_MPEG2} -c:a pcm_s16le -ar 48000"),
    ("a.ivf", f"{_FILM} -an -c:v libvpx -deadline realtime"),
    ("a.apng", "-f lavfi -i testsrc2=s=64x48:r=10:d=1"),
])  # fmt: skip
def test_a_film_joined_to_one_of_a_format_that_has_one_is_damage(
    make: Make, tmp_path: Path, name: str, recipe: str
) -> None:
    joined = tmp_path / name
    joined.write_bytes(make(recipe, name).read_bytes() * 2)
    assert _read(joined)[1] > 0
    with pytest.raises(DamagedInputError):
        list(Source(joined, strict=True))


def test_all_images_of_a_joined_gif_are_read_or_missed(make: Make, tmp_path: Path) -> None:
    """FFmpeg reads on in one of some frames, and not in a still one."""
    film = make("-f lavfi -i testsrc2=s=64x48:r=10:d=1", "joined.gif")
    (tmp_path / "two.gif").write_bytes(film.read_bytes() * 2)
    assert _read(tmp_path / "two.gif") == (20, 0)
    Image.effect_noise((64, 48), 60).save(tmp_path / "still.gif")
    (tmp_path / "still.gif").write_bytes((tmp_path / "still.gif").read_bytes() * 2)
    assert _read(tmp_path / "still.gif") == (1, 1)


def test_bytes_of_a_gif_that_are_overwritten_are_damage(make: Make, tmp_path: Path) -> None:
    """Even where the blocks fit again behind them, by chance: the codes do not."""
    data = make("-f lavfi -i testsrc2=s=64x48:r=10:d=1", "written.gif").read_bytes()
    file = tmp_path / "hole.gif"
    for seed in (*range(8), 37):
        damaged = bytearray(data)
        chance = random.Random(seed)
        at = chance.randrange(900, len(data) - 200)
        damaged[at : at + 150] = chance.randbytes(150)
        file.write_bytes(damaged)
        assert _read(file)[1] > 0, seed


def _lzw(codes: list[tuple[int, int]]) -> bytes:
    """(code, its bits), the first in the lowest bits."""
    value = at = 0
    for code, bits in codes:
        value, at = value | code << at, at + bits
    return value.to_bytes((at + 7) // 8, "little")


@pytest.mark.parametrize(
    ("codes", "more", "whole"),
    [
        ([(4, 3), (1, 3), (6, 3), (6, 3), (5, 4)], b"", True),  # a code may name what it makes itself
        ([(4, 3), (1, 3), (6, 3), (6, 3), (5, 4)], b"\0", True),
        ([(4, 3), (1, 3), (6, 3), (6, 3)], b"", True),  # without its end
        ([(1, 3), (4, 3), (2, 3), (5, 3)], b"", True),
        ([(4, 3), (1, 3), (7, 3), (5, 3)], b"", False),
        ([(4, 3), (6, 3), (5, 3)], b"", False),
        ([(4, 3), (1, 3), (5, 3)], b"\0\0\0", False),
    ],
)
def test_codes_of_a_gif_are_in_their_table(codes: list[tuple[int, int]], more: bytes, *, whole: bool) -> None:
    assert fits(_lzw(codes) + more, 2) == whole


@pytest.mark.parametrize("colors", [2, 16, 256])
def test_a_gif_whose_table_is_full_is_whole(tmp_path: Path, colors: int) -> None:
    noise = Image.effect_noise((300, 200), 60).quantize(colors)
    noise.save(tmp_path / "full.gif")
    noise.save(tmp_path / "rows.gif", interlace=1)
    assert [_read(tmp_path / name) for name in ("full.gif", "rows.gif")] == [(1, 0)] * 2


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x55\xaa"])
def test_bytes_of_a_transport_stream_that_are_overwritten_are_damage(make: Make, tmp_path: Path, fill: bytes) -> None:
    data = bytearray(make(f"{_FILM} {_H264}", "a.ts").read_bytes())
    file = tmp_path / "hole.ts"
    for packet in range(40, 60, 4):
        damaged = bytearray(data)
        damaged[packet * 188 - 60 : packet * 188 + 90] = (fill * 150)[:150]
        file.write_bytes(damaged)
        assert _read(file)[1] > 0, packet


def test_a_frame_of_a_transport_stream_without_its_header_is_damage(make: Make, tmp_path: Path) -> None:
    data = bytearray(make(f"{_FILM} {_H264}", "a.ts").read_bytes())
    starts = [at for at in range(188 * 40, len(data), 188) if data[at + 1] & 0x41 == 0x41 and data[at + 2] == 0]
    at = data.index(b"\0\0\1\xe0", starts[0])
    assert at < starts[0] + 188
    data[at : at + 4] = b"none"
    file = tmp_path / "headless.ts"
    file.write_bytes(data)
    assert _read(file)[1] > 0


def test_zeros_after_a_transport_stream_are_none_and_between_its_packets_are_damage(make: Make, tmp_path: Path) -> None:
    data = make(f"{_FILM} {_H264}", "a.ts").read_bytes()
    padded, holed = tmp_path / "padded.ts", tmp_path / "holed.ts"
    padded.write_bytes(data + bytes(188 * 300))
    holed.write_bytes(data[: 188 * 50] + bytes(188 * 2) + data[188 * 52 :])
    assert _read(padded) == (40, 0)
    assert _read(holed)[1] > 0


def test_sound_that_is_missing_from_a_program_stream_is_damage(make: Make, nearest: Upscaler, tmp_path: Path) -> None:
    data = make(f"{_FILM} {_MPEG2} -b:v 1M", "a.mpg").read_bytes()
    sound = [at for at in range(0, len(data), 2048) if b"\0\0\1\xc0" in data[at : at + 64]]
    file = tmp_path / "hole.mpg"
    first, second = sound[len(sound) // 2 :][:2]
    file.write_bytes(data[:first] + data[first + 2048 : second] + data[second + 2048 :])
    assert upscale_file(file, tmp_path / "out.mkv", nearest, encoding=FAST).damaged > 0


@pytest.mark.parametrize("codec", ["libx264", "libx265 -x265-params log-level=error"])
def test_a_frame_that_loses_its_first_bytes_in_a_transport_stream_is_damage(
    make: Make, tmp_path: Path, codec: str
) -> None:
    data = bytearray(make(f"{_FILM} -bf 0 -c:v {codec} -c:a mp2", f"{codec[:7]}.ts").read_bytes())
    header = [found.start() for found in re.finditer(b"\0\0\1\xe0", data)][20]
    frame = header + 9 + data[header + 8]
    data[frame : frame + 16] = b"\x55" * 16
    file = tmp_path / "lost.ts"
    file.write_bytes(data)
    assert _read(file)[1] > 0


@pytest.mark.parametrize(
    ("sound", "name", "mark"),
    [
        ("ac3", "sound.ts", b"\x0b\x77"),
        ("ac3", "sound.m2ts", b"\x0b\x77"),
        ("ac3", "sound.vob", b"\x0b\x77"),
        ("ac3", "sound.mp4", b"\x0b\x77"),
        ("libmp3lame -ac 1 -ar 44100", "sound.flv", b"\xff\xfb"),
        ("libmp3lame -ac 1", "sound.mp4", b"\xff\xfb"),
        ("libopus", "sound.ts", b"\x7f\xe0"),
    ],
)
def test_packets_of_sound_without_their_first_bytes_are_damage(
    make: Make, nearest: Upscaler, tmp_path: Path, sound: str, name: str, mark: bytes
) -> None:
    form = "" if name.endswith(".flv") else "-ar 48000"
    video = "flv" if name.endswith(".flv") else "mpeg2video"
    whole = make(f"{_FILM} -c:v {video} {form} -c:a {sound}", f"{sound[:4].strip()}{name}")
    data = bytearray(whole.read_bytes())
    marks = [found.start() for found in re.finditer(re.escape(mark), data)]
    file = tmp_path / name
    for chosen in marks[len(marks) // 3], marks[len(marks) // 2]:
        damaged = data.copy()
        damaged[chosen : chosen + 2] = b"no"
        file.write_bytes(damaged)
        lost = _sounds(whole) - _sounds(file)
        report = upscale_file(file, tmp_path / "out.mkv", nearest, encoding=FAST, overwrite=True)
        assert report.damaged > 0 or lost == 0, chosen


def _sounds(file: Path) -> int:
    with av.open(file) as container:
        return sum(packet.size > 0 for packet in container.demux(audio=0))


def test_an_avi_file_cut_before_or_within_the_head_of_a_chunk_is_damaged(make: Make, tmp_path: Path) -> None:
    data = make(f"{_FILM} -c:v mpeg4 -c:a mp3", "chunk.avi").read_bytes()
    at = [found.start() for found in re.finditer(b"00dc", data)][20]
    file = tmp_path / "chunk.avi"
    for more in (0, 3, 8):
        file.write_bytes(data[: at + more])
        assert _read(file)[1] == 1


def test_a_stream_of_sound_that_the_header_of_an_avi_lost_is_damage(make: Make, tmp_path: Path) -> None:
    data = bytearray(make(f"{_FILM} -c:v mpeg4 -c:a mp3", "chunk.avi").read_bytes())
    file = tmp_path / "header.avi"
    at = data.index(b"auds")
    data[at - 8 : at - 4] = b"zzzz"
    file.write_bytes(data)
    assert _read(file) == (40, 1)


def test_a_packet_of_asf_that_is_overwritten_with_zeros_is_damage(make: Make, tmp_path: Path) -> None:
    data = bytearray(make(f"{_FILM} -c:v wmv2 -c:a wmav2", "a.wmv").read_bytes())
    packets = data.index(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")) + 50
    file = tmp_path / "zeros.wmv"
    data[packets + 3200 * 4 : packets + 3200 * 5] = bytes(3200)
    file.write_bytes(data)
    assert _read(file)[1] > 0


def test_frames_that_a_damaged_index_of_an_avi_lacks_are_damage(make: Make, tmp_path: Path) -> None:
    data = make(f"{_FILM} {_H264}", "h264.avi").read_bytes()
    index = data.rindex(b"idx1")
    file = tmp_path / "index.avi"
    read = []
    for entry in range(18, 36, 3):
        damaged, at = bytearray(data), index + 13 + 16 * entry
        damaged[at : at + 60] = random.Random(entry).randbytes(60)
        file.write_bytes(damaged)
        read.append(_read(file))
    assert any(frames < 40 for frames, _ in read)
    assert all(damaged for frames, damaged in read if frames < 40)


def test_sound_that_loses_its_headers_does_not_end_a_film(make: Make, nearest: Upscaler, tmp_path: Path) -> None:
    whole = make(f"{_FILM} {_H264}", "a.ts")
    data = bytearray(whole.read_bytes())
    for at in range(0, len(data) - 188, 188):
        if data[at + 1] & 0x5F == 0x41 and data[at + 2] == 1:  # where a packet of sound begins
            header = data.find(b"\xff\xf1", at, at + 188)
            if header > 0 and at > 188 * 30:
                data[header : header + 2] = b"no"
    file = tmp_path / "headless.ts"
    file.write_bytes(data)
    for name in ("out.mkv", "out.mp4"):
        report = upscale_file(file, tmp_path / name, nearest, encoding=FAST)
        assert (report.frames, report.damaged > 0) == (40, True)


def test_a_stream_of_sound_that_damage_has_made_up_does_not_end_a_film(
    make: Make, nearest: Upscaler, tmp_path: Path
) -> None:
    data = bytearray(make(f"{_FILM} {_H264}", "a.flv").read_bytes())
    tags = [at for at in range(1000, len(data) - 12) if data[at] == 8 and data[at + 8 : at + 13] == b"\0\0\0\xaf\1"]
    data[tags[3] + 11] ^= 0x20  # another codec, or another kind of channel, begins a stream of its own
    data[tags[5] + 11] ^= 0x01
    file = tmp_path / "more.flv"
    file.write_bytes(data)
    assert upscale_file(file, tmp_path / "out.mkv", nearest, encoding=FAST).frames == 40
