"""What a worker is at, noted before it begins: so the next one knows where it died.

A worker that is killed, hangs or takes all the memory cannot say which row it was. The batch that
it had begun is on the disk. When several have died in one batch its rows are computed one by one,
and a row in which workers go on to die is the one that breaks them.
"""

import json
from contextlib import suppress
from pathlib import Path

BATCH_TRIES = 3
"""Workers that may die in a batch before its rows are taken one by one: most deaths are of jobs
that a cluster has ended, and no row's fault."""
ROW_TRIES = 2
"""Workers that may die in a row before it counts as the one that breaks them."""
BROKEN = "the worker died, hung or broke down each time that it was computed"


class Trail:
    """The trail of a shard, which is read when a worker begins it.

    Parameters
    ----------
    file
        Where it is kept.

    Attributes
    ----------
    failed
        Why rows have failed, by their number in the shard, as far as is known from deaths.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.failed: dict[int, str] = {}
        self._deaths: dict[int, int] = {}
        self._next, self._row_deaths = -1, 0
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            noted = json.loads(file.read_text(encoding="utf-8"))
            self._deaths = {int(first): int(n) for first, n in noted["deaths"].items()}
            self._next, self._row_deaths = int(noted["next"]), int(noted["row_deaths"])
            self.failed = {int(row): str(why) for row, why in noted["failed"].items()}

    def begin_batch(self, first: int) -> bool:
        """Note that a batch is begun; return whether its rows should be taken one by one.

        Batches before it are done, by this worker too: of those none has died that does not die of
        them together.

        Parameters
        ----------
        first
            The number of its first row in the shard.
        """
        for other, deaths in list(self._deaths.items()):
            if other < first and deaths <= BATCH_TRIES + 1:
                del self._deaths[other]
        one_by_one = self._deaths.get(first, 0) >= BATCH_TRIES
        if first > self._next:
            self._next, self._row_deaths = first, 0
        if not one_by_one:
            self._deaths[first] = self._deaths.get(first, 0) + 1
            self._note()
        self._batch = first
        return one_by_one

    def begin_row(self, row: int) -> bool:
        """Note that a row is begun; return whether it is to be computed.

        It is not if that was done already, or if it is the one that breaks workers.
        """
        if row < self._next or row in self.failed:
            return False
        if row > self._next:
            self._next, self._row_deaths = row, 0
        if self._row_deaths >= ROW_TRIES:
            self.fail(row, BROKEN)
            return False
        self._row_deaths += 1
        self._note()
        return True

    def fail(self, row: int, why: str) -> None:
        """Note that a row has failed."""
        self.failed[row] = why
        self._next, self._row_deaths = row + 1, 0
        self._note()

    def end_rows(self, stop: int) -> bool:
        """Note that each row was computed; return whether all are to be computed together now.

        They are once. If workers die of that too, what came of each alone has to do.
        """
        together = self._deaths[self._batch] == BATCH_TRIES
        if stop > self._next:
            self._next, self._row_deaths = stop, 0
        self._deaths[self._batch] += 1
        self._note()
        return together

    @property
    def told(self) -> tuple[int, ...]:
        """What is noted, by which it is seen whether a shard has come any further."""
        return *self._deaths, *self._deaths.values(), self._next, self._row_deaths

    def touch(self) -> None:
        """Note that the worker still lives, by which others know that it does not hang."""
        self._file.touch()

    def remove(self) -> None:
        """Forget it, when the shard is done."""
        self._file.unlink(missing_ok=True)

    def _note(self) -> None:
        # Not by another name: a note that is cut off counts as none, and costs a try.
        noted = {
            "deaths": self._deaths,
            "next": self._next,
            "row_deaths": self._row_deaths,
            "failed": self.failed,
        }
        self._file.write_text(json.dumps(noted), encoding="utf-8")
