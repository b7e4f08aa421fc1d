"""What the parts of a run folder are called; imports nothing."""

import re

CONFIG, LOCK, METRICS, LOG = "config.json", ".lock", "metrics.jsonl", "log.txt"
CHECKPOINTS, REPLAY, BEST, CRASH = "checkpoints", "replay", "best", "crash"
SCORE = "score.json"  # of the best agent, beside it
EVENTS = "events.out.tfevents."  # what the files of TensorBoard begin with

FOLDER_NAME = re.compile(r"step-(\d{9,15})(?:\.(\d{3,9}))?", re.ASCII)  # of a checkpoint
NETWORKS, OPTIM = "networks.safetensors", "optim.safetensors"
STATE, ACTIONS = "state.json", "episode_actions.npy"
MANIFEST = "manifest.json"
