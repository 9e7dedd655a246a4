"""How long it takes to look for near vectors.

    python benchmarks/exploring.py [--query 1000000] [--pairs 100000] [--channels 96]

A query among a million vectors (what is most like three of them, and not like a fourth), and the 15
neighbours of each of a hundred thousand; beside the second, scikit-learn's brute search for a part
of them, and how far both agree. Vectors are random ones in 50 clusters.

Wall-clock time is that of this machine with whatever else it does, so the processors' time is told
too: half of it is what two cores take that do nothing else.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from napari_synapse_cl.features.neighbours import Space, find_neighbours, finished

K = 15
N_QUERIES = 20
N_COMPARED = 4096


def some_vectors(n: int, channels: int) -> np.ndarray:
    """Return ``(n, channels)`` float32."""
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(50, channels)).astype(np.float32)
    return middles[rng.integers(0, 50, n)] + rng.standard_normal((n, channels), np.float32)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what work returns, the seconds that it takes, and those of all processors."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--query", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=96)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {' '.join(f'{x:.1f}' for x in os.getloadavg())}\n")
    print("| | metric | least, s | median, s | processors, s |\n| --- | --- | ---: | ---: | ---: |")
    values = some_vectors(options.query, options.channels)
    for metric in ("cosine", "euclidean"):
        space = Space(values, metric)
        space.similar(values[:3], values[3:4])
        runs = [
            timed(lambda i=i, space=space: space.similar(values[i : i + 3], values[i + 3 : i + 4]))
            for i in range(N_QUERIES)
        ]
        wall, cpu = np.sort([run[1] for run in runs]), np.median([run[2] for run in runs])
        name = f"a query among {options.query:,}"
        print(f"| {name} | {metric} | {wall[0]:.3f} | {np.median(wall):.3f} | {cpu:.3f} |")
    values = some_vectors(options.pairs, options.channels)
    for metric in ("cosine", "euclidean"):
        space = Space(values, metric)
        found, wall, cpu = timed(lambda space=space: finished(find_neighbours(space, K)))
        name = f"{K} neighbours of all {options.pairs:,}"
        print(f"| {name} | {metric} | {wall:.1f} | | {cpu:.1f} |")
        search = NearestNeighbors(n_neighbors=K + 1, metric="euclidean", algorithm="brute")
        search.fit(space.points)
        asked = space.points[:N_COMPARED]
        others, wall, cpu = timed(lambda s=search, a=asked: s.kneighbors(a, return_distance=False))
        share = options.pairs / len(asked)
        name = f"the same by scikit-learn, from {len(asked):,}"
        print(f"| {name} | {metric} | {wall * share:.1f} | | {cpu * share:.1f} |")
        same = [len(np.intersect1d(a, b)) for a, b in zip(found.numbers, others, strict=False)]
        print(f"\n{np.mean(same) / K:.4%} of the neighbours are the same\n")


if __name__ == "__main__":
    main()
