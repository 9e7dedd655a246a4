"""One job at a time writes to a folder, whichever process and computer it runs on."""

from __future__ import annotations

import errno
import json
import os
import platform
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from napari_synapse_cl.errors import InputError, reason
from napari_synapse_cl.system.files import remove_partial, write_json

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".synapse-cl.lock"
MARK = ".synapse-cl.mark"
"""Stands in for the lock where the file system knows none."""
HOLDER = ".synapse-cl.holder.json"
"""Says who holds the folder. The lock itself cannot: filelock may empty it when it is opened."""
MARKS = frozenset((LOCK, MARK, HOLDER))
"""Names of the files that are in a folder as long as it is held."""

NO_LOCKS = frozenset((errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS))
"""What file systems say that know no locks."""
PATIENCE = 0.2
"""In seconds: a folder that is just being let go of can be had after so long."""
HOLDER_PATIENCE = 1.0
"""In seconds: how long whoever has just taken a folder may take to say so."""
CLOCK_TOLERANCE = 2.0
"""In seconds: by how much the start of a process can seem to shift when the clock is set."""


def process_lives(host: str, pid: int, started: float) -> bool | None:
    """Return whether a process still runs; None if this computer or user cannot see that.

    Parameters
    ----------
    host
        Its computer's name.
    pid
        Its number there.
    started
        When it was started, in seconds since 1970.
    """
    if host != platform.node():
        return None
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < CLOCK_TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return None
    except psutil.Error:
        return False


@dataclass(frozen=True)
class Holder:
    """A process that holds a folder: its computer's name, its number there, when it was started."""

    host: str
    pid: int
    started: float

    @classmethod
    def this_process(cls) -> Self:
        """Return that of this process."""
        return cls(platform.node(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Return what a folder says of its holder; None if it says nothing that can be read."""
        try:
            content = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
            return cls(str(content["host"]), int(content["pid"]), float(content["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def lives(self) -> bool | None:
        """Return whether it still runs; None if that cannot be seen from this computer."""
        return process_lives(self.host, self.pid, self.started)

    def __str__(self) -> str:
        is_here = self.host == platform.node()
        return f"process {self.pid} on {'this' if is_here else 'the'} computer {self.host}"


class HeldError(InputError):
    """Another job holds a folder.

    Attributes
    ----------
    holder
        In words: "process 4711 on this computer vm".
    """

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class Hold:
    """A folder that no other job writes to, until :meth:`release` or the end of this process.

    Used as a context manager. The folder is made if it is not there, and goes again with an error
    if it is left empty, unless it was there and empty.

    Parameters
    ----------
    what
        What it is, in words.

    Attributes
    ----------
    note
        What to warn of, if anything.

    Raises
    ------
    HeldError
        If another job holds it.
    InputError
        If it is no folder, or cannot be made or written to.
    """

    def __init__(self, folder: Path, what: str = "output folder") -> None:
        self.folder = folder
        self.note: str | None = None
        self._lock: BaseFileLock | None = None
        self._inode: int | None = None
        self._made = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
        check_folder(folder, what)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._made and any(folder.iterdir()):
                self._made = [folder]
            self._lock = self._acquired(what)
            self._inode = self._inode_now()
            remove_partial(folder / HOLDER)
            write_json(folder / HOLDER, asdict(Holder.this_process()))
        except OSError as error:
            self.release(void=True)
            raise InputError(
                f"cannot write to the {what} {folder}: {reason(error)}; name another folder"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What was refused, or failed before it began, has written nothing.
        self.release(void=kind is not None and issubclass(kind, Exception))

    def release(self, *, void: bool = False) -> None:
        """Let others have the folder.

        Parameters
        ----------
        void
            Whether the folder is not to stay, if nothing is in it.
        """
        # A folder that was removed may have been made anew, and be another's now.
        is_mine = self._lock is not None and self._inode_now() == self._inode
        if is_mine:
            # On Windows nobody but this can remove the lock, and so the folder.
            void = void or not (self.folder / HOLDER).exists()
            remove_quietly(self.folder / HOLDER)
            if os.name == "posix":
                # Before it is let go of: whoever has opened it finds out that it is gone.
                remove_quietly(self.folder / LOCK)
        if self._lock is not None:
            # The folder may be gone, and the mark with it.
            with suppress(OSError):
                self._lock.release()
        if is_mine and os.name != "posix":
            remove_quietly(self.folder / LOCK)
        if void:
            self._leave()

    def _acquired(self, what: str) -> BaseFileLock:
        # A dock that opens holds no folder, and waits for no import.
        from filelock import FileLock, SoftFileLock, Timeout

        kinds: tuple[tuple[type[BaseFileLock], str], ...] = (
            (FileLock, LOCK),
            (SoftFileLock, MARK),
        )
        for kind, name in kinds:
            # The context of one thread would not be let go of by another.
            lock = kind(self.folder / name, thread_local=False)
            try:
                with warnings.catch_warnings(record=True) as told:
                    lock.acquire(timeout=PATIENCE, poll_interval=PATIENCE / 4)
            except Timeout:
                mark = None if kind is FileLock and not told else self.folder / name
                raise self._held(what, mark) from None
            except NotImplementedError:
                pass
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            else:
                # Of some kinds of want filelock itself makes a mark, with a warning for developers.
                if told or kind is SoftFileLock:
                    self.note = (
                        f"the file system of the {what} {self.folder} knows no locks, so another "
                        "computer may not see that a job writes there: make sure that none does"
                    )
                return lock
            remove_quietly(self.folder / name)
        raise OSError(errno.ENOTSUP, "its file system knows neither locks nor marks")

    def _held(self, what: str, mark: Path | None) -> HeldError:
        deadline = time.monotonic() + HOLDER_PATIENCE
        holder = Holder.of(self.folder)
        # What is left of one that died stays until the next has said who it is.
        while holder is None or holder.lives() is False:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
            holder = Holder.of(self.folder)
        who = "another process" if holder is None else str(holder)
        left = f" (if that job has died, remove {mark})" if mark else ""
        return HeldError(
            f"the {what} {self.folder} is being written to by {who}: wait for its end, or name "
            f"another folder{left}",
            who,
        )

    def _inode_now(self) -> int | None:
        for name in (LOCK, MARK):
            with suppress(OSError):
                return (self.folder / name).stat().st_ino
        return None

    def _leave(self) -> None:
        """Remove the folders that are not to stay empty."""
        for path in self._made:
            try:
                path.rmdir()
            except OSError:
                return


def check_folder(folder: Path, what: str = "output folder") -> None:
    """Check that a path can be a folder.

    Raises
    ------
    InputError
        If something else is there.
    """
    # Names that are too long are none of these, and refused when the folder is made.
    if os.path.isdir(folder) or not os.path.lexists(folder):
        return
    found = f"a link to {os.readlink(folder)}, which" if folder.is_symlink() else "a file"
    state = "is not there" if folder.is_symlink() and not folder.exists() else "and no folder"
    raise InputError(
        f"cannot write to the {what} {folder}: it is {found} {state}; name another folder"
    )


def remove_marks(folder: Path) -> None:
    """Remove the folder that nothing is in but the marks of who holds it."""
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= MARKS:
            for name in MARKS:
                remove_quietly(folder / name)
            folder.rmdir()


def remove_quietly(file: Path) -> None:
    """Remove a file, if that can be done."""
    with suppress(OSError):
        file.unlink(missing_ok=True)
