"""Reuse of results for the parts of a frame that did not change since the frame before.

A frame is compared with the one before it. The network computes rectangles around the changes; everything else is
copied from the previous result. The result is the same, bit for bit: the results of some networks depend on the size of
their input, so each size of rectangle is tried once, on noise and before rounding.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .arrays import copy, stack
from .rectangles import Cover, changed_squares

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from .arrays import Array
    from .frames import Frame
    from .in_flight import Results
    from .rectangles import Prices, Rectangle, Size

    type Enlarge = Callable[[Array], Array]

_WORTH = 0.6  # of a whole frame's work: more is not worth the search and the copies
_COMPILING = 400_000  # samples that ESPCN computes in the time that it takes to compile it for one more size: 60 ms
_LEARNING = 2  # one in so many frames is searched for better sizes
_SIZES = 3.0  # the sizes in use add up to so many whole frames at most: it bounds the memory of their networks
_DOUBTS = 2  # so many more sizes may fail than pass before no others are tried
_LONGEST_REST = 16  # frames that are not compared, at most, after frames with too many changes


class Reuse:
    """The state of a stream for its next frames: the last frame and its result, also those of every network.

    For one upscaler and one stream at a time; it is freed with the stream.

    Attributes:
        share: The share of the work that was saved, from 0 to 1.
    """

    def __init__(self) -> None:
        self._before: tuple[Frame, _Begun] | None = None
        self._places: dict[int, tuple[Hashable, Place]] = {}
        self._frames = self._repeats = 0
        self._work = Work()

    @property
    def share(self) -> float:
        """See above."""
        if not self._frames:
            return 0.0
        computed = self._work.done / self._work.whole if self._work.whole else 1.0
        return max(0.0, 1 - computed * (self._frames - self._repeats) / self._frames)

    def begin(self, frames: Sequence[Frame], begin: Callable[[Sequence[Frame]], Results]) -> Results:
        """Enlarge the next frames of the stream; one that repeats the frame before it shares the planes of its result.

        Args:
            frames: Frames of one geometry.
            begin: Starts to enlarge frames; returns a function that waits for the results.

        Returns:
            A function that waits for all results. Call it once, and after that of the frames before.
        """
        last, before = self._before or (None, None)
        changed: list[Frame] = []
        places = []  # the index of each frame's result: the one from before, if any, then those of the changed frames
        for frame in frames:
            if last is None or not frame.repeats(last):
                changed.append(frame)
            places.append(len(changed) - (before is None))
            last = frame
        begun = _Begun(frames, places, before, begin(changed))
        self._frames += len(frames)
        self._repeats += len(frames) - len(changed)
        self._before = frames[-1], begun
        return begun

    def place(self, number: int, kind: Hashable, cover: Callable[[], Cover], scale: int) -> Place:
        """The state of one of the networks that frames pass; a new one if it was for another kind of frames.

        Args:
            number: The network's, in their order.
            kind: What frames must have in common to be compared.
            cover: Makes the cover for such frames.
            scale: The network's.
        """
        if number not in self._places or self._places[number][0] != kind:
            self._places[number] = kind, Place(cover(), scale, self._work)
        return self._places[number][1]


class _Begun:
    """Frames that are being enlarged, and others that repeat them; a function of the type `Results`.

    Args:
        frames: All frames.
        places: The index of each frame's result: the last result of ``before`` is first, if any; ``results`` follow.
        before: The frames that were begun before.
        results: Waits for the results of the frames that repeat no other.
    """

    def __init__(self, frames: Sequence[Frame], places: Sequence[int], before: _Begun | None, results: Results) -> None:
        self._places = list(zip(frames, places, strict=True))
        self._before = before
        self._results = results
        self._last: Frame | None = None

    def __call__(self) -> list[Frame]:
        there = [*([] if self._before is None else [self._before.last()]), *self._results()]
        done = [
            replace(frame, planes=there[place].planes, sample_aspect_ratio=there[place].sample_aspect_ratio)
            for frame, place in self._places
        ]
        self._last = done[-1]
        del self._places, self._before, self._results  # they hold many frames
        return done

    def last(self) -> Frame:
        """The last frame's result."""
        return self._last or self()[-1]


@dataclass(slots=True)
class Work:
    """How many samples were computed by networks, and how many there were."""

    done: int = 0
    whole: int = 0


class Place:
    """The last input frame of one network, and its result.

    Args:
        cover: The cover for such frames.
        scale: The network's.
        work: The counts that this one adds to.
    """

    def __init__(self, cover: Cover, scale: int, work: Work) -> None:
        self._cover = cover
        self._scale = scale
        self._work = work
        self._networks = _Networks(cover)
        self._before: tuple[Array, Array] | None = None
        self._looked = 0  # frames compared
        self._rest = self._longest = 0  # frames not to compare: those still to come, and all of this pause

    def enlarge(
        self,
        x: Array,
        network: Enlarge,
        compile_for: Callable[[Size], Enlarge],
        store: Enlarge,
        agrees: Callable[[Sequence[Rectangle]], bool],
    ) -> Array:
        """Enlarge the next frames.

        Args:
            x: (N, C, H, W).
            network: (n, C, H, W) → (n, C, H·scale, W·scale), for any number of frames.
            compile_for: Makes such a function for one rectangle of a size.
            store: Converts the network's result, sample by sample, to what is kept.
            agrees: Whether rectangles of one size have the results that the whole frame has there, in every bit.

        Returns:
            ``store(network(x))``, bit for bit; the next call may write to it.
        """
        before, self._before = self._before, None  # this call may fail
        plans: list[list[Rectangle] | None] = []
        trials: dict[Size, int] = {}  # size → index of a frame that is computed whole
        for index, frame in enumerate(x):
            plan, tried = self._plan(frame, x[index - 1] if index else before and before[0])
            plans.append(plan)
            trials.update(dict.fromkeys(tried, index))
            self._work.done += self._cover.whole if plan is None else self._cover.cost(plan)
            self._work.whole += self._cover.whole

        def compute(index: int, rectangle: Rectangle) -> Array:
            seen = x[index : index + 1, :, *rectangle.inside]
            return self._networks[rectangle.size](seen)[0, :, *rectangle.taken(self._scale)]

        whole = [index for index, plan in enumerate(plans) if plan is None]
        stored: dict[int, Array] = {}
        if whole:
            large = network(x if len(whole) == len(x) else x[whole])
            result = store(large)
            stored = dict(zip(whole, result, strict=True))
        for size, index in trials.items():
            rectangles = self._cover.some(size)
            self._work.done += self._networks.cost_of_trial(size)
            exact = agrees(rectangles)
            if exact:
                self._networks.add(size, compile_for(size))
                exact = all(
                    np.array_equal(store(compute(index, one)), stored[index][:, *one.placed(self._scale)])
                    for one in rectangles
                )
            if not exact:
                self._networks.exclude(size)
        if len(whole) < len(x):
            results: list[Array] = []
            for index, plan in enumerate(plans):
                last = results[-1] if results else before and before[1]
                if plan is None or last is None:
                    results.append(stored[index])
                    continue
                results.append(copy(last) if len(x) > 1 else last)
                for rectangle in plan:
                    results[-1][:, *rectangle.placed(self._scale)] = store(compute(index, rectangle))
            result = stack(results) if len(x) > 1 else results[0][None]
        self._networks.trim()
        self._before = (copy(x[-1]), copy(result[-1])) if len(x) > 1 else (x[0], result[0])
        return result

    def _plan(self, frame: Array, before: Array | None) -> tuple[list[Rectangle] | None, list[Size]]:
        """The rectangles to compute, None for the whole frame; and sizes that are worth a new network."""
        if before is None:
            return None, []
        if self._rest:
            self._rest -= 1
            return None, []
        cover, enough = self._cover, _WORTH * self._cover.whole
        changed = changed_squares(frame, before, cover.side)
        if changed.sum() * cover.side**2 > enough:
            return self._give_up()
        prices = self._networks.prices
        plan = cover.find(changed, prices) if prices or not changed.any() else None
        self._looked += 1
        if not self._networks.hopeless and (prices is None or self._looked % _LEARNING == 0):
            best = cover.find(changed, self._networks.possible)
            if cover.cost(best) > enough:
                return self._give_up()
            wanted = self._networks.miss(best, cover.whole if plan is None else min(cover.cost(plan), cover.whole))
            if wanted:
                return None, wanted
        self._longest = 0
        return None if plan is None or cover.cost(plan) > enough else plan, []

    def _give_up(self) -> tuple[None, list[Size]]:
        """Compute this frame and the next ones whole, without comparing; the pause grows each time."""
        self._rest = self._longest = min(2 * self._longest + 1, _LONGEST_REST)
        return None, []


class _Networks:
    """Networks for rectangles, by size, and what other sizes would have saved.

    Attributes:
        prices: For the sizes that have networks; None if there are none.
        possible: For all sizes but those that failed; None for all.
    """

    def __init__(self, cover: Cover) -> None:
        self.prices: Prices | None = None
        self.possible: Prices | None = None
        self._cover = cover
        self._networks: OrderedDict[Size, Enlarge] = OrderedDict()  # the last used last
        self._missed: Counter[Size] = Counter()  # samples that other sizes would have saved
        self._passed: set[Size] = set()
        self._excluded: set[Size] = set()
        self._failures = 0  # trials that failed

    @property
    def hopeless(self) -> bool:
        """Whether so many trials failed that no other sizes are tried."""
        return self._failures > len(self._passed) + _DOUBTS

    def cost_of_trial(self, size: Size) -> int:
        """The cost of trying a size: some rectangles twice, and the whole frame the first time."""
        first = not self._passed and not self._failures
        return first * self._cover.whole + 2 * self._cover.cost(self._cover.some(size))

    def exclude(self, size: Size) -> None:
        """Never use a size whose trial failed, nor an untried one that is narrower (lower, if this has full width)."""
        axis = 0 if size[1] == self._cover.sizes[-1][1] else 1
        self._failures += 1
        del self._missed[size]
        self._passed.discard(size)
        self._excluded |= {other for other in self._cover.sizes if other[axis] <= size[axis]} - self._passed
        self.possible = self._cover.prices([other for other in self._cover.sizes if other not in self._excluded])
        if self._networks.pop(size, None):
            self._price()

    def __getitem__(self, size: Size) -> Enlarge:
        self._networks.move_to_end(size)
        return self._networks[size]

    def miss(self, best: Sequence[Rectangle], cost: int) -> list[Size]:
        """Record missing sizes; return those that would have saved enough to be compiled.

        Args:
            best: The rectangles that would be best for a frame.
            cost: The frame's cost with the present sizes.
        """
        new = {rectangle.size for rectangle in best} - self._networks.keys()
        frames = 1 if self.prices is None else _LEARNING
        for size in new:
            self._missed[size] += frames * (cost - self._cover.cost(best)) // len(new)
        # For a trial and for use, networks are compiled for the size, and before the first one for whole frames.
        compiling = (2 if self._passed or self._failures else 4) * _COMPILING
        return [size for size in new if self._missed[size] >= compiling + self.cost_of_trial(size)]

    def add(self, size: Size, network: Enlarge) -> None:
        """Keep a network."""
        del self._missed[size]
        self._passed.add(size)
        self._networks[size] = network
        self._price()

    def trim(self) -> None:
        """Free the networks not used for longest, if there are too many."""
        while len(self._networks) > 1 and sum(map(prod, self._networks)) > _SIZES * self._cover.whole:
            self._networks.popitem(last=False)
            self._price()

    def _price(self) -> None:
        self.prices = self._cover.prices(tuple(self._networks)) if self._networks else None
