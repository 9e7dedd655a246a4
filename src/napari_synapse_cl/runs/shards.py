"""The folder of an extraction in shards, and how far it is, for who follows it.

Without PyTorch: the window looks here.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.runs.events import Control, Event, ShardsDone, Wrote
from napari_synapse_cl.system.files import read_json
from napari_synapse_cl.system.words import counted


class Places:
    """Where the files of an extraction in shards lie in its output folder."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.features = output / "features"
        self.record = output / "features.json"
        self.failed = output / "failed.csv"
        self.shards = output / "shards"
        self.plan = self.shards / "plan.json"
        self.done = self.shards / "done.jsonl"
        self.finished = self.shards / "finished.json"

    def part(self, shard: int) -> Path:
        """Return where the features of a shard go."""
        return self.features / f"part-{shard:05d}.parquet"

    def rows(self, shard: int) -> Path:
        """Return where the rows of a shard are."""
        return self.shards / "rows" / f"rows-{shard:05d}.parquet"

    def block(self, shard: int) -> Path:
        """Return where it is said that a block of the maps is done."""
        return self.shards / "blocks" / f"block-{shard:05d}.json"

    def trail(self, shard: int) -> Path:
        """Return where it is noted what a worker of a shard is at."""
        return self.shards / "trails" / f"trail-{shard:05d}.json"

    def claim(self, shard: int) -> Path:
        """Return the file that the job of an array locks which works on a shard."""
        return self.shards / "claims" / f"{shard:05d}.lock"

    @property
    def is_begun(self) -> bool:
        """Whether there is a plan of what is to be extracted."""
        return self.plan.exists()


def follow_shards(places: Places, control: Control, interval: float = 1.0) -> Iterator[Event]:
    """Tell how far an extraction in shards is, until it is finished or `control` says stop.

    Parameters
    ----------
    control
        Ends the following; the extraction is not touched.
    interval
        Seconds between two looks.

    Yields
    ------
    Event
        `ShardsDone`, and at the end `Wrote`. Workers are those that have done a shard meanwhile.

    Raises
    ------
    InputError
        If there is none, or its plan cannot be read.
    """
    begun = time.monotonic()
    n_lines = done_before = -1
    while True:
        plan = _plan(places)
        sizes, lines = plan["sizes"], _lines(places.done)
        of_shards = {line["shard"]: line for line in lines if line["shard"] < len(sizes)}
        done = sum(sizes[shard] for shard in of_shards)
        if n_lines < 0:
            n_lines, done_before = len(lines), done
        rate = max(0, done - done_before) / max(1e-9, time.monotonic() - begun)
        yield ShardsDone(
            task=f"extracting {plan['what']} in shards",
            done=len(of_shards),
            total=len(sizes),
            crops=done,
            total_crops=sum(sizes),
            workers=len({(line["host"], line["pid"]) for line in lines[n_lines:]}),
            crops_per_second=rate,
            seconds_left=(sum(sizes) - done) / rate if rate else None,
            failed=sum(line["failed"] for line in of_shards.values()),
            again=len(lines) - len(of_shards),
            unit=plan["unit"],
        )
        if places.finished.exists() and len(of_shards) == len(sizes):
            yield _made(places, plan)
            return
        if control.wait_for_stop(interval):
            return


def _made(places: Places, plan: dict[str, Any]) -> Wrote:
    if plan["kind"] == "comparison":
        return Wrote("report", str(places.output / "layers.csv"))
    if plan["kind"] == "map":
        return Wrote("maps", str(places.output / plan["target"]))
    return Wrote("features", str(places.features))


def shards_in_words(event: ShardsDone) -> str:
    """Say in a clause what shards and workers have come to."""
    parts = [f"{event.done} of {counted(event.total, 'shard')}"]
    parts += [counted(event.workers, "worker")] if event.workers else []
    rate = event.crops_per_second
    parts += [f"{rate:.1f} {event.unit}s/s"] if rate else []
    what = "row" if event.unit == "crop" else "tile"
    parts += [f"{counted(event.failed, what)} failed"] if event.failed else []
    parts += [f"{event.again} begun again"] if event.again else []
    parts += [event.dashboard] if event.dashboard else []
    return ", ".join(parts)


def _plan(places: Places) -> dict[str, Any]:
    if not places.is_begun:
        raise InputError(
            f"{places.output} holds no extraction in shards: name the output folder of one"
        )
    try:
        content = read_json(places.plan)
        # Of plans that were made before there were others this is not said.
        known = {"kind": "table", "what": "features", "unit": "crop"}
        return {**known, **content, "sizes": list(content["sizes"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{places.plan} cannot be read: {reason(error)}") from None


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return who has done which shards; a line that is being written is left out."""
    found = []
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    return found
