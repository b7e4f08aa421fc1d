"""Memory that each update frees and the next one takes again.

The tensors of an update are made and freed every time. glibc gives freed memory at the end of its heap back to the
system, by default all that exceeds twice the largest piece it has seen, and the next update gets it again page by
page, each of which the system clears first.
"""

import ctypes
import os

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**27  # bytes, more than an update of layers of 256 frees, less than anybody misses
OWN_PAGES_FROM = (
    2**25
)  # bytes; glibc's own upper limit. A replay stays apart, and takes no page before it is written
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")

# Looked up when this is imported: while a run of strangers is read or goes on, no library is opened.
MALLOPT = getattr(ctypes.CDLL(None), "mallopt", None)


def keep_freed_memory() -> bool:
    """Have the C library keep up to 128 MiB that were freed; whether it does.

    Only glibc has such a setting; what the user has set is kept. No bit of a result depends on it.
    """
    if MALLOPT is None or any(name in os.environ for name in VARIABLES):
        return False
    return bool(MALLOPT(M_MMAP_THRESHOLD, OWN_PAGES_FROM)) and bool(MALLOPT(M_TRIM_THRESHOLD, KEPT))
