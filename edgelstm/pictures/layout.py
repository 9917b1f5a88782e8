"""Places for the boxes of a graph: layers from top to bottom, boxes of a layer side by side, few crossing arrows.

Source: Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", IEEE
Transactions on Systems, Man, and Cybernetics 11 (1981), 109-125: ranks, ordering by barycenters, then positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

Edge = tuple[int, int]
Point = tuple[float, float]

_SWEEPS = 8
_GAP = 0.3
"""Of an arrow that passes by, from what is beside it: less than of a box."""


def place(count: int, edges: Sequence[Edge]) -> tuple[list[Point], dict[Edge, list[Point]]]:
    """Places the boxes of a graph without circles.

    Args:
        count: Number of boxes, in an order in which every edge leads from a lower number to a higher one.
        edges: Pairs (from, to).

    Returns:
        For each box its column (boxes side by side are at least 1 apart) and its rank (0 at the top), and for each edge
        the points between boxes through which it passes other ranks.
    """
    rank = _ranks(count, edges)
    nodes = [*range(count)]
    short: list[Edge] = []
    passing: dict[Edge, list[int]] = {}
    for start, end in edges:
        chain = [start]
        for between in range(rank[start] + 1, rank[end]):
            nodes.append(len(nodes))
            rank.append(between)
            chain.append(nodes[-1])
        passing[start, end] = chain[1:]
        short += [*zip(chain, [*chain[1:], end], strict=True)]
    rows = _ordered(rank, short)
    column = _columns(rows, short, count)
    points = [(column[node], float(rank[node])) for node in nodes]
    return points[:count], {edge: [points[node] for node in chain] for edge, chain in passing.items()}


def _ranks(count: int, edges: Sequence[Edge]) -> list[int]:
    """The longest way from a box that nothing leads to; boxes at the top move down to where they are needed."""
    rank = [0] * count
    for start, end in sorted(edges):
        rank[end] = max(rank[end], rank[start] + 1)
    for node in reversed(range(count)):
        below = [rank[end] for start, end in edges if start == node]
        if below and not any(end == node for _, end in edges):
            rank[node] = min(below) - 1
    return rank


def _ordered(rank: Sequence[int], edges: Sequence[Edge]) -> list[list[int]]:
    """The boxes of each rank from left to right."""
    rows: list[list[int]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for node, level in enumerate(rank):
        rows[level].append(node)
    above, below = _neighbours(len(rank), edges)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        position = {node: float(index) for row in rows for index, node in enumerate(row)}
        for row in rows if down else reversed(rows):
            fixed = above if down else below
            means = {node: _mean([position[other] for other in fixed[node]], position[node]) for node in row}
            row.sort(key=means.__getitem__)
            position.update({node: float(index) for index, node in enumerate(row)})
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _columns(rows: Sequence[Sequence[int]], edges: Sequence[Edge], num_boxes: int) -> dict[int, float]:
    """Columns that keep the order, draw boxes towards their neighbours and keep their distance."""
    above, below = _neighbours(sum(map(len, rows)), edges)
    half = {node: 0.5 if node < num_boxes else _GAP / 2 for row in rows for node in row}
    column = {node: index - (len(row) - 1) / 2 for row in rows for index, node in enumerate(row)}
    for sweep in range(4 * _SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([column[other] for other in (*above[node], *below[node])], column[node]) for node in row]
            column.update(zip(row, _spread(wanted, [half[node] for node in row]), strict=True))
    left = min((column[node] for node in column if node < num_boxes), default=0.0)
    return {node: round(value - left, 3) for node, value in column.items()}


def _spread(wanted: Sequence[float], half: Sequence[float]) -> list[float]:
    """The nearest places to those wanted that keep the order and leave room: pools adjacent violators.

    Args:
        wanted: Where each would like to be.
        half: Half the room that each needs.
    """
    offsets = [0.0]
    for left, right in itertools.pairwise(half):
        offsets.append(offsets[-1] + left + right)
    blocks: list[tuple[float, int]] = []
    for offset, place in zip(offsets, wanted, strict=True):
        blocks.append((place - offset, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (second, many), (first, few) = blocks.pop(), blocks.pop()
            blocks.append(((first * few + second * many) / (few + many), few + many))
    starts = [start for start, size in blocks for _ in range(size)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def _neighbours(count: int, edges: Sequence[Edge]) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for start, end in edges:
        below[start].append(end)
        above[end].append(start)
    return above, below


def _crossings(rows: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    position: Mapping[int, int] = {node: index for row in rows for index, node in enumerate(row)}
    total = 0
    for row in rows:
        ends = [[position[end] for end in below[node]] for node in row]
        for index, left in enumerate(ends):
            total += sum(a > b for right in ends[index + 1 :] for a in left for b in right)
    return total


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
