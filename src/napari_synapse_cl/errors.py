"""Errors that speak to the person who runs the program."""


class InputError(ValueError):
    """Something a user gave cannot be used.

    The message is one sentence or two in the user's words: what was wrong, where, and what to do.
    The command line prints it as one line and exits with code 2; the window shows it as a
    notification. Programming mistakes raise other exceptions.
    """


class JobError(Exception):
    """A job that had begun cannot go on: memory or disk ran out, or the loss is not finite.

    Not a RuntimeError, which napari's generator workers swallow.
    """
