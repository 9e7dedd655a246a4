"""The sample volume is drawn once, and read from the user's cache folder after that."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.widgets.open_data import layers
from napari_synapse_cl.widgets.open_data.layers import cached_sample


@pytest.fixture
def drawn(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that were drawn with; the full sample takes seconds, and a small one does."""
    seeds: list[int] = []

    def draw(seed: int) -> Sample:
        seeds.append(seed)
        return sample

    monkeypatch.setattr("napari_synapse_cl.data.sample.volume.make_sample", draw)
    return seeds


@pytest.fixture
def folder() -> Path:
    return layers.CACHE


def same(a: Sample, b: Sample) -> bool:
    return (
        np.array_equal(a.image, b.image)
        and a.image.dtype == b.image.dtype
        and a.synapses.equals(b.synapses)
        and bool((a.synapses.dtypes == b.synapses.dtypes).all())
        and a.voxel_size == b.voxel_size
    )


def test_what_is_read_is_what_was_drawn(sample: Sample, drawn: list[int]) -> None:
    assert same(cached_sample(), sample)
    assert same(cached_sample(), sample)
    assert drawn == [0]


def test_another_seed_and_another_version_are_drawn_for_themselves(
    drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cached_sample(0)
    cached_sample(1)
    monkeypatch.setattr(layers, "__version__", "99")
    cached_sample(0)
    assert drawn == [0, 1, 0]


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def change_a_voxel(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def write_something_else(file: Path) -> None:
    file.write_text("no sample")


def leave_empty(file: Path) -> None:
    file.write_bytes(b"")


def write_another_table(file: Path) -> None:
    np.savez(file, image=np.zeros((2, 2, 2), np.uint8))


@pytest.mark.parametrize(
    "damage",
    [cut_off, change_a_voxel, write_something_else, leave_empty, write_another_table],
)
def test_a_damaged_file_is_drawn_anew(
    sample: Sample, drawn: list[int], folder: Path, damage: Callable[[Path], None]
) -> None:
    cached_sample()
    (file,) = folder.iterdir()
    damage(file)
    assert same(cached_sample(), sample)
    assert same(cached_sample(), sample)
    assert drawn == [0, 0]


def test_without_a_home_it_is_drawn_each_time(
    sample: Sample, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "CACHE", None)
    assert same(cached_sample(), sample)
    assert same(cached_sample(), sample)
    assert drawn == [0, 0]


def test_where_nothing_can_be_kept_it_is_drawn_each_time(
    sample: Sample, drawn: list[int], folder: Path
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file in the place of the folder")
    assert same(cached_sample(), sample)
    assert same(cached_sample(), sample)
    assert drawn == [0, 0]
