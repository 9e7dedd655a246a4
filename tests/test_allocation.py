"""Memory that a job frees is kept for what it computes next."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries keep it anyway"
)

AN_ARRAY = 2**26 // 2**21
"""Pages that an array below takes at least, if all of them are huge ones of 2 MiB."""
FEW = AN_ARRAY // 4
"""Pages that all else may take meanwhile."""

START = """
import resource
import numpy as np
from napari_synapse_cl.system import memory
from napari_synapse_cl.system.memory import keep_freed_memory, make_room, return_freed_memory
from napari_synapse_cl.system.memory import Memory

def pages_of(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def free_are(*amounts):
    answers = iter(amounts)
    memory.main_memory = lambda: Memory(next(answers), 10**9)

"""


def pages(code: str) -> list[int]:
    """Run code in a process of its own, and return the pages that it prints."""
    job = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True)
    assert job.returncode == 0, job.stderr
    return [int(number) for number in job.stdout.split()]


def test_large_arrays_come_from_memory_that_was_freed() -> None:
    fresh, kept, returned = pages("""
fresh = pages_of(4)
assert keep_freed_memory()
pages_of(1)
print(fresh, pages_of(4))
return_freed_memory()
print(pages_of(1))
""")
    assert fresh >= 4 * AN_ARRAY
    assert kept < FEW
    # What was given back has to be asked for again.
    assert returned >= AN_ARRAY


def test_what_is_kept_is_given_back_where_it_is_needed_and_kept_on_where_that_is_enough() -> None:
    roomy, given_back, after = pages("""
keep_freed_memory()
pages_of(1)
free_are(1500)
make_room(1000)
print(pages_of(1))
free_are(1499, 1500)
make_room(1000)
print(pages_of(1), pages_of(4))
""")
    assert roomy < FEW
    assert given_back >= AN_ARRAY
    assert after < FEW


def test_nothing_is_kept_any_more_where_that_leaves_too_little() -> None:
    kept, first, after = pages("""
keep_freed_memory()
pages_of(1)
print(pages_of(4))
free_are(100, 1499)
make_room(1000)
print(pages_of(1), pages_of(4))
make_room(1000)  # Nothing is asked: there is no further answer.
""")
    assert kept < FEW
    assert first >= AN_ARRAY
    assert after >= 4 * AN_ARRAY
