"""Denormal numbers, which a run takes for zero wherever its environments are stepped."""

import ctypes
import platform

# In the control register of x86 processors: results to zero (15), operands taken for zero (6).
FLUSHING = 1 << 15 | 1 << 6
MXCSR = slice(28, 32)  # where it lies in glibc's fenv_t


def flush_denormals() -> None:
    """Have the calling thread take denormal numbers for zero, as `softac.run.numerics` does, without PyTorch.

    The mode belongs to a thread, and environments are to give the same bits in every one.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        import torch

        torch.set_flush_denormal(True)
        return
    library, state = ctypes.CDLL("libm.so.6"), ctypes.create_string_buffer(64)
    library.fegetenv(state)
    changed = bytearray(state.raw)
    changed[MXCSR] = (int.from_bytes(changed[MXCSR], "little") | FLUSHING).to_bytes(4, "little")
    library.fesetenv(bytes(changed))
