"""The first ten minutes: from the menu to coloured points, with clicks alone.

Trainings are cut to two steps; all else is as a person meets it. What is chosen in a menu or a file
dialog counts as a click.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Points
from pytestqt.qtbot import QtBot

from napari_synapse_cl.config import flat
from napari_synapse_cl.data.sample.volume import Sample
from napari_synapse_cl.widgets.look import OPEN

from .conftest import EXTRACT, LONG, PLUGIN, TRAIN, click, open_widget, wait_for_end

pytestmark = pytest.mark.usefixtures("no_children")


class Person:
    """Who clicks, and how often."""

    def __init__(self, qtbot: QtBot, viewer: Any) -> None:
        self.qtbot = qtbot
        self.viewer = viewer
        self.n_clicks = 0

    def opens(self, name: str) -> Any:
        self.n_clicks += 1
        return open_widget(self.viewer, name)

    def clicks(self, button: Any) -> None:
        self.n_clicks += 1
        click(self.qtbot, button)


@pytest.fixture
def person(
    qtbot: QtBot, make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    monkeypatch.setattr("napari_synapse_cl.widgets.session.FIRST_RECIPE", "normal")
    for name in ("quick", "normal"):
        monkeypatch.setitem(flat._content(name), "num_steps", 2)
    flat.recipe_values.cache_clear()
    viewer = make_napari_viewer()
    viewer.window._qt_window.show()
    yield Person(qtbot, viewer)
    flat.recipe_values.cache_clear()


def train_and_extract(person: Person) -> Points:
    """From layers to coloured points."""
    train = person.opens(TRAIN)
    person.clicks(train.start_button)
    person.qtbot.waitUntil(lambda: train.job is not None, timeout=LONG)
    wait_for_end(person.qtbot, train)
    assert "complete" in train.status.text()
    person.clicks(train.extract_button)
    extract = open_widget(person.viewer, EXTRACT)
    person.clicks(extract.start_button)
    wait_for_end(person.qtbot, extract)
    [points] = [layer for layer in person.viewer.layers if isinstance(layer, Points)]
    assert "L32_mean_PC1" in points.features
    assert extract.points_panel.color_box.column == "L32_mean_PC1"
    assert not extract.points_panel.color_box.legend.isHidden()
    assert len(np.unique(points.face_color, axis=0)) > 2
    return points


def test_from_the_menu_to_coloured_points_of_the_sample(
    person: Person, sample_at_hand: None, sample: Sample
) -> None:
    person.n_clicks += 1
    person.viewer.open_sample(PLUGIN, "em_sample")
    points = train_and_extract(person)
    assert len(points.data) == len(sample.synapses)
    assert person.n_clicks <= 6


def test_from_files_of_ones_own_to_coloured_points(
    person: Person, sample: Sample, tmp_path: Path, choose: Callable[[Path], None]
) -> None:
    tifffile.imwrite(
        tmp_path / "volume.tif",
        sample.image,
        imagej=True,
        resolution=(100, 100),
        metadata={"axes": "ZYX", "spacing": 0.01, "unit": "um"},
    )
    sample.synapses.to_csv(tmp_path / "synapses.csv", index=False)
    opener = person.opens(OPEN)
    for field, name in ((opener.volume, "volume.tif"), (opener.synapses, "synapses.csv")):
        choose(tmp_path / name)
        person.clicks(field.file_button)
        person.n_clicks += 1
    person.clicks(opener.open_button)
    person.qtbot.waitUntil(lambda: len(person.viewer.layers) == 2, timeout=LONG)
    points = train_and_extract(person)
    np.testing.assert_allclose(points.data * points.scale / 10, sample.synapses[["z", "y", "x"]])
    assert person.n_clicks <= 10
