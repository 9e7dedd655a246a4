"""Numbers are said in words."""

import pytest

from napari_synapse_cl.system.words import counted, duration, size, storage


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (99.4, "99 s"),
        (120, "2 min"),
        (12 * 60, "12 min"),
        (99 * 60, "99 min"),
        (2 * 3600, "2 h"),
        (3 * 3600 + 20 * 60, "3 h 20 min"),
        (47.99 * 3600, "47 h 59 min"),
        (48 * 3600, "2 days"),
        (9.6 * 24 * 3600, "10 days"),
    ],
)
def test_a_length_of_time_has_units_that_fit_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (193, "193 bytes"),
        (1536, "1.5 KiB"),
        (200 * 2**20, "200 MiB"),
        (12.34 * 2**30, "12.3 GiB"),
        (7450.6 * 2**30, "7,450.6 GiB"),
    ],
)
def test_a_size_on_a_disk_has_units_that_fit_it(n_bytes: float, words: str) -> None:
    assert storage(n_bytes) == words


def test_a_number_agrees_with_its_noun() -> None:
    assert counted(1, "synapse") == "1 synapse"
    assert counted(2, "synapse") == "2 synapses"
    assert counted(0, "axis", "axes") == "0 axes"


def test_lengths_are_written_without_needless_digits() -> None:
    assert size((80, 80, 80)) == "80 × 80 × 80"
    assert size((41.6, 8.0, 5_120_000.0)) == "41.6 × 8 × 5120000"
