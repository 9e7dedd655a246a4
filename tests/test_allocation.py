"""Memory that a job frees is kept for what it computes next."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from napari_synapse_cl.allocation import keep_freed_memory, return_freed_memory

def pages_of(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = pages_of(4)
assert keep_freed_memory()
pages_of(1)
print(fresh, pages_of(4))
return_freed_memory()
print(pages_of(1))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep it anyway")
def test_large_arrays_come_from_memory_that_was_freed() -> None:
    code = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    (fresh, kept), (returned,) = (map(int, line.split()) for line in code.stdout.splitlines())
    assert fresh > 100
    assert kept < fresh / 10
    # What was given back has to be asked for again.
    assert returned > 10 * max(1, kept)
