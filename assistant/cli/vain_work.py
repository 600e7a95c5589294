"""Spare what libraries do in vain: half of the processor's time that `ask` took on a small capture.

Nothing here changes a result. Libraries read the environment when they are imported, so this module
imports none of them.
"""

import atexit
import ctypes
import gc
import os
import sys
from contextlib import suppress

WAITS: dict[str, str] = {
    # Threads of a product wait for the next one in a loop, for longer than a small product takes:
    # asleep they cost nothing. OpenBLAS (numpy) wants the exponent of its number of rounds.
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_THREAD_TIMEOUT": "4",
}
# Imported where it is installed and never called: jsonschema, which Chroma imports, has it build a
# grammar of web addresses for a second.
_UNCALLED = "rfc3987_syntax"
_NEW_OBJECTS = 10_000
_M_MMAP_THRESHOLD, _MAPPED_BYTES = -3, 1_000_000  # malloc.h


def spare_vain_work() -> None:
    """Call it once, before anything heavy is imported; what the environment says of waits stays."""
    for name, value in WAITS.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault(_UNCALLED, None)  # type: ignore[arg-type]  # as if not installed
    # Imports make a million objects that stay; after every 700 new ones Python looked for garbage
    # among them, and once more at the end, where the system takes all back.
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)


def keep_what_is_loaded() -> None:
    """Call it once everything that stays is loaded, in a process that goes on: to look for garbage among
    half a million objects of libraries takes a quarter of a second, at any moment."""
    gc.collect()
    gc.freeze()
    _map_large_blocks()


def _map_large_blocks() -> None:
    """Let the C library give tables back when they are freed, mallopt(3); where it has no such thing,
    nothing. By itself it takes what was once as large from its heap from then on, up to 32 MB, where
    small things that stay keep the holes of large ones: 50 devices held 30 MB more for it."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
