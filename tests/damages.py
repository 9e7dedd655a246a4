"""Seeded damages to the files of a small run, and what the program makes of each."""

import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_synapse_cl.cli import make_config, make_parser
from napari_synapse_cl.data.sample.volume import make_sample
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.features.tables import read_table
from napari_synapse_cl.models.checkpoints import load_checkpoint
from napari_synapse_cl.pipeline import run
from napari_synapse_cl.runs import following
from napari_synapse_cl.runs.events import Control, Message
from napari_synapse_cl.runs.folder import RunFolder
from napari_synapse_cl.runs.following import MetricsRead, follow

SETTINGS = (
    "--crop_size 16 --fmaps 4 --n_convolutions 1 1 --proj_dim 8 --proj_hidden_dim 16 "
    "--batch_size 8 --device cpu --precision float32 --layer_num 2 --feature_format npz "
    "--n_components 0 --no-figures"
).split()
LOGS = ("steps.csv", "epochs.csv", "status.json")
"""What they tell has no check sums: a digit that turned into another goes unnoticed."""


@dataclass(frozen=True)
class Case:
    """What is damaged, how, and what is done then."""

    file: str
    kind: str
    action: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What came of it: "refused", "told", "equal", or, as none should, "silent" or "traceback"."""

    kind: str
    text: str = ""


@dataclass(frozen=True)
class Made:
    """What an action came to, with the warnings that were told."""

    result: Any
    told: frozenset[str]


class Campaign:
    """A run that is made once, and copies of it that are damaged.

    Parameters
    ----------
    folder
        An empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sample = make_sample(seed=0, shape=(96, 128, 128), n_synapses=12)
        np.save(folder / "volume.npy", sample.image)
        sample.synapses.to_csv(folder / "synapses.csv", index=False)
        self.data = ["--image", str(folder / "volume.npy")]
        self.data += ["--synapses", str(folder / "synapses.csv")]
        self._whole = folder / "whole"
        # Copies take this place, so that what files say of places holds.
        self._run = folder / "run"
        self.last_checkpoint = self._run / "checkpoints" / "last.pt"
        exports = ["--export", "safetensors"]
        self._do([*self.data, *SETTINGS, *exports, "--num_epochs", "2", "--output", self._run])
        (self._run / "commands.txt").write_text("resume\n", encoding="utf-8")
        self._run.rename(self._whole)
        self._expected: dict[str, Made] = {}

    @property
    def files(self) -> list[str]:
        """The files of the run, by their paths in it."""
        found = (f for f in sorted(self._whole.rglob("*")) if f.is_file())
        return [f.relative_to(self._whole).as_posix() for f in found]

    def cases(self, n: int, seed: int) -> list[Case]:
        """Return so many cases, which the seed decides; each file and each kind comes often."""
        drawn = random.Random(seed)
        files = self.files
        return [
            Case(file, kind, drawn.choice(_actions(file)), drawn.randrange(2**32))
            for file, kind in (
                (files[i % len(files)], drawn.choice(sorted(KINDS))) for i in range(n)
            )
        ]

    def go_on(self, *more: str) -> frozenset[str]:
        """Train a further epoch in the copy of the run, and return what was warned of."""
        return self._do(["--resume", "--output", self._run, "--num_epochs", "3", *more])

    def outcome(self, case: Case) -> Outcome:
        """Damage a copy of the run, and see what comes of it."""
        if case.action not in self._expected:
            self.restore()
            self._expected[case.action] = self._act(case.action)
        self.restore()
        (KINDS | OTHER_KINDS)[case.kind](self._run / case.file, random.Random(case.seed))
        try:
            made = self._act(case.action)
        except (InputError, JobError) as error:
            lines = len(str(error).splitlines())
            return Outcome("refused" if lines == 1 else "several lines", str(error))
        except Exception as error:
            return Outcome("traceback", repr(error))
        expected = self._expected[case.action]
        if made.told - expected.told:
            return Outcome("told", "; ".join(sorted(made.told - expected.told)))
        same = _same(made.result, expected.result)
        return Outcome("equal" if same else "silent")

    def restore(self) -> None:
        """Have a sound copy of the run."""
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.copytree(self._whole, self._run)

    def _act(self, action: str) -> Made:
        if action == "open":
            read, record = read_table(self._run / "features_L2_mean.npz")
            return Made((read.to_csv(), json.dumps(record)), frozenset())
        if action == "attach":
            control = Control()
            control.request("stop")
            patience, following.PATIENCE = following.PATIENCE, 0.0
            try:
                events = list(follow(RunFolder(self._run), control))
            finally:
                following.PATIENCE = patience
            rows = [(e.steps, e.epochs) for e in events if isinstance(e, MetricsRead)]
            return Made(repr(rows), _warnings(events))
        last = self._run / "checkpoints" / "last.pt"
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        extraction = [*SETTINGS, "--extract_only", "--output", out]
        (crops,) = self._run.glob("crops-*")
        match action:
            case "resume":
                more = ["--num_epochs", "3", "--train_only", "--export", "pt", "--overwrite"]
                told = self._do(["--resume", "--output", self._run, *more])
                return Made(_weights(last), told)
            case "extract":
                told = self._do([*self.data, *extraction, "--checkpoint", last])
            case "extract best":
                best = self._run / "checkpoints" / "best.pt"
                told = self._do([*self.data, *extraction, "--checkpoint", best])
            case "extract export":
                export = self._run / "vgg3d.safetensors"
                told = self._do([*self.data, *extraction, "--checkpoint", export])
            case "extract crops":
                data = ["--crops", crops, "--synapses", self.folder / "synapses.csv"]
                told = self._do([*data, *extraction, "--checkpoint", last])
            case "export":
                told = self._do(
                    ["--export_only", "--export", "pt", "--checkpoint", last, "--output", out]
                )
                return Made(_weights(out / "vgg3d.pt"), told)
        (table,) = out.glob("features_*.npz")
        return Made(read_table(table)[0].to_csv(), told)

    def _do(self, arguments: Iterable[Any]) -> frozenset[str]:
        """Run the program as the command line does, and return what it warned of."""
        options = vars(make_parser().parse_args([str(a) for a in arguments]))
        options.pop("events")
        return _warnings(run(make_config(options)))


def _warnings(events: Iterable[Any]) -> frozenset[str]:
    messages = (e for e in events if isinstance(e, Message) and e.level == "warning")
    return frozenset(re.sub(r"\d+\.\d+", "#", message.text) for message in messages)


def _weights(file: Path) -> str:
    content = load_checkpoint(file)
    digest = hashlib.sha256()
    for name, tensor in sorted(content["model_state_dict"].items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _same(a: Any, b: Any) -> bool:
    return bool(a == b)


def _actions(file: str) -> list[str]:
    if file.startswith("crops-"):
        return ["resume", "extract crops"]
    if file.startswith("features"):
        return ["open"]
    if file.endswith("safetensors"):
        return ["extract export"]
    if file.endswith("best.pt"):
        return ["extract best"]
    if file.endswith("last.pt"):
        return ["resume", "extract", "export"]
    return ["resume", "attach"]


def _flip(file: Path, drawn: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    file.write_bytes(content)


def _truncate(file: Path, drawn: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: drawn.randrange(len(content) + 1)])


def _zero(file: Path, drawn: random.Random) -> None:
    content = bytearray(file.read_bytes())
    start = drawn.randrange(len(content) + 1)
    block = content[start : start + 64]
    content[start : start + 64] = bytes(len(block))
    file.write_bytes(content)


def _swap(file: Path, drawn: random.Random) -> None:
    others = [f for f in sorted(file.parent.iterdir()) if f.is_file() and f != file]
    if others:
        other = drawn.choice(others)
        content = file.read_bytes()
        file.write_bytes(other.read_bytes())
        other.write_bytes(content)


def _flip_weight(file: Path, drawn: random.Random) -> None:
    """Change one of a network's weights by the least that can be."""
    content = bytearray(file.read_bytes())
    weights = load_checkpoint(file)["model_state_dict"]["features.0.weight"]
    content[content.index(weights.numpy().tobytes())] ^= 1
    file.write_bytes(content)


def _take_other_log(file: Path, drawn: random.Random) -> None:
    others = [file.with_name(name) for name in ("steps.csv", "epochs.csv")]
    steps, epochs = (other.read_bytes() for other in others)
    for other, content in zip(others, (epochs, steps), strict=True):
        other.write_bytes(content)


def _write_garbage(file: Path, drawn: random.Random) -> None:
    file.write_bytes(drawn.choice([b"\xff\xfe{\x00", b'"\x00,\n' * 9, b"nonsense\n", b"(" * 5000]))


def _replace_number(file: Path, drawn: random.Random) -> None:
    """Write something else for one of the numbers of a text; garble what is no text."""
    content = file.read_bytes()
    numbers = list(re.finditer(rb"(?<![\w.])-?\d+(\.\d+)?", content))
    if b"\x00" in content or not numbers:
        _flip(file, drawn)
        return
    found = drawn.choice(numbers)
    other = drawn.choice([b"1" + b"0" * 30, b"-1", b"NaN", b"1e999", b'"x"', b"[]", b"null"])
    file.write_bytes(content[: found.start()] + other + content[found.end() :])


def _nest(file: Path, drawn: random.Random) -> None:
    depth = drawn.choice([900, 100_000])
    file.write_bytes(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


KINDS: dict[str, Callable[[Path, random.Random], Any]] = {
    "bit": _flip,
    "cut off": _truncate,
    "zeros": _zero,
    "emptied": lambda file, drawn: file.write_bytes(b""),
    "removed": lambda file, drawn: file.unlink(),
    "swapped": _swap,
    "garbage": _write_garbage,
    "number": _replace_number,
    "nested": _nest,
}
OTHER_KINDS = {"other log": _take_other_log, "weight": _flip_weight}
"""Not drawn: what few files can suffer."""
