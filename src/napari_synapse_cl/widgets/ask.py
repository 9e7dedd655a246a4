"""Ask a process of its own what only PyTorch knows: the window does not import it."""

import json
import subprocess
from typing import Any

from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.widgets.child import PYTHON, WINDOWS_FLAGS


class Question:
    """A module of this package that is run, and answers with a JSON object.

    Parameters
    ----------
    module
        Its name. Run with arguments, the first of them a path, it writes its answer to standard
        output, or ``{"error": …}`` if what it was given cannot be used.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[str] | None = None

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Return the answer; it takes seconds.

        Raises
        ------
        InputError
            If what it was asked about cannot be used.
        JobError
            If the process has crashed, or was ended.
        """
        self._process = subprocess.Popen(
            [*PYTHON, "-m", self._module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            creationflags=WINDOWS_FLAGS,
        )
        with self._process as process:
            output, errors = process.communicate()
        try:
            answer = json.loads(output)
        except ValueError:
            last = (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise JobError(f"{arguments[0]} could not be looked at: {last}") from None
        if "error" in answer:
            raise InputError(answer["error"])
        return dict(answer)

    def end(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            self._process.kill()
