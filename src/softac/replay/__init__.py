"""Experience: a preallocated ring of transitions with its segments on disk, and the rollout."""

from softac.replay.hindsight import Hindsight, HindsightReplay
from softac.replay.ring import Replay, require_memory
from softac.replay.rollout import RolloutStorage
from softac.replay.segments import Segment, forget_segments, read_segments, write_segments

__all__ = [
    "Hindsight",
    "HindsightReplay",
    "Replay",
    "RolloutStorage",
    "Segment",
    "forget_segments",
    "read_segments",
    "require_memory",
    "write_segments",
]
