"""The first ten minutes: from the menu to coloured points, with clicks alone.

Trainings are cut to two steps; all else is as a person meets it. A menu costs two clicks, one to
open it and one for what is chosen; what is chosen in a file dialog costs one.
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
from napari_synapse_cl.widgets.look import OPEN, open_dock

from .conftest import EXTRACT, LONG, PLUGIN, TRAIN, click, open_widget, wait_for_end

pytestmark = pytest.mark.usefixtures("no_children")


class Person:
    """Who clicks, and how often."""

    def __init__(self, qtbot: QtBot, viewer: Any) -> None:
        self.qtbot = qtbot
        self.viewer = viewer
        self.n_clicks = 0

    def opens(self, name: str) -> Any:
        self.n_clicks += 2
        return open_widget(self.viewer, name)

    def clicks(self, button: Any) -> None:
        self.n_clicks += 1
        click(self.qtbot, button)


@pytest.fixture
def person(
    qtbot: QtBot, make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    monkeypatch.setattr("napari_synapse_cl.widgets.session.FIRST_RECIPE", "quick")
    monkeypatch.setitem(flat._content("quick"), "num_steps", 2)
    flat.recipe_values.cache_clear()
    viewer = make_napari_viewer()
    viewer.window._qt_window.show()
    yield Person(qtbot, viewer)
    flat.recipe_values.cache_clear()


def train_and_extract(person: Person, train: Any) -> Points:
    """From "Train contrastive" to coloured points."""
    person.clicks(train.start_button)
    person.qtbot.waitUntil(lambda: train.job is not None, timeout=LONG)
    wait_for_end(person.qtbot, train)
    assert "complete" in train.status.text()
    person.clicks(train.extract_button)
    extract = open_dock(person.viewer, EXTRACT)
    person.qtbot.waitUntil(lambda: "new columns" in extract.status.text(), timeout=LONG)
    [points] = [layer for layer in person.viewer.layers if isinstance(layer, Points)]
    assert "L32_mean_PC1" in points.features
    assert extract.points_panel.color_box.column == "L32_mean_PC1"
    assert not extract.points_panel.color_box.legend.isHidden()
    assert len(np.unique(points.face_color, axis=0)) > 2
    return points


def test_from_the_menu_to_coloured_points_of_the_sample(
    person: Person, sample_at_hand: None, sample: Sample
) -> None:
    person.n_clicks += 2
    person.viewer.open_sample(PLUGIN, "em_sample")
    points = train_and_extract(person, person.opens(TRAIN))
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
    assert not opener.train_offer.isHidden()
    person.clicks(opener.train_offer.button)
    train = open_dock(person.viewer, TRAIN)
    assert train.points_box.layer is not None
    points = train_and_extract(person, train)
    np.testing.assert_allclose(points.data * points.scale / 10, sample.synapses[["z", "y", "x"]])
    assert person.n_clicks <= 10
    # What is offered goes with what it speaks of.
    person.viewer.layers.remove(points)
    assert opener.train_offer.isHidden()
