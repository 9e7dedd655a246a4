"""Vectors of groups: their means, what is typical of each, and what its rows have in common."""

import numpy as np
import pandas as pd
import pytest

from napari_synapse_cl.errors import InputError
from napari_synapse_cl.features import pooling
from napari_synapse_cl.features.pooling import pool
from napari_synapse_cl.features.vectors import Scaling, VectorTable, as_vectors

N, CHANNELS = 60, 5


@pytest.fixture
def vectors() -> VectorTable:
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        generator.normal(size=(N, CHANNELS)) * [1, 1, 100, 1, 1] + 3,
        columns=[f"L3_mean_{i:03}" for i in range(CHANNELS)],
    )
    neurons = pd.array(generator.integers(0, 7, N) + 720575940625000001, dtype="Int64")
    neurons[5] = pd.NA
    table.loc[9] = np.nan
    table["neuron"] = neurons
    table["type"] = np.where(neurons.to_numpy(np.int64, na_value=0) % 2, "odd", "even")
    table["size"] = generator.normal(size=N)
    return as_vectors(table, {}, ["L3_mean"], descriptors=False)


@pytest.mark.parametrize("at_once", [2**14, 8])
def test_groups_have_the_mean_of_their_rows_and_the_most_typical_of_them(
    vectors: VectorTable, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "ROWS_AT_ONCE", at_once)
    found = pool(vectors, vectors.table, "neuron")
    table, neurons = found.table, vectors.table["neuron"]
    assert list(table.columns) == ["neuron", "n_synapses", "type", *vectors.columns]
    usable = neurons.notna().to_numpy() & np.isfinite(vectors.values).all(axis=1)
    assert table["neuron"].tolist() == neurons[usable].drop_duplicates().tolist()
    assert table["n_synapses"].sum() == usable.sum() == N - 2
    assert found.n_without == 1
    for group, row in enumerate(table.itertuples()):
        members = np.flatnonzero(usable & (neurons == row.neuron).fillna(False).to_numpy(bool))
        mean = vectors.values[members].astype(float).mean(axis=0)
        assert np.allclose(table[list(vectors.columns)].iloc[group], mean, rtol=1e-5)
        assert row.n_synapses == len(members)
        assert row.type == vectors.table["type"][members[0]]
        # On one scale, where no channel counts more than another.
        factor = Scaling.of(vectors.values[usable], [CHANNELS]).factor
        distances = np.square((vectors.values[members] - mean) * factor).sum(axis=1)
        assert found.typical[group] == members[distances.argmin()]


def test_one_group_and_groups_of_one_are_refused(vectors: VectorTable) -> None:
    columns = vectors.table.assign(one="a", each=np.arange(N))
    for by in ("one", "each"):
        with pytest.raises(InputError, match="at least two groups"):
            pool(vectors, columns, by)
