"""The loop of :mod:`~napari_synapse_cl.augmentations.resampling`, which numba compiles.

A round is a slice along z of one view. Each is computed by itself and in one order, so how many
threads share the slices changes nothing. Read of what is given are C-contiguous arrays alone.
"""

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from napari_synapse_cl.system.loops import compiled

# Not "nnan" or "ninf": what is not a number in a crop stays it.
FAST = {"contract", "reassoc", "nsz", "arcp"}
INSIDE = 1e-3
"""Voxels from the outermost centres up to which a place counts as inside: more than rounding."""


@compiled(nogil=True, fastmath=FAST)
def resample(
    start: int,
    stop: int,
    crops: NDArray[np.float32],
    pairs: NDArray[np.uint64],
    matrices: NDArray[np.float64],
    views: NDArray[np.float32],
) -> None:
    """Interpolate slices of views from crops, which are reflected at their faces.

    Parameters
    ----------
    start, stop
        Slices, of ``B * d``.
    crops
        ``(B, D, H, W)``.
    pairs
        ``(B, D * H * W - 1)``, the same memory: each voxel with the next one along x, or in memory.
    matrices
        ``(B, 3, 4)``, from offsets in the view to offsets in the crop, on (z, y, x) voxels, and
        what is added to these.
    views
        ``(B, d, h, w)``, is filled.
    """
    _, depth, height, width = crops.shape
    _, d, h, w = views.shape
    row_stride, slice_stride = np.int32(width), np.int32(height * width)
    at = np.empty(w, np.int32)
    shares = np.empty((3, w), np.float32)
    corners = np.empty((4, w), np.uint64)
    for round_ in range(start, stop):
        b, k = divmod(round_, d)
        m = matrices[b]
        for j in range(h):
            oz, oy, ox = k + 0.5 - d / 2, j + 0.5 - h / 2, 0.5 - w / 2
            z = m[0, 0] * oz + m[0, 1] * oy + m[0, 2] * ox + m[0, 3] + depth / 2 - 0.5
            y = m[1, 0] * oz + m[1, 1] * oy + m[1, 2] * ox + m[1, 3] + height / 2 - 0.5
            x = m[2, 0] * oz + m[2, 1] * oy + m[2, 2] * ox + m[2, 3] + width / 2 - 0.5
            dz, dy, dx = m[0, 2], m[1, 2], m[2, 2]
            low, high = _inside(z, dz, depth, 0.0, float(w))
            low, high = _inside(y, dy, height, low, high)
            low, high = _inside(x, dx, width, low, high)
            first = int(min(ceil(low), w))
            last = int(max(min(floor(high), w), first))
            row = views[b, k, j]
            for i in range(first):
                row[i] = _at_a_face(crops[b], z + i * dz, y + i * dy, x + i * dx)
            for i in range(last, w):
                row[i] = _at_a_face(crops[b], z + i * dz, y + i * dy, x + i * dx)
            inner = row[first:last]
            z, y, x = z + first * dz, y + first * dy, x + first * dx
            _places((z, y, x), (dz, dy, dx), (slice_stride, row_stride), at, shares, inner.size)
            _gather(pairs[b], at, slice_stride, row_stride, corners, inner.size)
            _mix(corners.view(np.float32), shares, inner)


@compiled(nogil=True)
def _inside(base: float, step: float, n: int, low: float, high: float) -> tuple[float, float]:
    """Narrow [low, high) to those i whose place, base + i * step, has both neighbours in [0, n)."""
    first, last = INSIDE - base, n - 1 - INSIDE - base
    if abs(step) < 1e-9:
        return (low, high) if first <= 0 <= last else (low, low)
    if step < 0:
        first, last = last, first
    return max(low, first / step), min(high, last / step + 1)


@compiled(nogil=True, fastmath=FAST)
def _places(
    begin: tuple[float, float, float],
    step: tuple[float, float, float],
    strides: tuple[np.int32, np.int32],
    at: NDArray[np.int32],
    shares: NDArray[np.float32],
    n: int,
) -> None:
    """Find, along a row inside the crop, each place's lowest corner and the others' shares."""
    z, y, x = np.float32(begin[0]), np.float32(begin[1]), np.float32(begin[2])
    dz, dy, dx = np.float32(step[0]), np.float32(step[1]), np.float32(step[2])
    for i in range(n):
        turn = np.float32(np.int32(i))
        pz, py, px = z + turn * dz, y + turn * dy, x + turn * dx
        iz, iy, ix = np.int32(pz), np.int32(py), np.int32(px)
        shares[0, i] = pz - np.float32(iz)
        shares[1, i] = py - np.float32(iy)
        shares[2, i] = px - np.float32(ix)
        at[i] = iz * strides[0] + iy * strides[1] + ix


@compiled(nogil=True)
def _gather(
    pairs: NDArray[np.uint64],
    at: NDArray[np.int32],
    slice_stride: np.int32,
    row_stride: np.int32,
    corners: NDArray[np.uint64],
    n: int,
) -> None:
    """Copy the corners of each place, two voxels at a time."""
    # Unsigned: a negative index would count from the end, which takes a comparison.
    below, behind = np.uint64(row_stride), np.uint64(slice_stride)
    both = below + behind
    for i in range(n):
        corner = np.uint64(np.uint32(at[i]))
        corners[0, i] = pairs[corner]
        corners[1, i] = pairs[corner + below]
        corners[2, i] = pairs[corner + behind]
        corners[3, i] = pairs[corner + both]


@compiled(nogil=True, fastmath=FAST)
def _mix(
    corners: NDArray[np.float32], shares: NDArray[np.float32], row: NDArray[np.float32]
) -> None:
    """Interpolate between the corners, of which two lie side by side."""
    for i in range(row.size):
        z, y, x = shares[0, i], shares[1, i], shares[2, i]
        j = 2 * i
        a = corners[0, j] + x * (corners[0, j + 1] - corners[0, j])
        b = corners[1, j] + x * (corners[1, j + 1] - corners[1, j])
        c = corners[2, j] + x * (corners[2, j + 1] - corners[2, j])
        d = corners[3, j] + x * (corners[3, j + 1] - corners[3, j])
        upper = a + y * (b - a)
        lower = c + y * (d - c)
        row[i] = upper + z * (lower - upper)


@compiled(nogil=True)
def _at_a_face(crop: NDArray[np.float32], z: float, y: float, x: float) -> np.float32:
    """Interpolate at a place that may lie at the faces of a crop or beyond them."""
    depth, height, width = crop.shape
    z, y, x = _reflected(z, depth), _reflected(y, height), _reflected(x, width)
    iz, iy, ix = int(z), int(y), int(x)
    jz, jy, jx = min(iz + 1, depth - 1), min(iy + 1, height - 1), min(ix + 1, width - 1)
    z, y, x = z - iz, y - iy, x - ix
    a = crop[iz, iy, ix] + x * (crop[iz, iy, jx] - crop[iz, iy, ix])
    b = crop[iz, jy, ix] + x * (crop[iz, jy, jx] - crop[iz, jy, ix])
    c = crop[jz, iy, ix] + x * (crop[jz, iy, jx] - crop[jz, iy, ix])
    d = crop[jz, jy, ix] + x * (crop[jz, jy, jx] - crop[jz, jy, ix])
    upper = a + y * (b - a)
    lower = c + y * (d - c)
    return np.float32(upper + z * (lower - upper))


@compiled(nogil=True)
def _reflected(place: float, n: int) -> float:
    """Return where a place is seen that lies beyond the outer faces of n voxels."""
    place = abs(place + 0.5) % (2 * n)
    if place >= n:
        place = 2 * n - place
    return min(max(place - 0.5, 0.0), n - 1.0)
