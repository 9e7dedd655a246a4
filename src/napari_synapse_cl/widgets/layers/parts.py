"""Parts of a table, one of which a person chooses where all are meant."""

from pathlib import Path

from napari_synapse_cl.data.tables.folders import files_of, table_with
from napari_synapse_cl.runs.shards import Places
from napari_synapse_cl.system.words import counted


def whole_of(path: Path) -> tuple[Path, str]:
    """Return the table that is meant where a file is chosen, and a sentence that says so.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    pathlib.Path
        The folder of all parts, where it is one of these; else the file.
    str
        What to tell, empty where it is no part.
    """
    whole = table_with(path)
    if whole != path:
        n = counted(len(files_of(whole)), "part")
        return whole, f"{path.name} is one of {n} of a table: all of {whole} is opened."
    places = Places(path.parent.parent)
    if path.parent == places.features and places.is_begun:
        unfinished = "of an extraction in shards that is not finished"
        return path, f"{path.name} is a part {unfinished}: it alone is opened."
    return path, ""
