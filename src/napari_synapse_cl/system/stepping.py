"""A function that yields how far it is, in a process of its own.

Libraries such as scikit-learn hold Python's lock for seconds at a time, and a window that works in
another thread stands still meanwhile. :data:`MODULE` is what the process runs: it takes the
function and its arguments from the standard input, and answers with what is yielded and returned.
Both are pickled, which is safe since nobody else can write into the pipes.
"""

import os
import pickle
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any, Literal

MODULE = "napari_synapse_cl.system.stepping"
Answer = tuple[Literal["step", "result", "failure"], Any]
"""What was yielded or returned, or why there is nothing, in words."""


def sent(function: Callable[..., Generator[Any, None, Any]], arguments: tuple[Any, ...]) -> bytes:
    """Return what the process is given.

    Parameters
    ----------
    function
        One that can be imported by its name.
    """
    return pickle.dumps((function, arguments), protocol=pickle.HIGHEST_PROTOCOL)


def answers(pipe: IO[bytes]) -> Iterator[Answer]:
    """Yield what the process tells until it ends."""
    while True:
        try:
            answer: Answer = pickle.load(pipe)
        except (EOFError, pickle.UnpicklingError):
            yield "failure", "its process was ended"
            return
        yield answer
        if answer[0] != "step":
            return


def main() -> None:
    """Run the function that is given, and answer."""
    answer = os.fdopen(os.dup(1), "wb")
    # What libraries print is no part of the answer.
    sys.stdout = sys.stderr

    def tell(*message: Any) -> None:
        pickle.dump(message, answer, protocol=pickle.HIGHEST_PROTOCOL)
        answer.flush()

    try:
        function, arguments = pickle.load(sys.stdin.buffer)
        steps = function(*arguments)
        while True:
            try:
                tell("step", next(steps))
            except StopIteration as end:
                tell("result", end.value)
                return
    except BrokenPipeError:
        # Nobody waits for an answer any more.
        os._exit(1)
    except Exception:
        tell("failure", traceback.format_exc().strip().splitlines()[-1])


if __name__ == "__main__":
    main()
