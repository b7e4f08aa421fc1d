"""The run: collector, loop, evaluation, checkpoints, run folder."""
