"""Every frame is computed once, however VapourSynth asks: what a counting computer sees."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

from tests import PATIENCE
from vsr_plugin.errors import BackendError
from vsr_plugin.frames import Frame
from vsr_plugin.sizes import Target
from vsr_plugin.vapoursynth import graph
from vsr_plugin.vapoursynth.blocks import Blocks

from .vapoursynth_source import Counter, computed, numbered


def enlarged(clip: vs.VideoNode, computers: list[Any], block: int) -> vs.VideoNode:
    """The clip that computers make which leave the size as it is."""
    return graph.enlarged(clip, computers, Target(clip.width, clip.height, (1,)), block)


type View = Callable[[vs.VideoNode], vs.VideoNode]

LENGTH = 101  # not a multiple of any block


@pytest.fixture(autouse=True)
def _core() -> Iterator[None]:
    """Every test may set the core as it likes."""
    threads, cache = vs.core.num_threads, vs.core.max_cache_size
    yield
    vs.core.num_threads, vs.core.max_cache_size = threads, cache


def play(
    block: int, streams: int = 1, requests: int = 1, view: View | None = None, length: int = LENGTH
) -> tuple[list[int], list[Counter]]:
    """Play a numbered clip; gives the numbers that came, and who computed them."""
    counters = [Counter() for _ in range(streams)]
    clip = enlarged(numbered(length), counters, block)
    shown = view(clip) if view else clip
    numbers = []
    for frame in shown.frames(prefetch=requests, backlog=requests, close=False):
        number = frame.props["number"]
        assert frame[0][0, 0] == number % 251
        numbers.append(number)
        frame.close()
    return numbers, counters


@pytest.mark.parametrize(("block", "streams"), [(1, 1), (4, 1), (8, 2)])
@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("requests", [1, 3, 32])
def test_playing_computes_every_frame_once(block: int, streams: int, threads: int, requests: int) -> None:
    vs.core.num_threads = threads
    numbers, counters = play(block, streams, requests)
    assert numbers == list(range(LENGTH))
    assert computed(counters) == numbers
    batches = [batch for counter in counters for batch in counter.batches]
    assert max(map(len, batches)) == block
    # The first frame is alone, for nobody knows yet whether others will follow; so are those that come out of order, of
    # the requests that are under way when it begins.
    assert len(batches) <= -(-LENGTH // block) + 1 + (requests if threads > 1 else requests > 1)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_small_cache_makes_no_difference(threads: int) -> None:
    vs.core.num_threads, vs.core.max_cache_size = threads, 1
    numbers, counters = play(8, 2, 8)
    assert computed(counters) == numbers == list(range(LENGTH))


def test_frames_here_and_there_are_computed_alone() -> None:
    order = random.Random(5).sample(range(0, 2000, 2), 200)
    counter = Counter()
    clip = enlarged(numbered(2000), [counter], 8)
    for number in order:
        assert clip.get_frame(number).props["number"] == number
    assert counter.batches == [[number] for number in order]


def test_random_frames_cost_little_more_than_themselves() -> None:
    chance = random.Random(6)
    order = [chance.randrange(5000) for _ in range(200)]
    counter = Counter()
    clip = enlarged(numbered(5000), [counter], 8)
    assert [clip.get_frame(number).props["number"] for number in order] == order
    assert set(order) <= set(computed([counter]))
    # Two that happen to be neighbors begin to play: two blocks at most.
    neighbors = sum(any(abs(a - b) == 1 for b in order[max(0, i - 64) : i]) for i, a in enumerate(order))
    assert len(computed([counter])) <= len(order) + 16 * neighbors


@pytest.mark.parametrize("requests", [1, 8])
def test_every_third_frame_computes_every_third_frame(requests: int) -> None:
    numbers, counters = play(8, requests=requests, view=lambda clip: clip[::3])
    assert computed(counters) == numbers == list(range(0, LENGTH, 3))


VIEWS: dict[str, View] = {
    "backwards": lambda clip: clip.std.Reverse(),
    "neighbors, too": lambda clip: clip.std.AverageFrames([1, 2, 1]),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("cache", [1, 1000])
def test_other_orders_compute_every_frame_once(name: str, cache: int) -> None:
    vs.core.num_threads, vs.core.max_cache_size = 4, cache
    _, counters = play(8, requests=4, view=VIEWS[name])
    assert computed(counters) == list(range(LENGTH))


def test_what_is_played_again_is_computed_in_blocks_again() -> None:
    vs.core.num_threads = 1
    _, [counter] = play(8, view=lambda clip: clip[:80] + clip[:80])
    assert len(computed([counter])) <= 2 * (80 + 8)  # what lies ahead of its end is computed, too
    assert len(counter.batches) <= 2 * (10 + 1) + 3


def test_blocks_are_computed_side_by_side() -> None:
    together = threading.Barrier(2, timeout=PATIENCE)

    class Pair(Counter):
        def __call__(self, frames: Any) -> Any:
            if len(frames) == 4:
                together.wait()  # breaks unless another block is being computed
            return super().__call__(frames)

    counters = [Pair(), Pair()]
    clip = enlarged(numbered(36), counters, 4)  # one frame, three, and an even number of blocks of 4
    shown = [frame.props["number"] for frame in clip.frames(prefetch=1, close=True)]
    assert shown == list(range(36))


def test_the_next_block_is_on_its_way_before_this_one_is_awaited() -> None:
    begun = threading.Event()

    class Waits(Counter):
        def __call__(self, frames: Any) -> Any:
            if frames[0].pts >= 8:
                begun.set()
            return super().__call__(frames)

    clip = enlarged(numbered(32), [Waits()], 4)
    for number in range(5):  # the frames of one block and the first of the next; the third follows unasked
        clip.get_frame(number)
    assert begun.wait(PATIENCE)


def test_frames_live_as_long_as_they_are_computed() -> None:
    go = threading.Event()
    seen: list[tuple[int, list[int]]] = []

    class Late(Counter):
        def __call__(self, frames: Any) -> Any:
            if len(frames) == 8:
                assert go.wait(PATIENCE)
            seen.extend((frame.pts, np.unique(frame.planes[0]).tolist()) for frame in frames)
            return super().__call__(frames)

    clip = enlarged(numbered(64, 640, 480), [Late()], 8)
    for number in range(3):  # frames 8 to 15 are wanted, but nobody waits for them
        clip.get_frame(number)
    other = numbered(200, 640, 480)
    vs.core.clear_cache()
    for number in range(200):  # takes whatever memory has become free
        other.std.Invert().get_frame(number)
    go.set()
    clip.get_frame(15)
    assert {number for number, _ in seen} >= set(range(16))
    assert all(values == [number] for number, values in seen)


def test_an_error_is_that_of_its_frame_and_the_others_of_its_block_are_computed() -> None:
    counter = Counter(BackendError("Boom: the device is gone"), bad=9)
    clip = enlarged(numbered(40), [counter], 4)
    for number in range(9):
        clip.get_frame(number)
    with pytest.raises(vs.Error) as caught:
        clip.get_frame(9)
    assert str(caught.value).strip() == "vapoursynth.Error: vsr.upscale: boom: the device is gone"
    for number in range(10, 20):
        assert clip.get_frame(number).props["number"] == number
    assert [batch for batch in counter.batches if set(batch) & {8, 9, 10, 11}] == [[8, 9, 10, 11], [8], [9], [10], [11]]
    counter._error = None
    assert clip.get_frame(9).props["number"] == 9


def test_a_frame_that_cannot_be_read_fails_those_that_fetch_it_and_no_others() -> None:
    def fail(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        if n == 9:
            raise vs.Error("this one is damaged")
        return f

    source = numbered(40)
    clip = enlarged(source.std.ModifyFrame(source, fail), [Counter()], 4)
    failed = []
    for number in range(40):
        try:
            assert clip.get_frame(number).props["number"] == number
        except vs.Error:
            failed.append(number)
    assert failed == list(range(4, 12))  # as the docstring says: (num_streams + 1) * batch


# Orders that VapourSynth's caches and threads would make a little other every time: the blocks alone.


def picture(number: int) -> Frame:
    return Frame((np.full((1, 1), number % 251, np.uint8),), number, Fraction(1))


def ask(order: Iterable[int], length: int, block: int, streams: int, counter: Counter | None = None) -> list[int]:
    """Ask for frames in this order; gives the numbers of all frames that were computed."""
    counter = counter or Counter()
    blocks = Blocks([counter] * streams, block, length)  # a counter is safe for several threads

    def read(number: int) -> Frame:
        assert first <= number < min(first + blocks.window, length)
        return picture(number)

    for number in order:
        first = number - number % block
        assert blocks.get(number, read).pts == number
    blocks.close()
    return computed([counter])


@pytest.mark.parametrize("block", [1, 4, 8, 16])
@pytest.mark.parametrize("streams", [1, 2])
def test_short_plays_anywhere_give_the_frames_that_are_asked_for(block: int, streams: int) -> None:
    for seed in range(5):
        chance = random.Random(seed)
        begins = [chance.randrange(400) for _ in range(60)]
        order = [n for begin in begins for n in range(begin, min(400, begin + chance.randrange(1, 30)))]
        assert set(order) <= set(ask(order, 400, block, streams))


@pytest.mark.parametrize("places", [2, 4, 6])
@pytest.mark.parametrize(("block", "streams"), [(1, 1), (8, 1), (16, 2)])
def test_parts_that_are_played_at_once_are_computed_once(places: int, block: int, streams: int) -> None:
    part = 1200 // places
    order = [place * part + n for n in range(part) for place in range(places)]
    done = ask(order, 1200, block, streams)
    assert set(done) == set(range(1200))
    # At the end of a part, what lies ahead, of which its neighbor has long been played.
    assert len(done) <= 1200 + (places - 1) * block * (streams + 1)


@pytest.mark.parametrize("streams", [1, 2])
def test_many_places_at_once_compute_little_twice(streams: int) -> None:
    order = [place * 100 + n for n in range(100) for place in range(12)]
    assert len(ask(order, 1200, 8, streams)) <= 1.5 * 1200


def test_frames_that_nobody_asks_for_are_not_held_for_ever() -> None:
    batches: list[weakref.ref[Any]] = []

    class Together(Counter):
        """The pictures of a batch are parts of one array, which lives as long as the last of them."""

        def __call__(self, frames: Any) -> Any:
            pixels = np.zeros((len(frames), 1, 1), np.uint8)
            batches.append(weakref.ref(pixels))
            return [replace(frame, planes=(pixels[index],)) for index, frame in enumerate(frames)]

    held = []

    def decimated() -> Iterator[int]:
        for number in range(2000):
            if number % 5 < 4:
                yield number
                held.append(sum(batch() is not None for batch in batches))

    ask(decimated(), 2000, 8, 1, Together())
    assert len(batches) == 251
    assert max(held) <= 64 / 6.4 + 3  # those of 64 requests, this one, the next, and what is kept


def test_what_was_all_handed_out_is_not_held() -> None:
    batches: list[weakref.ref[Any]] = []

    class Noted(Counter):
        def __call__(self, frames: Any) -> Any:
            done = super().__call__(frames)
            batches.extend(weakref.ref(frame.planes[0]) for frame in done)
            return done

    held = []

    def played() -> Iterator[int]:
        for number in range(400):
            yield number
            held.append(sum(frame() is not None for frame in batches))

    ask(played(), 400, 8, 1, Noted())
    assert max(held) <= 2 * 8 + 8 + 4  # two blocks ahead, one of which some are given, and what is kept


def test_closed_in_one_of_their_own_threads_blocks_wait_for_the_others() -> None:
    closed = threading.Event()

    class Closes(Counter):
        def __call__(self, frames: Any) -> Any:
            blocks.close()
            return super().__call__(frames)  # which asserts that it is open

        def close(self) -> None:
            super().close()
            closed.set()

    blocks = Blocks([Closes()], 1, 10)
    assert blocks.get(0, picture).pts == 0
    assert closed.wait(PATIENCE)


# What the filter asks of the clip before it.


@pytest.mark.parametrize(
    ("view", "at_most"),
    [
        (lambda clip: clip, 240),
        (lambda clip: vs.core.std.Interleave([clip[part * 60 : part * 60 + 60] for part in range(4)]), 240 + 3 * 48),
    ],
    ids=["played", "four parts at once"],
)
@pytest.mark.parametrize(("block", "streams"), [(8, 1), (16, 2)])
def test_frames_of_the_source_are_made_once(view: View, at_most: int, block: int, streams: int) -> None:
    made: list[int] = []
    source = numbered(240)
    counted = source.std.ModifyFrame(source, lambda n, f: made.append(n) or f)  # type: ignore[func-returns-value]
    for _ in view(enlarged(counted, [Counter() for _ in range(streams)], block)).frames(prefetch=32, close=True):
        pass
    assert set(made) == set(range(240))
    assert len(made) <= at_most


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("vsr upscale")]


def test_no_thread_outlives_the_clip() -> None:
    clip = enlarged(numbered(20), [Counter(), Counter()], 4)
    for frame in clip.frames(close=True):
        frame.props  # noqa: B018
    assert names()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("vsr upscale")]
    del clip, frame
    gc.collect()
    for thread in threads:
        thread.join(20)
    assert not names()


CORES = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import vapoursynth as vs
from vapoursynth_source import Counter, numbered
from vsr_plugin.sizes import Target
from vsr_plugin.vapoursynth.graph import enlarged

class Policy(vs.EnvironmentPolicy):
    current = None
    def on_policy_registered(self, api): self.api = api
    def on_policy_cleared(self): pass
    def get_current_environment(self): return self.current
    def set_environment(self, environment): self.current, before = environment, self.current; return before
    def is_alive(self, environment): return True

policy = Policy()
vs.register_policy(policy)
for _ in range(3):
    data = policy.api.create_environment()
    with policy.api.wrap_environment(data).use():
        counters = [Counter(), Counter()]
        clip = enlarged(numbered(50), counters, Target(32, 16, (1,)), 4)
        for number in (*range(20), 40, 7):
            assert clip.get_frame(number).props["number"] == number
    assert not any(counter.closed for counter in counters)
    policy.api.destroy_environment(data)
    assert all(counter.closed for counter in counters)  # though the script still holds its clip
    assert not [thread for thread in threading.enumerate() if "vsr" in thread.name]
    del clip
print("three cores", file=sys.stderr)
"""


def test_everything_ends_with_the_core() -> None:
    command = [sys.executable, "-c", CORES, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "three cores" in done.stderr
