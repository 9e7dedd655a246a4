"""Settings that the widgets of a viewer share, keep over a restart, and save to files."""

import html
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import Notification
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QLocale, QPoint, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QScrollArea,
    QScrollBar,
    QWidget,
)
from superqt import QCollapsible

from napari_synapse_cl.config import Config, possible_value, presets, recipe_values
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.widgets import base
from napari_synapse_cl.widgets.base import run_folder, runs_folder
from napari_synapse_cl.widgets.forms.editors import BACK, holds
from napari_synapse_cl.widgets.forms.form import Form
from napari_synapse_cl.widgets.forms.numbers import NumberEditor
from napari_synapse_cl.widgets.look import MARK, OPEN, in_words
from napari_synapse_cl.widgets.session import SharedSettings

from .conftest import (
    EXTRACT,
    LONG,
    PLUGIN,
    PREVIEW,
    TRAIN,
    click,
    fill_in,
    messages,
    open_widget,
)


def label(widget: Any, name: str) -> Any:
    return widget.form._labels[name]


def test_widgets_share_settings_but_not_those_of_one_run(window: Any, tmp_path: Path) -> None:
    trainer = open_widget(window.viewer, TRAIN)
    fill_in(trainer, {"crop_size": "16 32 32", "noise_level": 0.25, "precision": "float32"})
    fill_in(trainer, {"output": tmp_path / "run"})
    preview = open_widget(window.viewer, PREVIEW)
    assert preview.form.config().crop_size == (16, 32, 32)
    assert preview.form.config().noise_level == 0.25
    fill_in(preview, {"seed": 5})
    assert trainer.form.config().seed == 5
    extractor = open_widget(window.viewer, EXTRACT)
    assert extractor.form.editor("precision").value == "float32"
    # It has the crop size of the training, and an output of its own.
    assert "crop_size" not in extractor.form.config().model_fields_set
    assert extractor.form.config().output is None


def test_settings_outlive_a_restart(make_napari_viewer: Any, qtbot: QtBot, tmp_path: Path) -> None:
    viewer = make_napari_viewer()
    widget = open_widget(viewer, TRAIN)
    changed = {"batch_size": 6, "learning_rate": "3e-5", "n_convolutions": "2 2 2", "seed": 3}
    fill_in(widget, {**changed, "output": tmp_path / "run", "pretrained": tmp_path / "net.pt"})
    viewer.close()
    qtbot.waitUntil((tmp_path / "settings.json").exists, timeout=900)
    # Another viewer has a session of its own, as after a restart.
    widget = open_widget(make_napari_viewer(), TRAIN)
    config = widget.form.config()
    assert (config.batch_size, config.learning_rate, config.seed) == (6, 3e-5, 3)
    assert config.n_convolutions == (2, 2, 2)
    assert config.pretrained == str(tmp_path / "net.pt")
    assert config.output is None


def test_settings_are_written_a_moment_after_a_change(
    window: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {"batch_size": 6})
    file = tmp_path / "settings.json"
    qtbot.waitUntil(file.exists)
    # Those that are as ever are not written: a new version may have better defaults.
    assert json.loads(file.read_text()) == {"batch_size": 6}


def test_two_windows_do_not_overwrite_each_others_settings(
    make_napari_viewer: Any, qtbot: QtBot, tmp_path: Path
) -> None:
    first, second = (open_widget(make_napari_viewer(), TRAIN) for _ in range(2))
    file = tmp_path / "settings.json"
    fill_in(first, {"batch_size": 6})
    qtbot.waitUntil(file.exists)
    fill_in(second, {"seed": 3})
    qtbot.waitUntil(lambda: "seed" in file.read_text())
    fill_in(first, {"temperature": 0.5})
    qtbot.waitUntil(lambda: "temperature" in file.read_text())
    assert json.loads(file.read_text()) == {"batch_size": 6, "seed": 3, "temperature": 0.5}
    # Nor is written again what the other has changed meanwhile.
    fill_in(second, {"batch_size": 8})
    qtbot.waitUntil(lambda: '"batch_size": 8' in file.read_text())
    fill_in(first, {"num_epochs": 7})
    qtbot.waitUntil(lambda: "num_epochs" in file.read_text())
    assert json.loads(file.read_text())["batch_size"] == 8


def test_two_windows_keep_what_was_changed_in_each(qapp: Any, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    first, second = SharedSettings(file), SharedSettings(file)
    first.set("batch_size", 6)
    first.keep()
    second.set("seed", 3)
    second.keep()
    first.set("num_epochs", 7)
    first.set("batch_size", Config().batch_size)
    first.keep()
    assert json.loads(file.read_text()) == {"seed": 3, "num_epochs": 7}


@pytest.mark.parametrize("language", [QLocale.Language.English, QLocale.Language.German])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.25),
        ("learning_rate", 0.25),
        ("brightness_range", 0.25),
        ("shift_range", 0.2),
    ],
)
def test_a_comma_is_a_decimal_mark_as_a_point_is(
    qtbot: QtBot, language: QLocale.Language, name: str, value: float
) -> None:
    QLocale.setDefault(QLocale(language))
    try:
        form = Form([name])
    finally:
        QLocale.setDefault(QLocale.system())
    qtbot.addWidget(form)
    native = form.editor(name).native
    field = getattr(native, "box", native)
    for typed in (f"{value:g}", f"{value:g}".replace(".", ",")):
        form.editor(name).value = 1e-3 if name == "learning_rate" else 0
        field.selectAll()
        qtbot.keyClicks(field, typed)
        qtbot.keyClick(field, Qt.Key.Key_Return)
        assert getattr(form.config(), name) == value


@pytest.fixture(params=[QLocale.Language.German, QLocale.Language.French], ids=["de", "fr"])
def language(request: pytest.FixtureRequest) -> Iterator[None]:
    """That of the machine, before there is a window."""
    QLocale.setDefault(QLocale(request.param))
    yield
    QLocale.setDefault(QLocale.system())


def test_every_field_for_numbers_takes_both_marks_and_groups_no_digits(
    language: None, window: Any, qtbot: QtBot
) -> None:
    widgets = [open_widget(window.viewer, name) for name in (OPEN, TRAIN, PREVIEW, EXTRACT)]
    seen = set()
    for widget in widgets:
        form = widget.form
        for name in form.names:
            editor, annotation = form.editor(name), Config.model_fields[name].annotation
            if annotation is int:
                editor.value = min(1234, editor.native.maximum())
                assert str(editor.value) in editor.native.text()
            if not holds(annotation, float):
                continue
            seen.add(name)
            if annotation is float and isinstance(editor.native, NumberEditor):
                editor.value = min(1234.5, editor.box.maximum())
                assert f"{editor.value:g}" in editor.box.text()
            is_one, typed_in = annotation is float, "0.5" if "percent" not in name else "0.5 99.5"
            box = getattr(editor.native, "box", editor.native)
            if box is not editor.native:
                fitting = ("0.5", "0.2", "1.5", "20.5")
                typed_in = next(t for t in fitting if box.minimum() <= float(t) < box.maximum())
            for mark in ".,":
                for typed in ("1 2" if "percent" in name else "1", typed_in.replace(".", mark)):
                    box.selectAll()
                    qtbot.keyClicks(box, typed)
                    if is_one:
                        qtbot.keyClick(box, Qt.Key.Key_Return)
                taken = np.atleast_1d(possible_value(name, form.filled_in(name)))
                assert set(taken) == set(map(float, typed_in.split())), (widget.menu_name, name)
    assert {"learning_rate", "temperature", "voxel_size", "percentiles", "noise_level"} <= seen


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("8,5", (8.5, 8.5, 8.5)),
        ("8,5 4 4,25", (8.5, 4, 4.25)),
        ("8,5, 4, 4,25", (8.5, 4, 4.25)),
        ("8,5; 4; 4,25", (8.5, 4, 4.25)),
        ("8,4,4", (8, 4, 4)),
        ("8.5,4.5,4", (8.5, 4.5, 4)),
        ("8, 4, 4", (8, 4, 4)),
    ],
)
def test_a_comma_between_numbers_parts_them(
    qtbot: QtBot, typed: str, taken: tuple[float, ...]
) -> None:
    form = Form(["network_voxel_size", "crop_size"])
    qtbot.addWidget(form)
    form.editor("network_voxel_size").value = typed
    form.editor("crop_size").value = "16,32,32"
    assert form.config().network_voxel_size == taken
    assert form.config().crop_size == (16, 32, 32)


@pytest.mark.parametrize(
    "content", ["no JSON", "[]", "[" * 100_000, '{"batch_size": 0, "gone": 1, "seed": 4}']
)
def test_kept_settings_that_cannot_be_used_are_passed_over(
    qapp: Any, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "settings.json"
    file.write_text(content)
    settings = SharedSettings(file)
    assert settings["batch_size"] == Config().batch_size
    assert settings["seed"] == (4 if "seed" in content else 0)


def test_where_settings_cannot_be_kept_they_hold_until_the_end(qapp: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for file in (None, tmp_path / "file" / "settings.json"):
        settings = SharedSettings(file)
        settings.set("seed", 4)
        settings.keep()
        assert settings["seed"] == 4


def test_without_a_home_runs_need_a_folder_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "home", lambda: None)
    monkeypatch.setattr(base, "RUNS", "runs")
    assert runs_folder() == Path(tempfile.gettempdir()) / "runs"
    assert run_folder(tmp_path) == tmp_path
    with pytest.raises(InputError, match="no home directory for the results: choose an output"):
        run_folder(None)


def test_saved_settings_are_those_of_the_command_line(
    window: Any, qtbot: QtBot, tmp_path: Path, choose: Any, sample_files: tuple[Path, Path]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {"crop_size": "16", "fmaps": 2, "batch_size": 4, "temperature": 0.2})
    fill_in(widget, {"num_epochs": 1, "proj_hidden_dim": 16, "device": "cpu"})
    choose(tmp_path / "mine")
    widget.settings_menu.save_action.trigger()
    image, table = sample_files
    command = [sys.executable, "-m", "napari_synapse_cl", "--config", str(tmp_path / "mine.json")]
    command += ["--image", str(image), "--synapses", str(table), "--output", str(tmp_path / "run")]
    subprocess.run([*command, "--train_only"], check=True, capture_output=True)
    config = Config.from_file(tmp_path / "run" / "config.json")
    assert (config.temperature, config.fmaps, config.batch_size) == (0.2, 2, 4)
    # The settings of a run are loaded too; of what it worked on nothing is taken over.
    widget.settings_menu.default_action.trigger()
    assert widget.form.config().fmaps == Config().fmaps
    choose(tmp_path / "run" / "config.json")
    widget.settings_menu.load_action.trigger()
    assert widget.form.config().fmaps == 2
    assert widget.form.config().output is None


def test_file_that_cannot_be_loaded_changes_nothing(
    window: Any, tmp_path: Path, choose: Any, notifications: list[Notification]
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {"batch_size": 6})
    (tmp_path / "bad.json").write_text('{"seed": 7, "batch_size": 1}')
    choose(tmp_path / "bad.json")
    widget.settings_menu.load_action.trigger()
    (message,) = messages(notifications, "error")
    assert message == "“Batch size” cannot be 1: it must be at least 2."
    assert widget.form.config().batch_size == 6
    assert widget.form.config().seed == 0


def test_what_cannot_be_used_is_marked_where_it_is(window: Any) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {"crop_size": "80 80", "n_convolutions": "x"})
    for name in ("crop_size", "n_convolutions"):
        assert label(widget, name).text().startswith(MARK)
        assert "cannot be" in widget.form.editor(name).native.toolTip()
    titles = [group.text() for group in widget.form._groups]
    assert f"{MARK}Model" in titles
    assert [title for title in titles if title.startswith(MARK)] == [f"{MARK}Model"]
    # What cannot be used is not passed on.
    assert widget.session.settings["crop_size"] == (80, 80, 80)
    fill_in(widget, {"crop_size": "48", "n_convolutions": "2 2"})
    assert not label(widget, "crop_size").text().startswith(MARK)
    assert "Model" in [group.text() for group in widget.form._groups]
    assert not widget.form.problems


def test_fields_of_a_group_are_made_when_they_are_needed(window: Any) -> None:
    settings = open_widget(window.viewer, PREVIEW).session.settings
    settings.set("temperature", 0.3)
    widget = open_widget(window.viewer, TRAIN)
    form = widget.form
    assert form.findChild(QWidget, "batch_size") is not None
    assert form.findChild(QWidget, "temperature") is None
    # What nobody has unfolded counts, and follows what other widgets say.
    assert form.config().temperature == 0.3
    settings.set("temperature", 0.4)
    assert form.config().temperature == 0.4
    settings.set("keep", "cleft+thing")
    assert set(form.problems) == {"keep"}
    assert f"{MARK}Masks" in [group.text() for group in form._groups]
    assert form.findChild(QWidget, "keep") is None
    form.reveal("temperature")
    assert form.findChild(QWidget, "temperature").isVisibleTo(form)
    assert form.editor("temperature").value == 0.4
    assert BACK in label(widget, "temperature").text()
    assert form.editor("keep").value == "cleft+thing"
    assert label(widget, "keep").text().startswith(MARK)


def test_crop_settings_at_odds_are_marked(window: Any) -> None:
    for name in (TRAIN, PREVIEW):
        widget = open_widget(window.viewer, name)
        fill_in(widget, {"roles": "cleft=7", "keep": "vesicles+cleft", "percentiles": "99 1"})
        for setting, words in (("keep", "To keep vesicles"), ("percentiles", "must rise")):
            assert label(widget, setting).text().startswith(MARK)
            assert words in widget.form.editor(setting).native.toolTip()
        # What cannot be used is not passed on, until it can be.
        assert widget.session.settings["keep"] == "everything"
        fill_in(widget, {"roles": "cleft=7 vesicles=6", "percentiles": "1 99"})
        assert not widget.form.problems
        assert widget.session.settings["keep"] == "vesicles+cleft"
        fill_in(widget, {"roles": "cleft", "keep_nearest": False})
        assert list(widget.form.problems) == ["roles"]
        fill_in(widget, {"roles": "", "keep": "everything"})
        assert not widget.form.problems
        assert widget.form.config().roles == ()


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("cleft=7 vesicles=6,8", ("cleft=7", "vesicles=6,8")),
        ("cleft = 7, vesicles = 6, 8", ("cleft=7", "vesicles=6,8")),
        ("vesicles=6 8; cleft=7;", ("vesicles=6,8", "cleft=7")),
        ("", ()),
    ],
)
def test_roles_are_typed_as_it_comes(window: Any, typed: str, taken: tuple[str, ...]) -> None:
    trainer, preview = (open_widget(window.viewer, name) for name in (TRAIN, PREVIEW))
    fill_in(trainer, {"roles": typed})
    assert trainer.form.config().roles == preview.form.config().roles == taken


def test_what_to_keep_is_chosen_or_typed(window: Any, qtbot: QtBot) -> None:
    trainer, preview = (open_widget(window.viewer, name) for name in (TRAIN, PREVIEW))
    box = trainer.form.editor("keep").native
    assert {"everything", "presynapse", "vesicles+cleft", "object"} <= {
        box.itemText(i) for i in range(box.count())
    }
    box.lineEdit().selectAll()
    qtbot.keyClicks(box.lineEdit(), "12+15")
    assert trainer.form.config().keep == preview.form.config().keep == "12+15"
    fill_in(preview, {"keep": "object", "keep_margin": 40, "network_voxel_size": "8"})
    assert trainer.form.config().keep == "object"
    assert trainer.form.config().keep_margin == 40
    assert trainer.form.config().network_voxel_size == (8, 8, 8)


def test_every_setting_says_what_it_means(window: Any) -> None:
    for name in (TRAIN, PREVIEW, EXTRACT):
        widget = open_widget(window.viewer, name)
        for setting in widget.form.names:
            field = Config.model_fields[setting]
            tooltip = widget.form.editor(setting).native.toolTip()
            assert html.escape(in_words(field.description or "?")) in tooltip
            # By the names of other fields, and of no flags.
            raw = [name for name in Config.model_fields if "_" in name and name in tooltip]
            assert not raw
            assert "--" not in tooltip


def choose_preset(widget: Any, title: str) -> None:
    """Choose a preset as a click in the list does."""
    box = widget.presets.box
    titles = [box.itemText(i).partition(" · ")[0] for i in range(box.count())]
    box.setCurrentIndex(titles.index(title))
    box.activated.emit(titles.index(title))


def preset(widget: Any) -> str:
    return widget.presets.box.currentText().partition(" · ")[0]


class TestPresets:
    def test_a_preset_is_taken_by_all_widgets(self, window: Any, qtbot: QtBot) -> None:
        trainer, preview = (open_widget(window.viewer, name) for name in (TRAIN, PREVIEW))
        box = trainer.presets.box
        assert [box.itemText(i) for i in range(box.count())] == list(presets().values())
        assert preset(trainer) == "As specified"
        # What a person's volume is, and where it is trained, no preset decides.
        fill_in(trainer, {"batch_size": 6, "device": "cpu", "intensity": "crop", "seed": 3})
        for title, name in (("Normal", "normal"), ("As specified", "specification")):
            choose_preset(trainer, title)
            assert preset(trainer) == title
            config = trainer.form.config()
            for setting, value in recipe_values(name).items():
                if setting in trainer.form.names:
                    assert getattr(config, setting) == value, setting
            assert preview.form.config().grey_unit == recipe_values(name)["grey_unit"]
            assert (config.device, config.intensity, config.seed) == ("cpu", "crop", 3)

    def test_a_setting_that_is_changed_by_hand_shows_and_can_be_set_back(
        self, window: Any, qtbot: QtBot
    ) -> None:
        widget = open_widget(window.viewer, TRAIN)
        choose_preset(widget, "Normal")
        for name, value in {"crop_size": "48", "temperature": 0.5}.items():
            before = recipe_values("normal")[name]
            fill_in(widget, {name: value})
            qtbot.waitUntil(lambda: preset(widget) == "Normal, changed")
            assert BACK in label(widget, name).text()
            assert "Normal:" in label(widget, name).toolTip()
            assert BACK not in label(widget, "batch_size").text()
            # A click on the name alone does nothing.
            qtbot.mouseClick(label(widget, name), Qt.MouseButton.LeftButton, pos=QPoint(4, 8))
            assert BACK in label(widget, name).text()
            end = label(widget, name).sizeHint().width() - 4
            qtbot.mouseClick(label(widget, name), Qt.MouseButton.LeftButton, pos=QPoint(end, 8))
            qtbot.waitUntil(lambda: preset(widget) == "Normal")
            assert getattr(widget.form.config(), name) == before
            assert BACK not in label(widget, name).text()
        fill_in(widget, {"temperature": 0.5})
        qtbot.waitUntil(lambda: preset(widget) == "Normal, changed")
        choose_preset(widget, "Normal")
        assert preset(widget) == "Normal"
        assert widget.form.config().temperature == recipe_values("normal")["temperature"]

    def test_the_first_settings_are_not_those_that_take_a_day(
        self, window: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()
        monkeypatch.setattr("napari_synapse_cl.widgets.session.FILE", None)
        widget = open_widget(window.viewer, TRAIN)
        assert preset(widget) == "Quick look"
        assert widget.form.config().num_steps == recipe_values("quick")["num_steps"]

    def test_epochs_that_are_filled_in_count_in_place_of_steps(self, window: Any) -> None:
        widget = open_widget(window.viewer, TRAIN)
        choose_preset(widget, "Normal")
        fill_in(widget, {"num_epochs": 7})
        assert (widget.form.config().num_steps, widget.form.config().num_epochs) == (0, 7)
        choose_preset(widget, "Normal")
        assert widget.form.config().num_steps == recipe_values("normal")["num_steps"]

    def test_the_sample_opens_with_a_quick_look_unless_much_was_chosen(
        self, make_napari_viewer: Any, sample_at_hand: None, sample: Any, qtbot: QtBot
    ) -> None:
        viewer = make_napari_viewer()
        widget = open_widget(viewer, TRAIN)
        viewer.open_sample(PLUGIN, "em_sample")
        assert preset(widget) == "Quick look"
        # Once, and not each time that its layer is chosen.
        choose_preset(widget, "Thorough")
        viewer.add_image(sample.image)
        widget.image_box.choose(viewer.layers[-1])
        widget.image_box.choose(viewer.layers[0])
        assert preset(widget) == "Thorough"
        fill_in(widget, {"temperature": 0.5})
        viewer.layers.clear()
        viewer.open_sample(PLUGIN, "em_sample")
        qtbot.waitUntil(lambda: preset(widget) == "Thorough, changed")
        assert widget.form.config().temperature == 0.5


@pytest.mark.parametrize("take", ["default", "preset", "file"])
def test_settings_that_were_replaced_come_back_exactly(
    window: Any, take: str, tmp_path: Path, choose: Any, qtbot: QtBot
) -> None:
    widget = open_widget(window.viewer, TRAIN)
    assert widget.presets.undo_button.isHidden()
    tuned = {
        "crop_size": "16 32 32",
        "learning_rate": "3e-5",
        "pretrained": tmp_path / "net.pt",
        "freeze_backbone": True,
        "cutout_kinds": "corner",
        "device": "cpu",
        "num_epochs": 7,
    }
    fill_in(widget, tuned)
    before = widget.form.config()
    (tmp_path / "other.json").write_text('{"seed": 5, "num_steps": 9}')
    choose(tmp_path / "other.json")
    if take == "default":
        widget.settings_menu.default_action.trigger()
        assert widget.form.config() == Config()
    elif take == "preset":
        choose_preset(widget, "Quick look")
    else:
        widget.settings_menu.load_action.trigger()
    taken = widget.form.config()
    assert taken != before
    assert not widget.presets.undo_button.isHidden()
    click(qtbot, widget.presets.undo_button)
    assert widget.form.config() == before
    assert widget.session.settings["num_steps"] == 0
    # Nor is lost what was taken.
    click(qtbot, widget.presets.undo_button)
    assert widget.form.config() == taken


def test_defaults_replace_also_what_cannot_be_used(window: Any) -> None:
    widget = open_widget(window.viewer, TRAIN)
    fill_in(widget, {"crop_size": "thirty"})
    widget.settings_menu.default_action.trigger()
    assert widget.form.config() == Config()
    assert not widget.form.problems


class TestAdvanced:
    def test_they_are_folded_and_searched(self, window: Any, qtbot: QtBot) -> None:
        window.viewer.window._qt_window.show()
        widget = open_widget(window.viewer, TRAIN)
        native = {name: widget.form.editor(name).native for name in widget.form.names}
        qtbot.waitUntil(widget.page.advanced.toggle.isVisible)
        assert not any(one.isVisible() for one in native.values())
        click(qtbot, widget.page.advanced.toggle)
        assert native["batch_size"].isVisible()
        assert not native["temperature"].isVisible()
        qtbot.keyClicks(widget.page.advanced.search, "Temperature")
        assert native["temperature"].isVisible()
        assert not native["batch_size"].isVisible()
        titles = [group.text() for group in widget.form._groups if group.isVisible()]
        assert titles == ["Objective"]
        # What a setting does is searched too.
        widget.page.advanced.search.setText("queue of earlier embeddings")
        assert [n for n, one in native.items() if one.isVisible()] == ["objective"]
        widget.page.advanced.search.clear()
        assert native["batch_size"].isVisible()
        assert not native["temperature"].isVisible()

    def test_a_refused_setting_is_shown_and_its_error_goes_when_it_is_mended(
        self, window: Any, qtbot: QtBot, notifications: list[Notification]
    ) -> None:
        window.viewer.window._qt_window.show()
        widget = open_widget(window.viewer, TRAIN)
        fill_in(widget, {"n_convolutions": "2 x"})
        click(qtbot, widget.start_button)
        field = widget.form.editor("n_convolutions").native
        qtbot.waitUntil(field.isVisible)
        qtbot.waitUntil(lambda: field.visibleRegion().boundingRect().height() > 5)
        assert widget.focusWidget() is field
        [message] = messages(notifications, "error")
        assert message == "“Convolutions” cannot be 'x': it must be a whole number."
        assert widget.status.text() == message
        qtbot.waitUntil(lambda: ">Convolutions</a>” cannot be" in widget.summary.text())
        fill_in(widget, {"n_convolutions": "2 2"})
        qtbot.waitUntil(lambda: message not in widget.status.text())
        qtbot.waitUntil(lambda: "cannot be" not in widget.summary.text(), timeout=LONG)

    def test_a_link_in_the_summary_leads_to_the_field(self, window: Any, qtbot: QtBot) -> None:
        window.viewer.window._qt_window.show()
        widget = open_widget(window.viewer, TRAIN)
        widget.summary.linkActivated.emit("queue_size")
        qtbot.waitUntil(widget.form.editor("queue_size").native.isVisible)


def test_the_tab_key_follows_the_eye(window: Any, qtbot: QtBot) -> None:
    window.viewer.window._qt_window.show()
    widget = open_widget(window.viewer, TRAIN)
    click(qtbot, widget.page.advanced.toggle)
    widget.page.advanced.search.setText("rate")
    qtbot.waitUntil(widget.form.editor("learning_rate").native.isVisible)
    tops, part = [], widget.image_box
    while True:
        is_reached = part.isVisible() and part.isEnabled() and widget.isAncestorOf(part)
        is_reached = is_reached and not isinstance(part, QScrollArea)
        # What has to be scrolled to has no place.
        is_reached = is_reached and not part.visibleRegion().isEmpty()
        if is_reached and part.focusPolicy() & Qt.FocusPolicy.TabFocus:
            tops.append((part.mapTo(widget, QPoint(0, 0)).y(), part))
        part = part.nextInFocusChain()
        if part is widget.image_box:
            break
    inputs = [widget.image_box, widget.points_box, widget.presets.box, widget.page.advanced.search]
    inputs += [widget.form.editor("learning_rate").native, widget.start_button]
    parts = [part for _, part in tops]
    assert [part for part in parts if part in inputs] == inputs
    for (above, first), (below, then) in pairwise(tops):
        assert above <= below + 12, (first, then)


def test_every_input_has_a_name(window: Any) -> None:
    kinds = (QAbstractSpinBox, QAbstractSlider, QComboBox, QLineEdit, QAbstractButton)
    for name in (TRAIN, PREVIEW, EXTRACT):
        widget = open_widget(window.viewer, name)
        for kind in kinds:
            for part in widget.form.findChildren(kind):
                is_inner = isinstance(part.parent(), QAbstractSpinBox | QComboBox | QCollapsible)
                if not is_inner and not isinstance(part, QScrollBar):
                    assert part.accessibleName() or getattr(part, "text", str)(), (name, part)


def test_the_network_that_comes_with_the_program_is_named_in_both_forms(window: Any) -> None:
    trainer, extractor = (open_widget(window.viewer, name) for name in (TRAIN, EXTRACT))
    for widget, name in ((trainer, "pretrained"), (extractor, "checkpoint")):
        widget.form.editor(name).line_edit.value = "fibsem-10nm"
    assert trainer.form.config().pretrained == "package://fibsem-10nm"
    assert extractor.panel.checkpoint == "package://fibsem-10nm"
    choose_preset(trainer, "Quick look")
    assert trainer.form.config().pretrained == "package://fibsem-10nm"
    assert trainer.form.config().crop_size == (32, 32, 32)
    choose_preset(trainer, "As specified")
    assert trainer.form.config().pretrained is None
