"""Loops of :mod:`~napari_synapse_cl.models.norms`.

They go over maps in channels-last order, flat, as rows of L elements: some voxels, each with all
its channels. What belongs to a channel comes as L numbers, repeated for each voxel of a row, so
that the innermost loops are long and alike. bfloat16 comes as its bits, in uint16.

A round is a chunk of some rows. Sums are taken for each round and element of a row, so they do not
depend on the number of threads.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from napari_synapse_cl.system.loops import compiled

OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}}
"""How loops over them are compiled."""


@intrinsic
def _float_of_bits(context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _bits_of_float(context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


# Of these two numba knows the names alone: what it compiles in their place stands below.
def load(value: Any) -> Any:
    """Return an element as float32."""
    raise NotImplementedError


def store_as(value: Any, like: Any) -> Any:
    """Return a float32 as an element like another; of two nearest bfloat16 the even one."""
    raise NotImplementedError


@overload(load)
def _load_of_type(value: Any) -> Any:
    def same(value: Any) -> Any:
        return value

    def load_bits(value: Any) -> Any:
        return _float_of_bits(np.uint32(np.uint32(value) << np.uint32(16)))

    return load_bits if isinstance(value, types.Integer) else same


@overload(store_as)
def _as_type(value: Any, like: Any) -> Any:
    def same(value: Any, like: Any) -> Any:
        return value

    def rounded(value: Any, like: Any) -> Any:
        bits = _bits_of_float(np.float32(value))
        half = np.uint32(np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
        return np.uint16(np.uint32(bits + half) >> np.uint32(16))

    return rounded if isinstance(like, types.Integer) else same


@compiled(**OPTIONS)
def sum_squares(
    start: int,
    stop: int,
    maps: np.ndarray,
    chunk: int,
    pivot: np.ndarray,
    sums: np.ndarray,
    squares: np.ndarray,
) -> None:
    """Sum the deviations from a pivot, and their squares."""
    row = len(pivot)
    for number in range(start, stop):
        sum_, square = sums[number], squares[number]
        for first in range(number * chunk, min((number + 1) * chunk, len(maps)), row):
            part = maps[first : min(first + row, len(maps))]
            for i in range(len(part)):
                deviation = load(part[i]) - pivot[i]
                sum_[i] += deviation
                square[i] += deviation * deviation


@compiled(**OPTIONS)
def normalise(
    start: int,
    stop: int,
    maps: np.ndarray,
    chunk: int,
    scale: np.ndarray,
    shift: np.ndarray,
    results: np.ndarray,
) -> None:
    """Scale and shift, and put 0 in place of what is negative."""
    row = len(scale)
    zero = np.float32(0)
    for number in range(start, stop):
        for first in range(number * chunk, min((number + 1) * chunk, len(maps)), row):
            part = maps[first : min(first + row, len(maps))]
            result = results[first : first + len(part)]
            for i in range(len(part)):
                value = load(part[i]) * scale[i] + shift[i]
                # NaN is no less than 0, and stays.
                result[i] = store_as(zero if value <= zero else value, part[i])


@compiled(**OPTIONS)
def sum_gradients(
    start: int,
    stop: int,
    maps: np.ndarray,
    gradients: np.ndarray,
    chunk: int,
    scale: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    sums: np.ndarray,
    products: np.ndarray,
) -> None:
    """Sum what ReLU lets through of gradients, and its products with the maps less their mean."""
    row = len(scale)
    zero = np.float32(0)
    for number in range(start, stop):
        sum_, product = sums[number], products[number]
        for first in range(number * chunk, min((number + 1) * chunk, len(maps)), row):
            part = maps[first : min(first + row, len(maps))]
            gradient = gradients[first : first + len(part)]
            for i in range(len(part)):
                value = load(part[i])
                through = zero if value * scale[i] + shift[i] <= zero else load(gradient[i])
                sum_[i] += through
                product[i] += through * (value - mean[i])


@compiled(**OPTIONS)
def map_gradients(
    start: int,
    stop: int,
    maps: np.ndarray,
    gradients: np.ndarray,
    chunk: int,
    scale: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
    offset: np.ndarray,
    results: np.ndarray,
) -> None:
    """Write the gradients of the maps: of what ReLU lets through, of the mean and the variance."""
    row = len(scale)
    zero = np.float32(0)
    for number in range(start, stop):
        for first in range(number * chunk, min((number + 1) * chunk, len(maps)), row):
            part = maps[first : min(first + row, len(maps))]
            gradient = gradients[first : first + len(part)]
            result = results[first : first + len(part)]
            for i in range(len(part)):
                value = load(part[i])
                through = zero if value * scale[i] + shift[i] <= zero else load(gradient[i])
                result[i] = store_as(through * scale[i] + value * slope[i] + offset[i], part[i])
