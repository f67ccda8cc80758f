"""What did not change from one frame to the next is not computed again.

A frame is compared with the one before it. Rectangles around what changed go through the network; all else is copied
from the result before. The result is the same, bit for bit: a network whose results depend on the size of its input is
found out, as the first result of each size of rectangle is compared with that of the whole frame.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import torch

from .rectangles import Cover, changed_squares

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from torch import Tensor

    from .frames import Frame
    from .in_flight import Results
    from .rectangles import Prices, Rectangle, Size

    type Enlarge = Callable[[Tensor], Tensor]

_WORTH = 0.6  # of the work of a whole frame: what saves less is not worth the search and the copies
_COMPILING = 100_000  # samples that ESPCN computes in the time that it takes to compile it for one more size
_LEARNING = 2  # of so many frames one shows whether other sizes would be better
_SIZES = 3.0  # whole frames that the sizes in use are together, at most: a bound on the memory of their networks
_LONGEST_REST = 16  # frames that are not compared, after some of which too much had changed


class Reuse:
    """What a stream has left behind for its next frames: the last one and its result, also of every network.

    For one upscaler and one stream at a time; it is freed with the stream.

    Attributes:
        share: Of the work that was not done, from 0 to 1.
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
        return 1 - computed * (self._frames - self._repeats) / self._frames

    def begin(self, frames: Sequence[Frame], begin: Callable[[Sequence[Frame]], Results]) -> Results:
        """Enlarge the next frames of the stream; one that repeats the frame before it shares the planes of its result.

        Args:
            frames: Of one geometry.
            begin: Begins to enlarge frames; gives what waits for the results.

        Returns:
            What waits for all results. It is called once, and after those of the frames before.
        """
        last, before = self._before or (None, None)
        changed: list[Frame] = []
        places = []  # of each frame's result among those of the changed frames, after the one from before
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
        """What there is at one of the networks that frames pass; nothing, if it is of another kind of frames.

        Args:
            number: Of the network, in their order.
            kind: What frames must have in common to be compared.
            cover: Makes the cover of such frames.
            scale: The network's.
        """
        if number not in self._places or self._places[number][0] != kind:
            self._places[number] = kind, Place(cover(), scale, self._work)
        return self._places[number][1]


class _Begun:
    """Frames that are being enlarged, and repeat others that are; a function of the kind `Results`.

    Args:
        frames: All of them.
        places: Of each frame's result: the last one from before is the first, if there is one, and ``results`` follow.
        before: What was begun before.
        results: Of those that repeat no other.
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
        del self._places, self._before, self._results  # which hold many frames
        return done

    def last(self) -> Frame:
        """The last frame's result."""
        return self._last or self()[-1]


@dataclass(slots=True)
class Work:
    """How many samples went through networks, and how many there were."""

    done: int = 0
    whole: int = 0


class Place:
    """The last frame that went into one network, and what came out.

    Args:
        cover: Of such frames.
        scale: How many times larger they come out.
        work: Is added to.
    """

    def __init__(self, cover: Cover, scale: int, work: Work) -> None:
        self._cover = cover
        self._scale = scale
        self._work = work
        self._networks = _Networks(cover)
        self._before: tuple[Tensor, Tensor] | None = None
        self._exact = True
        self._looked = 0  # at frames
        self._rest = self._longest = 0  # frames that are not compared: yet to come, and how many they were

    def enlarge(self, x: Tensor, network: Enlarge, compile_for: Callable[[Size], Enlarge], store: Enlarge) -> Tensor:
        """Enlarge the next frames.

        Args:
            x: (N, C, H, W).
            network: (n, C, H, W) → (n, C, H·scale, W·scale), for any number of frames.
            compile_for: Makes the same for one rectangle of a size.
            store: What is kept of the network's result, sample by sample.

        Returns:
            ``store(network(x))``, bit for bit; the next call may write to it.
        """
        before, self._before = self._before, None  # this call may fail
        plans: list[list[Rectangle] | None] = []
        trials: dict[Size, tuple[int, Rectangle]] = {}
        for index, frame in enumerate(x):
            plan, tried = self._plan(frame, x[index - 1] if index else before and before[0])
            plans.append(plan)
            trials.update({rectangle.size: (index, rectangle) for rectangle in tried})
            self._work.done += self._cover.whole if plan is None else self._cover.cost(plan)
            self._work.whole += self._cover.whole

        def compute(index: int, rectangle: Rectangle) -> Tensor:
            seen = x[index : index + 1, :, *rectangle.inside]
            return self._networks[rectangle.size](seen)[0, :, *rectangle.taken(self._scale)]

        whole = [index for index, plan in enumerate(plans) if plan is None]
        stored: dict[int, Tensor] = {}
        if whole:
            large = network(x if len(whole) == len(x) else x[whole])
            for size, (index, rectangle) in trials.items():
                self._networks.add(size, compile_for(size))
                there = large[whole.index(index), :, *rectangle.placed(self._scale)]
                self._exact &= compute(index, rectangle).equal(there)
            result = store(large)
            stored = dict(zip(whole, result, strict=True))
        if len(whole) < len(x):
            results: list[Tensor] = []
            for index, plan in enumerate(plans):
                last = results[-1] if results else before and before[1]
                if plan is None or last is None:
                    results.append(stored[index])
                    continue
                results.append(last.clone() if len(x) > 1 else last)
                for rectangle in plan:
                    results[-1][:, *rectangle.placed(self._scale)] = store(compute(index, rectangle))
            result = torch.stack(results) if len(x) > 1 else results[0][None]
        self._networks.trim()
        self._before = (x[-1].clone(), result[-1].clone()) if len(x) > 1 else (x[0], result[0])
        return result

    def _plan(self, frame: Tensor, before: Tensor | None) -> tuple[list[Rectangle] | None, list[Rectangle]]:
        """What of a frame is computed, None for all of it; and then, rectangles of sizes that are worth a network."""
        if before is None or not self._exact:
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
        if prices is None or self._looked % _LEARNING == 0:
            best = cover.find(changed)
            if cover.cost(best) > enough:
                return self._give_up()
            wanted = self._networks.miss(best, cover.whole if plan is None else min(cover.cost(plan), cover.whole))
            if wanted:
                return None, wanted
        self._longest = 0
        return None if plan is None or cover.cost(plan) > enough else plan, []

    def _give_up(self) -> tuple[None, list[Rectangle]]:
        """Compute the whole frame, and the next ones, without looking for longer each time."""
        self._rest = self._longest = min(2 * self._longest + 1, _LONGEST_REST)
        return None, []


class _Networks:
    """Networks for rectangles, by their sizes, and which others would be worth it.

    Attributes:
        prices: Of the sizes that there are networks for; None if there are none.
    """

    def __init__(self, cover: Cover) -> None:
        self.prices: Prices | None = None
        self._cover = cover
        self._networks: OrderedDict[Size, Enlarge] = OrderedDict()  # the last used last
        self._missed: Counter[Size] = Counter()  # samples that others would have saved

    def __getitem__(self, size: Size) -> Enlarge:
        self._networks.move_to_end(size)
        return self._networks[size]

    def miss(self, best: Sequence[Rectangle], cost: int) -> list[Rectangle]:
        """Those whose sizes have now been missed for long enough, one of each.

        Args:
            best: Rectangles that would be best for a frame.
            cost: Of the frame as it is.
        """
        new = {rectangle.size: rectangle for rectangle in best if rectangle.size not in self._networks}
        frames = 1 if self.prices is None else _LEARNING
        for size in new:
            self._missed[size] += frames * (cost - self._cover.cost(best)) // len(new)
        return [rectangle for size, rectangle in new.items() if self._missed[size] >= _COMPILING]

    def add(self, size: Size, network: Enlarge) -> None:
        """Keep a network."""
        del self._missed[size]
        self._networks[size] = network
        self.prices = self._cover.prices(tuple(self._networks))

    def trim(self) -> None:
        """Free those that were not used for longest, where there are too many."""
        while len(self._networks) > 1 and sum(map(prod, self._networks)) > _SIZES * self._cover.whole:
            self._networks.popitem(last=False)
            self.prices = self._cover.prices(tuple(self._networks))
