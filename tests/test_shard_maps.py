"""Maps in shards: the same as at once, what goes on, what is refused, and what fails."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from napari_synapse_cl.config import Config
from napari_synapse_cl.data.volumes import Volume
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.maps import blocks
from napari_synapse_cl.features.maps.grid import Box, MapGrid
from napari_synapse_cl.models.architecture import Architecture, downsampling_factors
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.pipeline.networks import make_model
from napari_synapse_cl.pipeline.shards.trail import BROKEN
from napari_synapse_cl.runs.events import Control, Event, Message, Progress, ShardsDone, Wrote
from napari_synapse_cl.runs.shards import Places, follow_shards
from test_shards import times_done

LAYERS = (5, 9)
"""With strides of 1 and 2 voxels."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a volume in chunks and a network."""
    folder = tmp_path_factory.mktemp("data")
    voxels = np.random.default_rng(0).integers(0, 255, (50, 20, 40), dtype=np.uint8)
    zarr.create_array(folder / "v.zarr", data=voxels, chunks=(10, 20, 20))
    config = Config.from_values({"fmaps": 4, "n_convolutions": (2, 1), "crop_size": 16})
    torch.save(make_model(config).backbone.state_dict(), folder / "n.pt")
    return folder


@pytest.fixture
def settings(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(blocks, "BLOCK_SIDE", 16)
    return {
        "extract_only": True,
        "dense": True,
        "checkpoint": data / "n.pt",
        "image": data / "v.zarr",
        "voxel_size": 10,
        # Neither end is a multiple of the stride.
        "region": (3, 1, 5, 47, 15, 40),
        "layer_num": LAYERS,
        "device": "cpu",
        "precision": "float32",
        "workers": 1,
        "output": tmp_path / "out",
    }


def events(settings: dict[str, Any], control: Control | None = None) -> Iterator[Event]:
    return run(Config.from_values(settings), control)


def told(happened: list[Event]) -> str:
    return "\n".join(event.text for event in happened if isinstance(event, Message))


def maps_in(output: Path) -> dict[str, np.ndarray]:
    group = zarr.open_group(output / "maps_L5_L9.zarr", mode="r")
    assert {array.attrs["complete"] for _, array in group.arrays()} <= {True, False}
    return {name: array[:] for name, array in group.arrays()}


def assert_same(found: Path, expected: Path) -> None:
    ours, others = maps_in(found), maps_in(expected)
    assert set(ours) == set(others) == {"L5", "L9", "L5_rgb", "L9_rgb"}
    for name, values in ours.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, others[name])


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic"])
@pytest.mark.parametrize("chosen", [(2,), (2, 14, 27), (20,)])
def test_each_chunk_lies_in_one_block_and_each_element_too(
    kind: str, chosen: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_SIDE", 24)
    monkeypatch.setattr(blocks, "CHUNK", (4, 8, 8))
    architecture = Architecture((2, 4, 8, 16), (2, 2, 2, 2), downsampling_factors(kind, 4))
    layers = [architecture.layers[index] for index in chosen]
    shape = (71, 101, 89)
    region = Box((5, 7, 1), (70, 99, 89))
    grids = {layer.index: MapGrid.of(layer, region, shape) for layer in layers}
    found = blocks.blocks_of(layers, grids)
    assert len(found) > 8
    for layer in layers:
        chunk = blocks.chunk_shape(layer, layers)
        n_chunks = [-(-n // c) for n, c in zip(grids[layer.index].shape, chunk, strict=True)]
        owner = np.full(n_chunks, -1)
        for number, block in enumerate(found):
            if not block[layer.index].n_elements:
                continue
            place = block[layer.index].slices_from(grids[layer.index].first)
            assert all(s.start % c == 0 for s, c in zip(place, chunk, strict=True))
            within = tuple(
                slice(s.start // c, -(-s.stop // c)) for s, c in zip(place, chunk, strict=True)
            )
            assert (owner[within] == -1).all()
            owner[within] = number
        assert (owner >= 0).all()


def test_they_are_those_of_an_extraction_at_once_to_the_bit(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    happened = list(events(settings))
    progress = [event for event in happened if isinstance(event, ShardsDone)]
    assert progress[-1].done == progress[-1].total == 3 * 3
    at_once = events({**settings, "workers": 0, "output": tmp_path / "at_once"})
    tiles = [e for e in at_once if isinstance(e, Progress) and e.unit == "tile"]
    # On the sizes of tiles the last bits depend, if not in blocks as small as these.
    assert tiles[-1].total == progress[-1].total
    assert_same(tmp_path / "out", tmp_path / "at_once")
    # Nothing is left but what goes on, and that finds all done.
    assert happened[-1] == Wrote("maps", str(tmp_path / "out" / "maps_L5_L9.zarr"))
    assert not list((tmp_path / "out" / "shards").glob("*.zarr"))
    array = {**settings, "workers": 0, "shard": "2/3"}
    assert "done already" in told(list(events(array)))
    *_, wrote = follow_shards(Places(tmp_path / "out"), Control())
    assert wrote == happened[-1]
    list(events({**array, "output": tmp_path / "array"}))
    assert_same(tmp_path / "array", tmp_path / "at_once")


def test_the_same_command_goes_on_and_does_what_is_not_done_or_damaged(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    output, control = tmp_path / "out", Control()
    happened = []
    for event in events(settings, control):
        happened.append(event)
        if isinstance(event, ShardsDone) and event.done == 5:
            control.request("stop")
    assert "ended with 5 of 9 shards done" in told(happened)
    assert not (output / "maps_L5_L9.zarr").exists()
    chunk = next((output / "shards" / "maps_L5_L9.zarr" / "L9" / "c").rglob("0"))
    while chunk.is_dir():
        chunk = next(chunk.iterdir())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    happened = list(events(settings))
    assert next(event for event in happened if isinstance(event, ShardsDone)).done == 5
    assert "1 part of the maps are damaged and made again" in told(happened)
    assert sorted(times_done(output).values()) == [*itertools.repeat(1, 8), 2]
    list(events({**settings, "workers": 0, "output": tmp_path / "at_once"}))
    assert_same(output, tmp_path / "at_once")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer_num": (5, 8)}, "layer_num was 5 9 and is now 5 8"),
        ({"region": (3, 1, 5, 47, 15, 41)}, "region was"),
        ({"intensity": "percentiles"}, "intensity was range and is now percentiles"),
        ({"checkpoint": "other.pt"}, "the network is another"),
        ({"image": "other.npy"}, "the image"),
        ({"dense": False, "region": None, "synapses": "t.csv"}, "is of an extraction of maps"),
    ],
)
def test_other_settings_network_or_data_are_refused(
    settings: dict[str, Any], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    config = Config.from_values({"fmaps": 4, "n_convolutions": (2, 1), "seed": 1})
    torch.save(make_model(config).backbone.state_dict(), tmp_path / "other.pt")
    np.save(tmp_path / "other.npy", np.ones((50, 20, 40), np.uint8))
    pd.DataFrame({"z": [20], "y": [10], "x": [20]}).to_csv(tmp_path / "t.csv", index=False)
    control = Control()
    for event in events(settings, control):
        if isinstance(event, ShardsDone):
            control.request("stop")
    files = ("checkpoint", "image", "synapses")
    changed = {k: tmp_path / v if k in files else v for k, v in change.items()}
    with pytest.raises(InputError, match=words):
        list(events({**settings, **changed}))


def test_maps_that_are_there_are_replaced_if_asked_for_alone(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    list(events({**settings, "workers": 0}))
    with pytest.raises(InputError, match="is there already; replace it with --overwrite"):
        list(events(settings))
    list(events({**settings, "overwrite": True}))
    assert len(times_done(tmp_path / "out")) == 9


def test_what_cannot_be_read_is_blank_and_listed_and_the_rest_is_there(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(events({**settings, "output": tmp_path / "whole"}))

    def broken(box: Any) -> None:
        if box[0].start <= 3 and box[2].start < 10:
            raise JobError("v.zarr could not be read: the chunk is damaged")

    spoil(monkeypatch, broken)
    happened = list(events(settings))
    failed = pd.read_csv(tmp_path / "out" / "failed.csv")
    assert failed["reason"].str.contains("the chunk is damaged").all()
    assert f"{len(failed)} tile of the maps could not be made" in told(happened)
    found, whole = maps_in(tmp_path / "out")["L9"], maps_in(tmp_path / "whole")["L9"]
    blank = np.isnan(found)
    # Its first block along z and x, of 8 elements a side.
    assert blank[:, :8, :, :8].all()
    assert 0 < blank.mean() < 0.5
    np.testing.assert_array_equal(found[~blank], whole[~blank])


def spoil(monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    """Have something happen before a box of the volume is read for maps."""
    from napari_synapse_cl.features.maps import extraction

    read = extraction._read

    def _read(volume: Volume, box: Box, intensities: tuple[float, float]) -> np.ndarray:
        happens(box.slices)
        return read(volume, box, intensities)

    monkeypatch.setattr(extraction, "_read", _read)


def test_a_block_that_takes_its_worker_with_it_is_listed_and_the_rest_is_done(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def happens(box: Any) -> None:
        if box[0].start > 25 and box[2].start < 10:
            # No `except Exception` stands in its way, as none does in a signal's.
            raise KeyboardInterrupt

    spoil(monkeypatch, happens)
    deaths = 0
    settings = {**settings, "region": (0, 0, 0, 48, 16, 32)}
    while True:
        try:
            list(events(settings))
            break
        except KeyboardInterrupt:
            deaths += 1
            assert deaths < 9
    assert deaths == 5
    failed = pd.read_csv(tmp_path / "out" / "failed.csv")
    assert failed["reason"].tolist() == [BROKEN]
    assert failed.iloc[0, :6].tolist() == [32, 0, 0, 48, 16, 16]
    blank = np.isnan(maps_in(tmp_path / "out")["L5"])
    assert blank[:, 32:, :16, :16].all()
    assert blank.mean() == pytest.approx(1 / 6)
