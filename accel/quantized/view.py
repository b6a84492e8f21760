"""How a tensor of a graph holds a tensor of the source: axes split into factors, which memory orders as it likes.

A graph has the channels last, ONNX has them first; reshapes and transposes of the source mostly change only how the
same bytes are read. A `View` describes that, so that nothing moves until an operator needs another order.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass

from accel.network.windows import Shape

Factors = tuple[tuple[int, ...], ...]
Order = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """A tensor of the source in memory.

    Parameters
    ----------
    factors : tuple of tuples of int
        For every axis, sizes greater than 1 whose product is the axis's size, outermost first.
    order : tuple of int
        The factors, numbered through all axes, from the slowest to the fastest in memory.
    """

    factors: Factors
    order: Order

    @classmethod
    def of(cls, shape: Shape, axes: Order | None = None) -> View:
        """Whole axes, in memory in the order `axes`; row-major by default."""
        factors = tuple((size,) if size > 1 else () for size in shape)
        numbers = {axis: number for number, axis in enumerate(a for a, size in enumerate(shape) if size > 1)}
        return cls(factors, tuple(numbers[axis] for axis in axes or range(len(shape)) if axis in numbers))

    @property
    def shape(self) -> Shape:
        """Of the source's tensor."""
        return tuple(math.prod(axis) for axis in self.factors)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of all factors, by number."""
        return tuple(itertools.chain(*self.factors))

    @property
    def is_row_major(self) -> bool:
        """Whether memory has the source's order."""
        return self.order == tuple(range(len(self.order)))

    @property
    def axes(self) -> Order | None:
        """The order of whole axes in memory, preferably channels last or row-major; None if an axis is split."""
        merged, rank = self.merged(), len(self.factors)
        if any(len(axis) > 1 for axis in merged.factors):
            return None
        for usual in ((0, *range(2, rank), 1), tuple(range(rank))):
            if rank > 1 and merged == View.of(self.shape, usual):
                return usual
        owners = [axis for axis, factors in enumerate(merged.factors) if factors]
        return (*(a for a, f in enumerate(merged.factors) if not f), *(owners[number] for number in merged.order))

    def numbers(self, axis: int) -> tuple[int, ...]:
        """The factors of an axis."""
        first = sum(len(factors) for factors in self.factors[:axis])
        return tuple(range(first, first + len(self.factors[axis])))

    def order_of(self, axes: Order) -> Order:
        """The order in memory that has the axes one after the other."""
        return tuple(itertools.chain(*(self.numbers(axis) for axis in axes)))

    def transposed(self, permutation: Order) -> View:
        """Axis i is axis ``permutation[i]`` of this view; memory stays."""
        renumbered = {number: new for new, number in enumerate(self.order_of(permutation))}
        return View(tuple(self.factors[axis] for axis in permutation), tuple(renumbered[n] for n in self.order))

    def reshaped(self, shape: Shape) -> View | None:
        """Another shape of the same elements; None if memory has to move first."""
        if self.is_row_major:
            return View.of(shape)
        return self._split(shape)

    def refined(self, factors: Factors) -> View | None:
        """Axes split where `factors` split them too; None if sizes do not nest."""
        flat = tuple(size if size else 1 for axis in factors for size in axis)
        split = self._split(flat)
        if split is None:
            return None
        parts = iter(split.factors)
        return View(tuple(tuple(itertools.chain(*(next(parts) for _ in axis))) for axis in factors), split.order)

    def _split(self, shape: Shape) -> View | None:
        """Factors divided among the axes of `shape`; None if a factor would straddle two axes that do not nest."""
        left = deque((number, size) for number, size in enumerate(self.sizes))
        pieces: dict[int, list[int]] = {number: [] for number in range(len(self.order))}
        axes: list[tuple[int, ...]] = []
        count = 0
        for wanted in shape:
            axis = []
            while wanted > 1:
                number, size = left.popleft()
                part = math.gcd(wanted, size) if wanted % size else size
                if part not in (wanted, size):
                    return None
                if part != size:
                    left.appendleft((number, size // part))
                axis.append(part)
                pieces[number].append(count)
                count, wanted = count + 1, wanted // part
            axes.append(tuple(axis))
        return View(tuple(axes), tuple(itertools.chain(*(pieces[number] for number in self.order))))

    def merged(self) -> View:
        """The same view with neighbours of an axis that are neighbours in memory too as one factor."""
        follows = {a: b for a, b in itertools.pairwise(self.order) if b == a + 1}
        factors: list[tuple[int, ...]] = []
        kept: dict[int, int] = {}
        for axis in range(len(self.factors)):
            sizes: list[int] = []
            for number in self.numbers(axis):
                if sizes and follows.get(number - 1) == number:
                    sizes[-1] *= self.sizes[number]
                else:
                    kept[number] = len(kept)
                    sizes.append(self.sizes[number])
            factors.append(tuple(sizes))
        return View(tuple(factors), tuple(kept[number] for number in self.order if number in kept))
