"""Which files in a run folder are the run's: those that its jobs have noted before they wrote them.

Whatever else lies there is someone else's, and is neither removed nor overwritten.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import get_args

from napari_synapse_cl.config.fields import ExportFormat
from napari_synapse_cl.errors import InputError
from napari_synapse_cl.system.files import remove_partial, replacing
from napari_synapse_cl.system.folder_lock import MARKS, remove_quietly

LIST = ".synapse-cl.made"
"""A line for each file or folder of crops that a run makes, relative to its folder."""

_CROPS = re.compile(r"crops-[0-9a-f]{16}")
_LOGS = re.compile(r"events\.out\.tfevents\.\d{10}\.synapse-cl")
_TABLES = re.compile(r"synapses(_\d+)?\.csv|dataset\.json")
_FEATURES = re.compile(r"features_L\d+(_L\d+)*_[a-z+]+\.(csv|parquet|npz|h5ad|json|npy|png)")
_OF_THE_SYSTEM = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.directory|\.nfs.*")
"""What file managers and network disks leave in any folder."""
_PARTIAL = re.compile(r"\..+\.\d+\.partial(\.\w+)?")
_MOST_NAMED = 2

CACHE_FILES = ("index.json", "positions.npz", "states.npy", "windows.npy", "crops.npy", "sums.npy")
"""All that a cache holds."""

SINCE_LISTS = ("held_out.npz",)
"""What no run of a version that kept no list has made."""


def export_name(kind: ExportFormat) -> str:
    """Return what the file is called that holds the network in a format for other programs."""
    # As the BioImage Model Zoo calls its packages.
    return f"vgg3d.{'bioimage.io.zip' if kind == 'bioimageio' else kind}"


FROM_THE_START = ("config.json", "run.json", "status.json", "steps.csv", "epochs.csv")
"""What every run makes."""
ALWAYS = (
    *FROM_THE_START,
    "commands.txt",
    "loss.png",
    *SINCE_LISTS,
    "checkpoints/last.pt",
    "checkpoints/best.pt",
    *map(export_name, get_args(ExportFormat)),
)
"""What a run may make, besides crops, logs, features and what the window writes for it."""


class Ownership:
    """What of a folder belongs to the run in it.

    Runs of versions that kept no list own the files whose names are exactly those of a run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._list = folder / LIST
        self._known: set[str] | None = None

    def claim(self, *files: Path, replace: bool = False) -> None:
        """Note files, or folders of crops, before they are written for the first time.

        Parameters
        ----------
        *files
            In the folder.
        replace
            Whether what is there is given up by its owner.

        Raises
        ------
        FileExistsError
            If something is there that no job of this run has made.
        OSError
            If it cannot be noted.
        """
        if all(self._name(file) in self._noted() for file in files):
            return
        self._begin_list()
        new = [file for file in files if self._name(file) not in self._noted()]
        for file in new:
            if os.path.lexists(file) and not replace:
                # Without a number, which would be put in words in place of these.
                raise FileExistsError(
                    f"{file.name} is there already and is none of the files that {LIST} says this "
                    "run has made; move it away"
                )
        self._note(self._name(file) for file in new)

    def owns(self, file: Path) -> bool:
        """Whether a job of the run has made a file."""
        if self._list.exists():
            return self._name(file) in self._noted()
        others = (_FEATURES, _TABLES)
        is_named = file in self._candidates() or any(kind.fullmatch(file.name) for kind in others)
        return (self._folder / "run.json").exists() and is_named

    def check_free(self, cache: Path | None = None) -> None:
        """Check that nobody's files are in the folder, where a run is to begin.

        Parameters
        ----------
        cache
            Where crops are cached, which may be in it.

        Raises
        ------
        InputError
            If someone's are.
        """
        found = list(islice(self._files_under(self._folder, cache), _MOST_NAMED + 1))
        if found:
            more = " and more" if len(found) > _MOST_NAMED else ""
            raise InputError(
                f"{', '.join(found[:_MOST_NAMED])}{more} is there already in {self._folder}, and "
                "is of no run: name a new or an empty folder as output, or move it away"
            )

    def remove(self) -> None:
        """Remove what makes a run: features of its network, and others' files, stay."""
        files, crops = self._owned()
        for folder in crops:
            remove_crops(folder)
        for file in files:
            file.unlink(missing_ok=True)
            remove_partial(file)
        self._leave()

    def move(self, target: Path) -> None:
        """Move what makes a run into another folder on the same disk, and the list with it.

        Features of its network, and others' files, stay.

        Raises
        ------
        OSError
            If something cannot be moved, or is there already; all is as it was then.
        """
        self._begin_list()
        there = Ownership(target)
        if os.path.lexists(there._list):
            raise FileExistsError(f"{target} holds a run already")
        target.mkdir(parents=True, exist_ok=True)
        files, crops = self._owned()
        parts = (folder / name for folder in crops for name in CACHE_FILES)
        files += [path for path in parts if os.path.lexists(path)]
        moved: list[tuple[Path, Path]] = []
        try:
            # The list comes first and goes last, so that each file is noted wherever it lies.
            there._note(self._listed())
            for file in files:
                to = target / self._name(file)
                if os.path.lexists(to):
                    raise FileExistsError(f"{to} is there already")
                to.parent.mkdir(exist_ok=True)
                file.rename(to)
                moved.append((file, to))
        except OSError:
            for file, to in reversed(moved):
                to.rename(file)
            there._leave(crops)
            raise
        self._leave(crops)

    def remove_list_alone(self) -> None:
        """Remove the folder, if no job holds it and nothing but the list is in it."""
        with suppress(OSError):
            if {path.name for path in self._folder.iterdir()} <= {LIST}:
                remove_quietly(self._list)
                self._folder.rmdir()

    def _owned(self) -> tuple[list[Path], list[Path]]:
        """Return the files that make the run, and its folders of crops."""
        owned = [path for path in self._candidates() if self.owns(path)]
        crops = [path for path in owned if _CROPS.fullmatch(path.name)]
        return [path for path in owned if path not in crops], crops

    def _leave(self, crops: Iterable[Path] = ()) -> None:
        """Remove the list, and the folders of the run that are empty."""
        remove_quietly(self._list)
        remove_partial(self._list)
        self._known = None
        for name in ("checkpoints", "tensorboard", *(folder.name for folder in crops)):
            # Others' files may be in it, or it is a link.
            with suppress(OSError):
                (self._folder / name).rmdir()

    def _begin_list(self) -> None:
        """Note what a run of a version that kept no list has made."""
        if not self._list.exists() and (self._folder / "run.json").exists():
            features = [p for p in self._folder.iterdir() if _FEATURES.fullmatch(p.name)]
            self._note(self._name(file) for file in (*self._candidates(), *features))

    def _candidates(self) -> list[Path]:
        """Return what is there under a name of a run's files."""
        left_out = () if self._list.exists() else SINCE_LISTS
        named = [self._folder / name for name in ALWAYS if name not in left_out]
        with suppress(OSError):
            for path in sorted(self._folder.iterdir()):
                is_table = _TABLES.fullmatch(path.name) and self._list.exists()
                if is_table or _CROPS.fullmatch(path.name):
                    named.append(path)
        with suppress(OSError):
            logs = sorted((self._folder / "tensorboard").iterdir())
            named += [path for path in logs if _LOGS.fullmatch(path.name)]
        return [path for path in named if os.path.lexists(path)]

    def _files_under(self, folder: Path, cache: Path | None) -> Iterator[str]:
        """Yield files that are not the run's; a folder that cannot be read is one."""
        try:
            entries = sorted(folder.iterdir()) if os.path.exists(folder) else []
        except OSError:
            yield self._name(folder)
            return
        for path in entries:
            name = self._name(path)
            if name in self._noted() or path.name in MARKS or path == self._list:
                continue
            if _OF_THE_SYSTEM.fullmatch(path.name) or _PARTIAL.fullmatch(path.name):
                continue
            if cache is not None and path.absolute() == cache.absolute():
                continue
            if path.is_dir() and not path.is_symlink():
                yield from self._files_under(path, cache)
            else:
                yield name

    def _noted(self) -> set[str]:
        if self._known is None:
            self._known = set()
            with suppress(OSError):
                self._known = self._listed()
        return self._known

    def _listed(self) -> set[str]:
        try:
            text = self._list.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return set()
        # A line without its end was cut off, as by a full disk: it may name another's file.
        return set(text[: text.rfind("\n") + 1].splitlines())

    def _note(self, names: Iterable[str]) -> None:
        new = {name for name in names if name not in self._noted()}
        if new:
            # Another job of the run may have noted more meanwhile.
            noted = self._listed() | new
            with replacing(self._list) as temporary:
                temporary.write_text("".join(f"{name}\n" for name in sorted(noted)), "utf-8")
            self._known = noted

    def _name(self, file: Path) -> str:
        return file.relative_to(self._folder).as_posix()


def remove_crops(folder: Path) -> None:
    """Remove a cache; files that are not of it stay, and the folder with them."""
    for name in CACHE_FILES:
        (folder / name).unlink(missing_ok=True)
        remove_partial(folder / name)
    with suppress(OSError):
        folder.rmdir()
