"""The command line: ``synapse-cl``, or ``python -m napari_synapse_cl``.

Every setting is a flag; see :mod:`napari_synapse_cl.config`. This module knows no setting by name.
"""

import argparse
import errno
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic.fields import FieldInfo

from napari_synapse_cl import __version__
from napari_synapse_cl.config import (
    RECIPES,
    SECTIONS,
    Config,
    about_recipe,
    has_effect,
    read_recipe,
    read_settings,
    unit_of,
)
from napari_synapse_cl.errors import InputError, JobError
from napari_synapse_cl.runs.events import COMMANDS, Control, Event, Failed, Message, to_line
from napari_synapse_cl.runs.terminal import lead_nowhere, leave, make_safe, report, say
from napari_synapse_cl.system.environment import Launch
from napari_synapse_cl.system.memory import check_address_space, is_shortage, keep_freed_memory
from napari_synapse_cl.system.standard_input import incoming_lines

DESCRIPTION = """\
Fine-tune a VGG3D network on synapses in an electron-microscopy volume by contrastive learning
(NT-Xent), and extract the features of one of its layers. With no data named, it does so on a
synthetic sample volume."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    0 when it did what was asked or was stopped by request, 2 when something that was given cannot
    be used, 1 when the job could not go on, 130 when it was interrupted at once.
    """
    make_safe()
    _use_no_empty_home()
    options = vars(make_parser().parse_args(arguments))
    as_json = options.pop("events") == "jsonl"
    given = options.pop(GIVEN, [])
    control = Control()
    try:
        config = make_config(options)
        # Closed when its reader has gone away, a training keeps a checkpoint.
        with closing(_run(config, control, given, follow_standard_input=as_json)) as events:
            # torchrun has started it to help one that reports.
            if Launch.of_this_process().rank:
                deque(events, maxlen=0)
            elif as_json:
                _write_lines(events, control)
            else:
                report(events)
    except InputError as error:
        # What could not be read for want of memory is not at fault.
        limit = _limit_behind(error)
        return _fail(limit or str(error), 1 if limit else 2, control, as_json)
    except JobError as error:
        return _fail(str(error), 1, control, as_json)
    except KeyboardInterrupt:
        text = "interrupted at once; of a training what came after its last checkpoint is lost"
        return _fail(text, 130, control, as_json)
    except (OSError, RuntimeError, MemoryError, ImportError) as error:
        limit = _limit_of_system(error)
        if limit is None:
            raise
        return _fail(limit, 1, control, as_json)
    return 0


def run() -> NoReturn:
    """Run the program, and end its process with the exit code of :func:`main`."""
    leave(main())


def _fail(text: str, code: int, control: Control, as_json: bool) -> int:
    """Say in one line how the job has ended, and return the exit code."""
    if as_json:
        _write_lines([Failed(text)], control)
    say(sys.stderr, f"synapse-cl: error: {text}\n")
    return code


def _limit_behind(error: BaseException) -> str | None:
    """Say which limit but that of the disk has led to an error, None if it was none."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        limit = None if _is_of_full_disk(cause) else _limit_of_system(cause)
        if limit is not None:
            return limit
        cause = cause.__cause__ or cause.__context__
    return None


def _is_of_full_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _limit_of_system(error: BaseException) -> str | None:
    """Say which limit of the computer a job has met, None if it is none of these."""
    cause = str(error).strip().partition("\n")[0]
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        return f"too many files are open at once ({cause}): raise that limit (ulimit -n)"
    if _is_of_full_disk(error):
        return f"the disk is full ({cause}): make room"
    # So the loader says that a library did not fit.
    texts = ("failed to map", "cannot allocate", "DLL load failed", "paging file")
    if is_shortage(error) or number == errno.ENOMEM or any(t in cause for t in texts):
        return f"memory ran out ({cause or 'no more is to be had'}): free some, or raise its limit"
    if isinstance(error, ImportError) and "Too many open files" in cause:
        return f"too many files are open at once ({cause}): raise that limit (ulimit -n)"
    return None


def _use_no_empty_home() -> None:
    """Take an empty HOME as not set, for libraries too: they would take the root for it."""
    if os.environ.get("HOME") == "":
        del os.environ["HOME"]


GIVEN = " given"
"""Under this name the parser keeps the names of the options that it has met, in their order."""


class _Store(argparse._StoreAction):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        vars(namespace).setdefault(GIVEN, []).append(self.dest)
        super().__call__(parser, namespace, values, option)


class _Switch(argparse.BooleanOptionalAction):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        vars(namespace).setdefault(GIVEN, []).append(self.dest)
        super().__call__(parser, namespace, values, option)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong; the usage would be a screenful."""
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser from the settings; options left out are absent from its result."""
    parser = _Parser(
        prog="synapse-cl",
        usage="%(prog)s [--image FILE --synapses FILE] [option ...]",
        description=DESCRIPTION,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--config",
        action=_Store,
        type=Path,
        default=None,
        metavar="FILE",
        help="read settings from a JSON file, such as a run's config.json; flags override it",
    )
    recipes = "; ".join(f"{name}: {about_recipe(name)}" for name in RECIPES)
    parser.add_argument(
        "--recipe",
        action=_Store,
        choices=RECIPES,
        default=None,
        help="settings that go together, beneath those of --config and of flags. "
        + recipes.replace("%", "%%"),
    )
    parser.add_argument(
        "--events",
        action=_Store,
        choices=["text", "jsonl"],
        default="text",
        help="jsonl: write one JSON event a line to standard output, and read the commands "
        f"{', '.join(COMMANDS)} from standard input (default: text)",
    )
    for section in SECTIONS:
        group = parser.add_argument_group((section.__doc__ or "").strip(". ").lower())
        for name, field in section.model_fields.items():
            group.add_argument(*_flags(name), **_argument(name, field))
    return parser


def make_config(options: dict[str, Any]) -> Config:
    """Make the settings from parsed options: flags before the file, recipe and defaults.

    Raises
    ------
    InputError
        If a setting is unknown, out of bounds or at odds with another.
    """
    options = dict(options)
    options.pop(GIVEN, None)
    file = options.pop("config")
    recipe = options.pop("recipe")
    values = read_settings(file) if file else {}
    if recipe is not None:
        if options.get("resume", values.get("resume")):
            raise InputError("a run that goes on keeps its own settings: leave --recipe out")
        of_recipe = read_recipe(recipe)
        config = Config.from_values({**of_recipe, **values, **options})
        # A recipe serves trainings and extractions; what this job has no use for is not its.
        used = {name: v for name, v in of_recipe.items() if has_effect(name, config)}
        values = {**used, **values}
    if options.get("resume") and not file and "output" in options:
        # The run's own settings hold, unless a flag changes one.
        stored = Path(options["output"]) / "config.json"
        values = read_settings(stored) if stored.exists() else {}
    return Config.from_values({**values, **options})


def _flags(name: str) -> list[str]:
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


def _argument(name: str, field: FieldInfo) -> dict[str, Any]:
    """Return argparse's keywords for a setting. Values stay text: pydantic reads them."""
    unit = f" [{unit_of(field)}]" if unit_of(field) else ""
    default = field.default
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    shown = "none" if default in (None, "") else default
    keywords: dict[str, Any] = {
        "dest": name,
        "default": argparse.SUPPRESS,
        "help": f"{field.description}{unit} (default: {shown})".replace("%", "%%"),
    }
    if field.annotation is bool:
        return {**keywords, "action": _Switch}
    keywords["action"] = _Store
    if get_origin(field.annotation) is Literal:
        return {**keywords, "choices": get_args(field.annotation)}
    if _is_tuple(field):
        return {**keywords, "nargs": "+", "metavar": "N"}
    return {**keywords, "metavar": name.split("_")[-1].upper()}


def _is_tuple(field: FieldInfo) -> bool:
    return "tuple" in str(field.annotation)


def _run(
    config: Config, control: Control, given: Sequence[str], *, follow_standard_input: bool
) -> Generator[Event, None, None]:
    # PyTorch takes seconds to import, which neither --help nor a wrong flag should wait for.
    check_address_space()
    from napari_synapse_cl.pipeline import run

    keep_freed_memory()
    _stop_on_signals(control)
    if follow_standard_input:
        threading.Thread(target=_read_commands, args=(control,), daemon=True).start()
    return _told(given, run(config, control, given))


def _told(
    given: Sequence[str], events: Generator[Event, None, None]
) -> Generator[Event, None, None]:
    """Tell of flags that are given twice, once the job is not refused."""
    with closing(events):
        first = next(events, None)
        for name, n in Counter(given).items():
            if n > 1:
                yield Message(f"--{name} is given {n} times, and the last one counts", "warning")
        if first is not None:
            yield first
        yield from events


def _stop_on_signals(control: Control) -> None:
    """Let the first SIGINT or SIGTERM end the job cleanly, and a second SIGINT at once.

    So does the end of the terminal, unless the job was detached or started with nohup.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        control.request("stop")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def hang_up(number: int, frame: FrameType | None) -> None:
        if not control.detached:
            control.request("stop")

    if threading.current_thread() is threading.main_thread():
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, hang_up)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)


def _read_commands(control: Control) -> None:
    for command in incoming_lines(sys.stdin):
        if command in COMMANDS:
            control.request(command)
        if command == "detach":
            # At once, so that whoever reads need not wait for the next event.
            lead_nowhere(sys.stdout)
    # Nobody is left who could end a pause: go on, and notice when nobody reads the events either.
    control.request("resume")


def _write_lines(events: Iterable[Event], control: Control) -> None:
    """Write events as lines of JSON, until they end or their reader has gone away.

    A job that is detached goes on without a reader.
    """
    for event in events:
        if not say(sys.stdout, to_line(event) + "\n") and not control.detached:
            return
