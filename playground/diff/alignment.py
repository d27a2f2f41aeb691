"""Aligning two sequences: what stayed, what is gone, what is new.

Sequences of integers, equal integers meaning equal messages. A part that was cut
out is looked up as it is; small differences are found exactly (Myers, "An O(ND)
difference algorithm", 1986); large ones by anchoring on what occurs once on both
sides (patience), runs of messages before single ones; where nothing helps, by
position. No recording is known here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]

FEW_EDITS = 40
"""So many are looked for before anchors are."""
MOST_EDITS = 400
"""Where two pieces differ by more, the exact search takes too long."""
MOST_STEPS = 3_000_000
"""Steps of exact search in all, about two seconds."""
RUNS = (64, 8, 2, 1)
"""Lengths of runs that serve as anchors: values repeat, long runs do not."""
GAP_COST = 2
"""A gap must be worth so many messages more than its length."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where two sequences differ: ``a[a1:a2]`` stands for ``b[b1:b2]``."""

    a1: int
    a2: int
    b1: int
    b2: int

    @property
    def cost(self) -> int:
        """How many messages differ here."""
        return max(self.a2 - self.a1, self.b2 - self.b1)


def align(a: Numbers, b: Numbers) -> list[Gap]:
    """Returns where two sequences differ, in order; between the gaps they agree."""
    gaps = _merge(_Search().align(a, b, 0, 0))
    if sum(gap.cost for gap in gaps) == abs(len(a) - len(b)):
        # Only left out, or only added: nothing can be simpler.
        return gaps
    by_position = _by_position(a, b)
    # Values repeat, so an alignment finds chance agreements, one here and one
    # there; the plain reading stands unless it is worse for all its simplicity.
    return by_position if _cost(by_position) <= _cost(gaps) else gaps


def _cost(gaps: list[Gap]) -> int:
    return sum(gap.cost + GAP_COST for gap in gaps)


def _by_position(a: Numbers, b: Numbers) -> list[Gap]:
    common = min(len(a), len(b))
    differs = np.flatnonzero(a[:common] != b[:common])
    gaps = []
    if len(differs):
        breaks = np.flatnonzero(np.diff(differs) > 1)
        firsts = differs[np.concatenate([[0], breaks + 1])]
        lasts = differs[np.concatenate([breaks, [len(differs) - 1]])] + 1
        gaps = [
            Gap(first, last, first, last)
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
        ]
    if len(a) != len(b):
        gaps.append(Gap(common, len(a), common, len(b)))
    return _merge(gaps)


def _merge(gaps: list[Gap]) -> list[Gap]:
    merged: list[Gap] = []
    for gap in gaps:
        if merged and (merged[-1].a2, merged[-1].b2) == (gap.a1, gap.b1):
            last = merged.pop()
            gap = Gap(last.a1, gap.a2, last.b1, gap.b2)
        merged.append(gap)
    return merged


class _Search:
    """One alignment, and how much longer it may search."""

    def __init__(self) -> None:
        self._steps = MOST_STEPS

    def align(self, a: Numbers, b: Numbers, a0: int, b0: int) -> list[Gap]:
        """Aligns two pieces that begin at ``a0`` and ``b0`` of the whole."""
        head = _common_head(a, b)
        a, b = a[head:], b[head:]
        tail = _common_head(a[::-1], b[::-1])
        a, b = a[: len(a) - tail], b[: len(b) - tail]
        a0, b0 = a0 + head, b0 + head
        if not len(a) and not len(b):
            return []
        if not len(a) or not len(b):
            return [Gap(a0, a0 + len(a), b0, b0 + len(b))]
        found = _contained(a, b)
        if found is None:
            found = self._exact(a, b, FEW_EDITS)
        if found is None:
            found = self._anchored(a, b)
        if found is None:
            found = self._exact(a, b, MOST_EDITS)
        if found is None:
            found = _subsequence(a, b)
        if found is None:
            found = _by_position(a, b)
        return [
            Gap(gap.a1 + a0, gap.a2 + a0, gap.b1 + b0, gap.b2 + b0) for gap in found
        ]

    def _anchored(self, a: Numbers, b: Numbers) -> list[Gap] | None:
        """Aligns between anchors; None if there are none."""
        for run in RUNS:
            anchors = _anchors(_runs(a, run), _runs(b, run))
            if anchors:
                break
        else:
            return None
        gaps: list[Gap] = []
        last_a = last_b = 0
        for i, j in [*anchors, (len(a), len(b))]:
            # Runs overlap: what one has settled is not looked at again.
            if i > last_a or j > last_b:
                gaps += self.align(
                    a[last_a : max(i, last_a)],
                    b[last_b : max(j, last_b)],
                    last_a,
                    last_b,
                )
            last_a, last_b = i + 1, j + 1
        return gaps

    def _exact(self, a: Numbers, b: Numbers, most: int) -> list[Gap] | None:
        """Finds the fewest edits; None if they are more than ``most``."""
        if abs(len(a) - len(b)) > most or self._steps <= 0:
            return None
        left, right = a.tolist(), b.tolist()
        n, m = len(left), len(right)
        reach = {1: 0}
        trace: list[dict[int, int]] = []
        for edits in range(min(n + m, most) + 1):
            trace.append(dict(reach))
            self._steps -= edits + 1
            for k in range(-edits, edits + 1, 2):
                down = k == -edits or (
                    k != edits and reach.get(k - 1, -1) < reach.get(k + 1, -1)
                )
                x = reach[k + 1] if down else reach[k - 1] + 1
                y = x - k
                while x < n and y < m and left[x] == right[y]:
                    x, y = x + 1, y + 1
                reach[k] = x
                if x >= n and y >= m:
                    return _walk_back(trace, n, m)
        return None


def _contained(a: Numbers, b: Numbers) -> list[Gap] | None:
    """Finds the shorter sequence in the longer one; None if it is not there."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    wanted, width = shorter.tobytes(), shorter.itemsize
    place = (whole := longer.tobytes()).find(wanted)
    while place >= 0 and place % width:
        place = whole.find(wanted, place + 1)
    if place < 0:
        return None
    first = place // width
    last = first + len(shorter)
    around = [(0, first, 0), (last, len(longer), len(shorter))]
    return [
        Gap(start, end, at, at) if longer is a else Gap(at, at, start, end)
        for start, end, at in around
        if end > start
    ]


def _subsequence(a: Numbers, b: Numbers) -> list[Gap] | None:
    """Says what was left out, if nothing else happened; None if something did."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    gaps: list[Gap] = []
    values = longer.tolist()
    place = 0
    for at, value in enumerate(shorter.tolist()):
        try:
            found = values.index(value, place)
        except ValueError:
            return None
        if found > place:
            gaps.append(Gap(place, found, at, at))
        place = found + 1
    if place < len(values):
        gaps.append(Gap(place, len(values), len(shorter), len(shorter)))
    if longer is a:
        return gaps
    return [Gap(gap.b1, gap.b2, gap.a1, gap.a2) for gap in gaps]


def _common_head(a: Numbers, b: Numbers) -> int:
    common = min(len(a), len(b))
    differs = a[:common] != b[:common]
    return int(differs.argmax()) if differs.any() else common


def _walk_back(trace: list[dict[int, int]], n: int, m: int) -> list[Gap]:
    gaps: list[Gap] = []
    x, y = n, m
    for edits in range(len(trace) - 1, 0, -1):
        reach = trace[edits]
        k = x - y
        down = k == -edits or (
            k != edits and reach.get(k - 1, -1) < reach.get(k + 1, -1)
        )
        before_x = reach[k + 1] if down else reach[k - 1]
        before_y = before_x - (k + 1 if down else k - 1)
        right, below = (0, 1) if down else (1, 0)
        gaps.append(Gap(before_x, before_x + right, before_y, before_y + below))
        x, y = before_x, before_y
    return gaps[::-1]


def _runs(values: Numbers, length: int) -> Numbers:
    """Returns a number for each run of so many values, equal for equal runs.

    ``length`` is a power of two; hashes of halves are joined to those of wholes.
    """
    found = values.astype(np.uint64)
    half = 1
    while half < length:
        if len(found) <= half:
            return np.zeros(0, np.int64)
        # Odd constants of splitmix64: order counts, and all bits are used.
        joined = found[:-half] * np.uint64(0x9E3779B97F4A7C15)
        joined ^= joined >> np.uint64(29)
        found = (joined + found[half:]) * np.uint64(0xBF58476D1CE4E5B9)
        found ^= found >> np.uint64(32)
        half *= 2
    return found.view(np.int64)


def _anchors(a: Numbers, b: Numbers) -> list[tuple[int, int]]:
    """Returns positions of what occurs once on both sides, in common order."""
    once_a, once_b = _once(a), _once(b)
    pairs = sorted(
        (place, once_b[value]) for value, place in once_a.items() if value in once_b
    )
    # The longest subsequence that rises on both sides.
    piles: list[int] = []
    tops: list[int] = []
    back: list[int] = []
    for number, (_, j) in enumerate(pairs):
        pile = bisect_left(piles, j)
        if pile == len(piles):
            piles.append(j)
            tops.append(number)
        else:
            piles[pile] = j
            tops[pile] = number
        back.append(tops[pile - 1] if pile else -1)
    chain: list[tuple[int, int]] = []
    at = tops[-1] if tops else -1
    while at >= 0:
        chain.append(pairs[at])
        at = back[at]
    return chain[::-1]


def _once(values: Numbers) -> dict[int, int]:
    found, first, counts = np.unique(values, return_index=True, return_counts=True)
    alone = counts == 1
    return dict(zip(found[alone].tolist(), first[alone].tolist(), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many messages differ, and how."""

    missing: int = 0
    extra: int = 0
    changed: int = 0
    reordered: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.missing + self.extra + self.changed + self.reordered

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            missing=self.missing + other.missing,
            extra=self.extra + other.extra,
            changed=self.changed + other.changed,
            reordered=self.reordered + other.reordered,
        )


def moved_between(a: Numbers, b: Numbers, gaps: list[Gap]) -> Counter[int]:
    """Returns what is gone in one gap and new in another, and how often.

    Only what occurs as often on both sides: of the other values some are missing
    or extra, and which of them moved nobody can say.
    """
    gone = Counter(value for gap in gaps for value in a[gap.a1 : gap.a2].tolist())
    new = Counter(value for gap in gaps for value in b[gap.b1 : gap.b2].tolist())
    return Counter({value: n for value, n in gone.items() if new[value] == n})


def tally(a: Numbers, b: Numbers, gaps: list[Gap], moved: Counter[int]) -> Tally:
    """Counts what the gaps mean.

    What moved was reordered; of the rest, one gone and one new in the same gap
    are a changed one.
    """
    left_gone, left_new = dict(moved), dict(moved)
    missing = extra = changed = 0
    for gap in gaps:
        gone_here = _count_rest(a[gap.a1 : gap.a2].tolist(), left_gone)
        new_here = _count_rest(b[gap.b1 : gap.b2].tolist(), left_new)
        both = min(gone_here, new_here)
        changed += both
        missing += gone_here - both
        extra += new_here - both
    return Tally(
        missing=missing,
        extra=extra,
        changed=changed,
        reordered=sum(moved.values()),
    )


def _count_rest(values: list[int], moved: dict[int, int]) -> int:
    rest = 0
    for value in values:
        if moved.get(value, 0):
            moved[value] -= 1
        else:
            rest += 1
    return rest
