"""Settings, datasets and other documents that are damaged, or made to do harm: one line."""

from pathlib import Path

import pytest

from napari_synapse_cl.config import Config, read_settings
from napari_synapse_cl.data.opening import read_entries
from napari_synapse_cl.errors import InputError

NESTED = b"[" * 100_000 + b"]" * 100_000
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a JSON file"),
        (b"[1, 2]", "holds no object"),
        (NESTED, "nested too deeply"),
        (b'{"fmaps": ' + NESTED + b"}", "nested too deeply"),
        (b'{"fmaps": 4, "fmaps": 8}', "names 'fmaps' twice"),
        ('{"fmaps": 4}'.encode("utf-16"), "no text in UTF-8"),
        (bytes(range(256)), "no text in UTF-8"),
        (b'{"fmaps": ' + b"9" * 5000 + b"}", "not a JSON file"),
    ],
    ids=["empty", "list", "deep", "deep value", "twice", "UTF-16", "binary", "long number"],
)
def test_settings_that_cannot_be_read_are_refused_in_a_line(
    content: bytes, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=why) as error:
        read_settings(file)
    assert len(str(error.value).splitlines()) == 1


def test_a_value_that_is_nested_or_long_is_named_in_short() -> None:
    deep: list = []
    for _ in range(900):
        deep = [deep]
    for value in (deep, "x" * 100_000, [0] * 100_000):
        with pytest.raises(InputError, match="fmaps cannot be") as error:
            Config.from_values({"fmaps": value})
        assert len(str(error.value)) < 1000


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"fmaps": 4}', encoding="utf-8-sig")
    assert read_settings(file) == {"fmaps": 4}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "aliases stand for more than"),
        ("a: &a {b: *a}\n", "holds itself"),
        ("volumes: []\nvolumes: []\n", "names 'volumes' twice"),
        ("[" * 5000, "nested too deeply"),
        ("\0", "no JSON or YAML"),
        ("volumes: 3\n", "is no dataset"),
        ("", "is no dataset"),
    ],
    ids=["bomb", "loop", "twice", "deep", "binary", "number", "empty"],
)
def test_datasets_that_cannot_be_read_are_refused_in_a_line(
    text: str, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "dataset.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=why) as error:
        read_entries(file)
    assert len(str(error.value)) < 1000
    assert len(str(error.value).splitlines()) == 1


def test_a_dataset_of_json_that_is_nested_too_deeply_is_refused_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "dataset.json"
    file.write_bytes(b'{"volumes": ' + NESTED + b"}")
    with pytest.raises(InputError, match="nested too deeply") as error:
        read_entries(file)
    assert len(str(error.value).splitlines()) == 1
