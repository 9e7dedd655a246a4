"""Read JSON and YAML that people and programs wrote, or a disk has damaged.

Whatever is wrong with it is a :class:`ValueError` of one line.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yaml import Node

MOST_NODES = 1_000_000
"""Values that a YAML file may stand for: a few lines of aliases can name billions."""
_TOO_DEEP = "its values are nested too deeply"


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no JSON in UTF-8, names something twice, or is nested too deeply.
    """
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds; see :func:`read_json`."""
    if isinstance(text, bytes):
        text = _decoded(text)
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, plain values alone.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no YAML in UTF-8, names something twice, is nested too deeply, or stands for more
        values than memory should be filled with.
    """
    # The window imports this module before anybody asks for a dataset.
    import yaml

    text = _decoded(path.read_bytes())
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _n_values(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {double!r:.100} twice")
    return found


def _n_values(node: "Node", known: dict[int, int]) -> int:
    """Return how many values a node stands for, aliases counted as often as they are named."""
    from yaml import MappingNode, ScalarNode, SequenceNode

    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("one of its values holds itself")
        return known[id(node)]
    # Until it is counted: found again below itself it would have no end.
    known[id(node)] = 0
    inner: list[Node] = []
    if isinstance(node, SequenceNode):
        inner = node.value
    elif isinstance(node, MappingNode):
        inner = [part for pair in node.value for part in pair]
        names = [name.value for name, _ in node.value if isinstance(name, ScalarNode)]
        double = next((n for n in names if n != "<<" and names.count(n) > 1), None)
        if double is not None:
            raise ValueError(f"it names {double!r:.100} twice")
    count = 1 + sum(_n_values(part, known) for part in inner)
    if count > MOST_NODES:
        raise ValueError(f"its aliases stand for more than {MOST_NODES:,} values")
    known[id(node)] = count
    return count
