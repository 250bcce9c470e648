"""Rounding to 6 decimals, half to even, as decimal arithmetic on the exact inputs would.

Binary arithmetic decides all but the few values too near a tie, and decimal arithmetic decides those.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import numpy as np
import numpy.typing as npt

from domain.models import DECIMALS

SCALE = 10.0**DECIMALS
BLOCK = 16_384  # rows whose intermediate results stay in the processor's cache

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_QUANTUM = Decimal(1).scaleb(-DECIMALS)

Floats = npt.NDArray[np.float64]


def exact_decimal(number: float) -> Decimal:
    """Return the decimal that was received: a float's shortest text is the number it was read from."""
    return Decimal(repr(float(number)))


def round_exactly(
    size: int, scaled: Callable[[slice, Floats], object], exact: Callable[[int], Decimal], *, first: int = 0
) -> Floats:
    """Compute and round an array block by block.

    Parameters
    ----------
    size : int
        Length of the result.
    scaled : callable
        Called with a block and an array to fill with the block's values multiplied by :data:`SCALE`.
    exact : callable
        Called with an index for the exact value, not multiplied.
    first : int
        Where to begin; earlier values stay undefined.

    Returns
    -------
    numpy.ndarray of float64, shape (size,)
        Not finite where `scaled` is not.
    """
    result, scratch = np.empty(size), np.empty(BLOCK)
    for start in range(first, size, BLOCK):
        block = slice(start, min(start + BLOCK, size))
        values = scratch[: block.stop - block.start]
        scaled(block, values)
        _round_block(result, block, values, exact)
    return result


def _round_block(result: Floats, block: slice, values: Floats, exact: Callable[[int], Decimal]) -> None:
    """Round one block; `values` are overwritten.

    A binary result is off by a few units in its last place, and by as many of the ratio it was subtracted from: well
    under the margin below. Only values nearer than that to a tie, about one in a million and the true ties, are
    computed again in decimal.
    """
    rounded = np.rint(values, out=result[block])
    values -= rounded
    largest = bound = max(np.maximum.reduce(rounded), -np.minimum.reduce(rounded))
    if not largest < np.inf:
        bound = np.abs(rounded[np.isfinite(rounded)]).max(initial=0.0)
    near_a_tie = 0.5 - (1e-6 + 1e-14 * bound)
    doubtful = np.empty(0, dtype=np.intp)
    if not max(np.maximum.reduce(values), -np.minimum.reduce(values)) < near_a_tie:  # NaN is not below anything
        doubtful = np.flatnonzero(np.abs(values) >= near_a_tie)  # by the margin of the largest, then by their own
        own = 0.5 - (1e-6 + 1e-14 * np.abs(rounded[doubtful]))
        doubtful = doubtful[np.abs(values[doubtful]) >= own]
    rounded /= SCALE
    with localcontext(_EXACT):
        for i in doubtful.tolist():
            rounded[i] = float(exact(block.start + i).quantize(_QUANTUM))
