"""Aligning two sequences: what stayed, what is gone, what is new.

Sequences of integers, equal integers meaning equal messages. Small differences
are found exactly (Myers, "An O(ND) difference algorithm", 1986); large ones by
anchoring on what occurs once on both sides (patience); where neither helps, by
position. No recording is known here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]

MOST_EDITS = 400
"""Where two pieces differ by more, the exact search takes too long."""


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
    gaps = _merge(_align(a, b, 0, 0))
    by_position = _by_position(a, b)
    # Values repeat, so an alignment finds chance agreements; the plain reading
    # stands unless it is much worse.
    if sum(gap.cost for gap in by_position) <= 2 * sum(gap.cost for gap in gaps):
        return by_position
    return gaps


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


def _align(a: Numbers, b: Numbers, a0: int, b0: int) -> list[Gap]:
    head = _common_head(a, b)
    a, b = a[head:], b[head:]
    tail = _common_head(a[::-1], b[::-1])
    a, b = a[: len(a) - tail], b[: len(b) - tail]
    a0, b0 = a0 + head, b0 + head
    if not len(a) and not len(b):
        return []
    if not len(a) or not len(b):
        return [Gap(a0, a0 + len(a), b0, b0 + len(b))]
    exact = _exact(a, b, a0, b0)
    if exact is not None:
        return exact
    anchors = _anchors(a, b)
    if not anchors:
        return [
            Gap(gap.a1 + a0, gap.a2 + a0, gap.b1 + b0, gap.b2 + b0)
            for gap in _by_position(a, b)
        ]
    gaps: list[Gap] = []
    last_a = last_b = 0
    for i, j in [*anchors, (len(a), len(b))]:
        if i > last_a or j > last_b:
            gaps += _align(a[last_a:i], b[last_b:j], a0 + last_a, b0 + last_b)
        last_a, last_b = i + 1, j + 1
    return gaps


def _common_head(a: Numbers, b: Numbers) -> int:
    common = min(len(a), len(b))
    differs = a[:common] != b[:common]
    return int(differs.argmax()) if differs.any() else common


def _exact(a: Numbers, b: Numbers, a0: int, b0: int) -> list[Gap] | None:
    """Finds the fewest edits; None if they are more than `MOST_EDITS`."""
    if abs(len(a) - len(b)) > MOST_EDITS:
        return None
    left, right = a.tolist(), b.tolist()
    n, m = len(left), len(right)
    reach = {1: 0}
    trace: list[dict[int, int]] = []
    for edits in range(min(n + m, MOST_EDITS) + 1):
        trace.append(dict(reach))
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
                return _walk_back(trace, n, m, a0, b0)
    return None


def _walk_back(
    trace: list[dict[int, int]], n: int, m: int, a0: int, b0: int
) -> list[Gap]:
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
        if down:
            gaps.append(
                Gap(a0 + before_x, a0 + before_x, b0 + before_y, b0 + before_y + 1)
            )
        else:
            gaps.append(
                Gap(a0 + before_x, a0 + before_x + 1, b0 + before_y, b0 + before_y)
            )
        x, y = before_x, before_y
    return gaps[::-1]


def _anchors(a: Numbers, b: Numbers) -> list[tuple[int, int]]:
    """Returns positions of what occurs once on both sides, in common order."""
    once_a = _once(a)
    once_b = _once(b)
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
    """Returns what is gone in one gap and new in another, and how often."""
    gone = Counter(value for gap in gaps for value in a[gap.a1 : gap.a2].tolist())
    new = Counter(value for gap in gaps for value in b[gap.b1 : gap.b2].tolist())
    return gone & new


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
