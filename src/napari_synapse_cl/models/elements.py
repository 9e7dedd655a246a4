"""Elements of arrays in loops that numba compiles: float32, or bfloat16 as its bits in uint16."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

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
