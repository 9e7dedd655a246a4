"""Processes that start in no time: forks of one that has imported all that the program imports.

A start of the program takes seconds, and all but an instant of that goes into importing PyTorch.
What a test says of a job holds for a fork as well: it is a child of the process that started it,
with its own pipes, signals and exit code, and runs the same module with the same arguments. Run
as a script, this is the process that is forked.
"""

import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from importlib import import_module
from typing import Any

PROGRAM = "napari_synapse_cl"
PREFIXES = ([sys.executable, "-m"], [sys.executable, "-P", "-m"])
"""How the program's modules are started."""
PR_SET_CHILD_SUBREAPER = 36
"""Whoever sets this on Linux is the parent of all below that have lost theirs."""
LARGEST_REQUEST = 2**17
IMPORTED = (
    "napari_synapse_cl.cli",
    "napari_synapse_cl.pipeline.extraction",
    "napari_synapse_cl.pipeline.training",
    "napari_synapse_cl.augmentations.resampling_loop",
    # What is imported only when it is needed takes no less long.
    "napari_synapse_cl.features.analysis",
    "napari_synapse_cl.features.maps.colors",
    "napari_synapse_cl.pipeline.figures",
    "matplotlib.backends.backend_agg",
    "scipy.spatial",
    "torch._dynamo",
)
"""What jobs import."""
_ONE_AT_A_TIME = threading.Lock()
"""Windows start processes in several threads."""


class Fork(subprocess.Popen):
    """What runs a module of the program as a fork on Linux, and all else as usual.

    Takes what :class:`subprocess.Popen` takes.
    """

    def _execute_child(self, args: Any, *more: Any) -> None:
        module = _module_of(args)
        if sys.platform != "linux" or not module:
            super()._execute_child(args, *more)
            return
        # In the order in which Popen passes them on.
        (
            _executable, _preexec_fn, _close_fds, _pass_fds, cwd, env, _startupinfo, _flags, _shell,
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
            _restore_signals, _gid, _gids, _uid, _umask, _start_new_session, process_group,
        ) = more  # fmt: skip
        request = {
            "arguments": [str(argument) for argument in module],
            "folder": str(cwd or os.getcwd()),
            "environment": dict(os.environ if env is None else env),
            "process_group": process_group,
        }
        message = json.dumps(request).encode()
        assert len(message) < LARGEST_REQUEST
        # Where none is given, a process has the one of whoever starts it.
        ends = [fd if end == -1 else end for fd, end in enumerate((p2cread, c2pwrite, errwrite))]
        with _ONE_AT_A_TIME:
            connection, _ = server()
            socket.send_fds(connection, [message], ends)
            self.pid = int(connection.recv(LARGEST_REQUEST))
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def _module_of(args: Any) -> list[Any]:
    """Return the name of a module of the program and its arguments; nothing if none is started."""
    if isinstance(args, list):
        for prefix in PREFIXES:
            rest = args[len(prefix) :]
            if args[: len(prefix)] == prefix and rest and rest[0].split(".")[0] == PROGRAM:
                return rest
    return []


@cache
def server() -> tuple[socket.socket, subprocess.Popen]:
    """Start the process that is forked, which ends with this one, once; return how to ask it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        process = subprocess.Popen(
            [sys.executable, __file__, str(there.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    return here, process


def is_job(command: list[str], pid: int) -> bool:
    """Whether a process below this one runs the program."""
    if server.cache_info().currsize and pid == server()[1].pid:
        return False
    return any(PROGRAM in part or part == __file__ for part in command)


def serve(connection: socket.socket) -> list[str]:
    """Fork a process for each request, until there is nobody left to make one.

    Returns, in each fork alone, the module that it is to run and its arguments.
    """
    while True:
        message, ends, _, _ = socket.recv_fds(connection, LARGEST_REQUEST, 3)
        if not message:
            raise SystemExit
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            # A grandchild whose parent has ended is the child of whoever asked.
            pid = os.fork()
            if pid > 0:
                os.write(writer, str(pid).encode())
                os._exit(0)
            connection.close()
            os.close(reader)
            os.close(writer)
            return become(json.loads(message), ends)
        os.close(writer)
        for end in ends:
            os.close(end)
        pid_of_job = os.read(reader, 100)
        os.close(reader)
        os.waitpid(between, 0)
        connection.sendall(pid_of_job)


def become(request: dict[str, Any], ends: list[int]) -> list[str]:
    """Be in this process what was requested, and return what it is to run."""
    if request["process_group"] == 0:
        os.setpgid(0, 0)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, end in enumerate(ends):
        os.dup2(end, number)
        os.close(end)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, encoding="utf-8", buffering=buffering, closefd=False)
        for number, mode, buffering in ((0, "r", -1), (1, "w", -1), (2, "w", 1))
    )
    return list(request["arguments"])


if __name__ == "__main__":
    for name in IMPORTED:
        import_module(name)
    # What numba sets up when it compiles for the first time.
    import_module("numba").njit(lambda: 0)()
    # Undo what nohup does, under which these tests may run and which children inherit.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # What is never collected is never copied for a fork either.
    gc.freeze()
    module, *sys.argv[1:] = serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
