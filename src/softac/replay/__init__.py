"""Experience: a preallocated ring of transitions, and its immutable segments on disk."""

from softac.replay.ring import Replay, require_memory
from softac.replay.segments import Segment, forget_segments, read_segments, write_segments

__all__ = ["Replay", "Segment", "forget_segments", "read_segments", "require_memory", "write_segments"]
