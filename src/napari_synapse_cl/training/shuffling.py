"""A shuffled order that is computed where it is looked at, and never lies in memory."""

import numpy as np

ROUNDS = 8
"""Luby and Rackoff need four; numbers of few bits mix better with more."""


class Shuffle:
    """A pseudo-random permutation of the numbers from 0 to below n.

    A Feistel network permutes the numbers of as many bits as n needs; one that comes out beyond n
    is permuted again until it does not.

    Parameters
    ----------
    n
        How many numbers, 1 to 2⁶².
    seed
        Anything that numpy takes for one.

    References
    ----------
    Black, Rogaway: Ciphers with Arbitrary Finite Domains, 2002, section 5 (cycle walking) and 6
    (Feistel networks). https://www.cs.ucdavis.edu/~rogaway/papers/subset.pdf
    """

    def __init__(self, n: int, seed: int | list[int]) -> None:
        self._n = np.uint64(n)
        self._half = np.uint64(max(1, -(-(n - 1).bit_length() // 2)))
        self._mask = (np.uint64(1) << self._half) - np.uint64(1)
        self._keys = np.random.default_rng(seed).integers(2**64, size=ROUNDS, dtype=np.uint64)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Return ``(k,)`` int64, the numbers at some places of the order, ``(k,)`` int."""
        found = self._permuted(np.asarray(places).astype(np.uint64))
        while (beyond := found >= self._n).any():
            found[beyond] = self._permuted(found[beyond])
        return found.astype(np.int64)

    def _permuted(self, numbers: np.ndarray) -> np.ndarray:
        left, right = numbers >> self._half, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._mask)
        return left << self._half | right


def _mixed(values: np.ndarray) -> np.ndarray:
    """Return ``(k,)`` uint64 of which each bit depends on every bit of ``(k,)`` uint64.

    References
    ----------
    Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014, figure 14.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
