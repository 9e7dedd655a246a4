"""Where features are learnt and where they are measured, and what is true there.

Networks see one end of the large volume along y; measured is on its other end and on two further
volumes, all centres moved at random: the sites were found by their dark middle, and what looks at
the middle alone would find it again.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from geometry import TARGETS, targets
from scipy.spatial import cKDTree

LARGE, SMALL = "validation_z000-259", ("training_sample1", "training_sample2")
BODIES = "training_sample2_groundtruth_bodies.tif"
SEGMENTED = SMALL[1]
CLASSES = ("tbar", "mito", "membrane", "cytoplasm")
AXES = ["z", "y", "x"]
VOXEL_NM = 10
N_FOLDS = 5
UNLIKE = 3
"""Pairs of two cells for each pair in one."""


@dataclass(frozen=True)
class Plan:
    """What is drawn. Lengths are in voxels.

    Attributes
    ----------
    seen_below, unseen_from
        Along y of the large volume. Between them lies what training crops reach with their
        context, and measured ones with their jitter.
    jitter
        Centres are moved by up to this along each axis.
    jitters, jitters_carried
        How often each site is drawn in the large volume and in the others.
    n_random
        Further positions in the segmented volume.
    n_training
        Random positions for training beside the sites.
    crop, block
        Sides of crops, and of the blocks of space that intervals are drawn from.
    pair_distances
        Between which two centres are a pair, along the axis where they are farthest apart: crops
        of a pair share no voxel.
    pairs_of_cell
        At most of one cell.
    """

    seen_below: int = 236
    unseen_from: int = 300
    jitter: int = 6
    jitters: int = 6
    jitters_carried: int = 3
    n_random: int = 600
    n_training: int = 300
    crop: int = 32
    block: int = 64
    pair_distances: tuple[int, int] = (32, 64)
    pairs_of_cell: int = 40
    seed: int = 0


def prepare(data: Path, work: Path, plan: Plan) -> None:
    """Draw positions and find what is true there; everything in files of `work`.

    Parameters
    ----------
    data
        Folder of the FIB-SEM volumes, their sites and the segmentation.
    work
        Where ``training.csv``, ``dataset.json`` with a table a volume, ``positions.csv`` with
        what is true at each position in the order of that data set, and ``pairs.npz`` go.
    plan
        What is drawn.
    """
    work.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(plan.seed)
    sites = _sites(data, LARGE)
    seen = sites[sites["y"] < plan.seen_below]
    _training(seen, shape_of(data, LARGE), plan, generator).to_csv(
        work / "training.csv", index=False
    )
    unseen = sites[sites["y"] >= plan.unseen_from]
    tables = [_jittered(unseen, data, LARGE, plan.jitters, plan, generator)]
    tables += [
        _jittered(_sites(data, name), data, name, plan.jitters_carried, plan, generator)
        for name in SMALL
    ]
    bodies = tifffile.imread(data / BODIES)
    random = _random(bodies, plan, generator)
    tables[-1] = pd.concat([tables[-1], random], ignore_index=True)
    entries = []
    for name, table in zip((LARGE, *SMALL), tables, strict=True):
        table[AXES].to_csv(work / f"{name}.csv", index=False)
        image, synapses = str((data / f"{name}.tif").absolute()), f"{name}.csv"
        entries.append({"name": name, "image": image, "synapses": synapses})
    (work / "dataset.json").write_text(json.dumps({"volumes": entries}, indent=2))
    positions = pd.concat(tables, ignore_index=True)
    positions = _with_truth(positions, bodies, plan)
    positions["block"] = _blocks(positions, plan)
    positions["fold"] = _folds(positions)
    positions.to_csv(work / "positions.csv", index=False)
    _pairs(positions, plan, generator).to_csv(work / "pairs.csv", index=False)
    about = {"data": str(data.absolute()), "plan": asdict(plan)}
    (work / "plan.json").write_text(json.dumps(about, indent=2))


def with_more_random(data: Path, work: Path, plan: Plan, n: int) -> Path:
    """Write the positions for training with so many random ones, and return the file."""
    sites = _sites(data, LARGE)
    seen, more = sites[sites["y"] < plan.seen_below], replace(plan, n_training=n)
    table = _training(seen, shape_of(data, LARGE), more, np.random.default_rng([plan.seed, n]))
    file = work / f"training-{n}.csv"
    table.to_csv(file, index=False)
    return file


def shape_of(data: Path, name: str) -> tuple[int, ...]:
    """Return the shape of a volume without reading it."""
    with tifffile.TiffFile(data / f"{name}.tif") as file:
        return tuple(file.series[0].shape)


def apart(places: np.ndarray, others: np.ndarray, distance: float) -> np.ndarray:
    """Return which of ``(N, 3)`` places are at least that far from all others along some axis."""
    nearest, _ = cKDTree(others).query(places, p=np.inf, distance_upper_bound=distance)
    return ~(nearest < distance)


def _sites(data: Path, name: str) -> pd.DataFrame:
    table = pd.read_csv(data / f"{name}_sites.csv")
    return table[table["class"].isin(CLASSES)][[*AXES, "class"]].reset_index(drop=True)


def _training(
    sites: pd.DataFrame, shape: tuple[int, ...], plan: Plan, generator: np.random.Generator
) -> pd.DataFrame:
    margin = plan.crop // 2
    stop = (shape[0] - margin, plan.seen_below, shape[2] - margin)
    random = generator.integers(margin, stop, (plan.n_training, 3))
    others = pd.DataFrame(random, columns=AXES).assign(**{"class": "random"})
    return pd.concat([sites, others], ignore_index=True)


def _jittered(
    sites: pd.DataFrame,
    data: Path,
    volume: str,
    n: int,
    plan: Plan,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Draw each site several times; ``site_z`` and so on say where it is."""
    table = sites.loc[sites.index.repeat(n)].reset_index(drop=True)
    moved = table[AXES] + generator.integers(-plan.jitter, plan.jitter + 1, (len(table), 3))
    places = table[AXES].add_prefix("site_")
    # Some sites lie at a face.
    moved = moved.clip(0, np.array(shape_of(data, volume)) - 1, axis=1)
    return pd.concat([moved, table["class"], places], axis=1).assign(volume=volume)


def _random(bodies: np.ndarray, plan: Plan, generator: np.random.Generator) -> pd.DataFrame:
    margin = plan.crop // 2
    inner = np.array(bodies.shape) - margin
    places = generator.integers(margin, inner, (plan.n_random, 3))
    table = pd.DataFrame(places, columns=AXES)
    return table.assign(
        **{"class": "", "volume": SEGMENTED, **{f"site_{a}": table[a] for a in AXES}}
    )


def _with_truth(positions: pd.DataFrame, bodies: np.ndarray, plan: Plan) -> pd.DataFrame:
    """Add what the segmentation tells, where there is one and the crop lies within it."""
    places = positions[AXES].to_numpy()
    half = plan.crop // 2
    inside = ((places >= half) & (places <= np.array(bodies.shape) - half)).all(axis=1)
    rows = np.flatnonzero(inside & (positions["volume"] == SEGMENTED).to_numpy())
    table = targets(bodies, places[rows], plan.crop)
    table.index = rows
    return positions.join(table)


def _blocks(positions: pd.DataFrame, plan: Plan) -> np.ndarray:
    """Return which block of space each position counts to: that of its site."""
    corners = positions[[f"site_{axis}" for axis in AXES]] // plan.block
    keys = pd.concat([positions["volume"], corners], axis=1)
    return keys.groupby(list(keys.columns), sort=False).ngroup().to_numpy()


def _folds(positions: pd.DataFrame) -> np.ndarray:
    """Divide each volume into slabs along its longest axis, sites whole."""
    folds = np.zeros(len(positions), int)
    for _, part in positions.groupby("volume", sort=False):
        places = part[[f"site_{axis}" for axis in AXES]].to_numpy()
        along = places[:, np.argmax(np.ptp(places, axis=0))]
        bounds = np.quantile(along, np.linspace(0, 1, N_FOLDS + 1)[1:-1])
        folds[part.index] = np.searchsorted(bounds, along, side="right")
    return folds


def _pairs(positions: pd.DataFrame, plan: Plan, generator: np.random.Generator) -> pd.DataFrame:
    """Draw pairs in one cell, and some times as many of two at the same distances, to 8 voxels.

    Returns
    -------
    pandas.DataFrame
        Columns ``first`` and ``second``, rows of `positions`, and ``same``.
    """
    known = positions[positions[TARGETS[0]].notna()]
    places, cells = known[AXES].to_numpy(), known["cell"].to_numpy()
    nearest, farthest = plan.pair_distances
    found = cKDTree(places).query_pairs(farthest, p=np.inf, output_type="ndarray")
    found = generator.permutation(found[np.lexsort(found.T)])
    distance = np.abs(places[found[:, 0]] - places[found[:, 1]]).max(axis=1)
    found, distance = found[distance >= nearest], distance[distance >= nearest]
    same = cells[found[:, 0]] == cells[found[:, 1]]
    # A large cell would be most of what there is to see.
    of_cell = pd.Series(cells[found[same, 0]]).groupby(cells[found[same, 0]]).cumcount().to_numpy()
    chosen = [np.flatnonzero(same)[of_cell < plan.pairs_of_cell]]
    for bin in np.unique(distance // 8):
        n = UNLIKE * int((distance[chosen[0]] // 8 == bin).sum())
        chosen.append(np.flatnonzero(~same & (distance // 8 == bin))[:n])
    rows = np.concatenate(chosen)
    ends = known.index.to_numpy()[found[rows]]
    return pd.DataFrame({"first": ends[:, 0], "second": ends[:, 1], "same": same[rows]})
