"""Experience: a preallocated ring of transitions with its segments on disk, and the rollout."""

from softac.replay.hindsight import Hindsight, HindsightReplay
from softac.replay.images import make_replay
from softac.replay.ring import Replay, available_memory, forecast, require_memory
from softac.replay.rollout import RolloutStorage
from softac.replay.segments import Segment, forget_segments, read_segments, write_segments
from softac.replay.shifts import draw_shifts, shift

__all__ = [
    "Hindsight",
    "HindsightReplay",
    "Replay",
    "RolloutStorage",
    "Segment",
    "available_memory",
    "draw_shifts",
    "forecast",
    "forget_segments",
    "make_replay",
    "read_segments",
    "require_memory",
    "shift",
    "write_segments",
]
