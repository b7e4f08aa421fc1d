"""Who multiplies matrices: MKL, as PyTorch does in float32, or oneDNN, as it does in bfloat16."""

from collections.abc import Mapping
from typing import Any

import torch


def onednn_is_ahead() -> bool:
    """Whether oneDNN makes products in float32 on this processor in half of the time that MKL takes.

    That is so on AMD's fifth generation (Zen 5), whose units of 512 bits MKL leaves half idle: 99 GFLOP/s on one
    thread in a product of 256 x 256 x 256, against 209 (`benchmarks/speed/onednn.py`). It is told by what the
    processor can and not measured on the spot, since the last bits depend on the choice.
    """
    backends: Any = torch.backends
    if not (backends.mkl.is_available() and backends.mkldnn.is_available()):
        return False
    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older PyTorch cannot tell
    # No processor of another maker has SSE4a, and none of AMD's before the fifth generation VP2INTERSECT.
    return bool(can.get("sse4a") and can.get("avx512_vp2intersect"))
