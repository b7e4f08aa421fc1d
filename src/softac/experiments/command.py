"""A command of softac's own in a process; nothing but the standard library, for whoever only begins one."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

OUTPUT = "output.txt"
LIFELINE = "SOFTAC_LIFELINE"  # the number of a descriptor that ends when the parent does
GRACE = 10.0  # seconds for saving, once the parent is gone


def begin_command(
    words: Sequence[str], folder: Path, lifeline: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Begin `softac WORDS` in a group of its own, where a terminal's Ctrl-C does not reach it.

    Args:
        words: what stands behind `softac`.
        folder: what is printed goes into its `output.txt`.
        lifeline: descriptor to read from; where it ends, the process saves and stops.
        environment: variables of the process.

    Raises:
        OSError: it could not be begun.
    """
    # Unbuffered, so that the last line of the file is the last that was printed. -P: as for the installed
    # command, no module is looked for in the folder one stands in.
    settings = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", LIFELINE: str(lifeline)}
    path = folder / OUTPUT
    path.unlink(missing_ok=True)  # not written through, if it is a link to a file somewhere else
    with path.open("xb") as output:
        return subprocess.Popen(  # noqa: S603 - this program, with words of its own
            [sys.executable, "-P", "-m", "softac", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment, **settings},
            pass_fds=[lifeline],
            process_group=0,
        )
