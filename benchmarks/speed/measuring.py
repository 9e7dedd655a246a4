"""Time what is compared in turn, so that other programs' work meets all of it alike."""

import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Case = Callable[[], object]
"""Does once what is timed."""


@dataclass
class Row:
    """One of the things that are compared.

    Attributes
    ----------
    name
        What the table calls it.
    seconds
        Of each repeat.
    items
        How many crops, volumes or steps a repeat is.
    """

    name: str
    seconds: list[float]
    items: float = 1

    @property
    def median(self) -> float:
        """Seconds an item."""
        return statistics.median(self.seconds) / self.items


@dataclass
class Target:
    """A limit that is to be kept.

    Attributes
    ----------
    name
        What is limited.
    value, limit
        As measured, and what it is held against.
    at_least
        Whether it shall be no less than the limit, or else no more.
    """

    name: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def is_met(self) -> bool:
        """Whether it is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Section:
    """A table of what was compared.

    Attributes
    ----------
    title
        What was measured, with sizes and units.
    rows
        The things that are compared.
    baseline
        Name of the row that the others are ratios to.
    unit
        What an item is: "crops", "volumes", "steps".
    targets
        Limits that follow from it.
    notes
        Sentences below the table.
    """

    title: str
    rows: list[Row]
    baseline: str
    unit: str
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Return the seconds an item of a row."""
        return next(row.median for row in self.rows if row.name == name)

    def lines(self) -> Iterator[str]:
        """Yield the table in Markdown."""
        base = self.median(self.baseline)
        yield f"### {self.title}\n"
        yield f"| | ms | {self.unit}/s | speed, {self.baseline} = 1 |"
        yield "| --- | ---: | ---: | ---: |"
        for row in self.rows:
            rate = f"{1 / row.median:,.3g}"
            yield f"| {row.name} | {1000 * row.median:,.3g} | {rate} | {base / row.median:.2f} |"
        yield ""
        yield from (f"{note}\n" for note in self.notes)

    def as_json(self) -> dict[str, Any]:
        """Return all figures."""
        base = self.median(self.baseline)
        return {
            **asdict(self),
            "ratios": {row.name: base / row.median for row in self.rows},
            "targets": [{**asdict(target), "met": target.is_met} for target in self.targets],
        }


def target_lines(targets: Sequence[Target]) -> Iterator[str]:
    """Yield a table of targets in Markdown."""
    yield "| Target | measured | limit | |"
    yield "| --- | ---: | ---: | --- |"
    for target in targets:
        sign = "≥" if target.at_least else "≤"
        met = "met" if target.is_met else "not met"
        yield f"| {target.name} | {target.value:,.4g} | {sign} {target.limit:,.6g} | {met} |"


def interleaved(
    cases: Mapping[str, Case], repeats: int, *, warm_up: int = 1, items: float = 1
) -> list[Row]:
    """Time cases in turn, each as often as asked.

    A case that returns a float has timed itself: these are its seconds.

    Parameters
    ----------
    cases
        By name.
    repeats
        Timed rounds.
    warm_up
        Rounds before them that are not timed.
    items
        How many items a call is.
    """
    rows = [Row(name, [], items) for name in cases]
    for turn in range(warm_up + repeats):
        for row in rows:
            start = time.perf_counter()
            own = cases[row.name]()
            seconds = own if isinstance(own, float) else time.perf_counter() - start
            if turn >= warm_up:
                row.seconds.append(seconds)
    return rows


@contextmanager
def process_of_its_own(factory: str, *arguments: Any) -> Iterator[Case]:
    """Give a case that runs in a process of its own, with that process's defaults.

    Parameters
    ----------
    factory
        "module:function" beside this file; it is called with the arguments in the new process and
        returns the case.
    arguments
        What can be pickled.

    Yields
    ------
    Case
        Runs it once there, and returns its seconds.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, factory, arguments), daemon=True)
    process.start()

    def ask() -> float:
        here.send("run")
        seconds = here.recv()
        if isinstance(seconds, str):
            raise RuntimeError(seconds)
        return float(seconds)

    try:
        yield ask
    finally:
        process.terminate()
        process.join()


def _serve(connection: Connection, factory: str, arguments: Sequence[Any]) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    module, name = factory.split(":")
    try:
        case = getattr(import_module(module), name)(*arguments)
        while True:
            connection.recv()
            start = time.perf_counter()
            own = case()
            taken = time.perf_counter() - start
            connection.send(own if isinstance(own, float) else taken)
    except EOFError:
        return
    except Exception as error:  # what went wrong is told where it is waited for
        connection.send(f"{factory}: {type(error).__name__}: {error}")


def machine() -> dict[str, Any]:
    """Return what the figures hold for."""
    import torch

    from napari_synapse_cl.system.devices import device_name

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": device_name(torch.device("cuda")) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
