"""Folders from a stranger: refused in one line or harmless, within two seconds, and nothing runs.

Every file here is forged with correct sizes, hashes and seals where that is possible: a stranger
can compute them as well as softac can.
"""

import io
import json
import os
import pickle
import re
import resource
import shutil
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alarm import Alarm, Payload
from folders import memory_folder
from forgery import ACTIONS, NETWORKS, OPTIM, STATE, Forgery
from reliability_envs import tiny
from softac import SAC
from softac.errors import CheckpointError, ConfigError
from softac.files import npy_bytes

SECONDS, MEGABYTES = 2.0, 200


def pickled(f: Forgery) -> bytes:
    return pickle.dumps(Payload(f.outside / "canary"))


def object_npy(f: Forgery) -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([[Payload(f.outside / "canary")]], object), allow_pickle=True)
    return data.getvalue()


def torch_zip(f: Forgery) -> bytes:
    data = io.BytesIO()
    torch.save({"actor": Payload(f.outside / "canary")}, data)
    return data.getvalue()


def zip_bomb(f: Forgery) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("networks", bytes(50_000_000))
    return data.getvalue()


def npy(
    header: str | bytes, body: bytes = b"", *, version: bytes = b"\x01\x00", length: int | None = None
) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    size = len(text) if length is None else length
    return b"\x93NUMPY" + version + size.to_bytes(2 if version[0] == 1 else 4, "little") + text + body


def npy_of(shape: str, descr: str = "'<f4'", fortran: str = "False") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n", bytes(800))


def tensor_file(header: Any, body: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(dtype: str, shape: list[int], stop: int) -> dict[str, Any]:
    return {"actor.net.0.weight": {"dtype": dtype, "shape": shape, "data_offsets": [0, stop]}}


DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECT = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
NASTY = "\x1b[2J\x1b]0;owned\x07\r\nsoftac: all is well\u202e"


def collector(**values: Any) -> Callable[[Forgery], None]:
    return lambda f: f.state(lambda s: s["collector"].update(values))


def episode(**values: Any) -> Callable[[Forgery], None]:
    return lambda f: f.state(lambda s: s["collector"]["episodes"][0].update(values))


def in_config(section: str, **values: Any) -> Callable[[Forgery], None]:
    return lambda f: f.config(lambda c: c[section].update(values))


def observation_space(space: Any) -> Callable[[Forgery], None]:
    return lambda f: f.config(lambda c: c["env"]["spaces"].update(observation=space))


def in_segment(**values: Any) -> Callable[[Forgery], None]:
    return lambda f: f.manifest(lambda m: m["segments"][0].update(values))


def box(**values: Any) -> dict[str, Any]:
    return {"kind": "Box", "low": ["-inf"], "high": ["inf"], "shape": [3], "dtype": "float32"} | values


def wide(depth: int) -> Any:
    space: Any = box()
    for _ in range(depth):
        space = {"kind": "Dict", "parts": {"a": space}}
    return space


REFUSED: dict[str, Callable[[Forgery], Any]] = {
    # Pickle, and what loads pickle, in every slot.
    **{f"pickle in {n}": lambda f, n=n: f.put(n, pickled(f)) for n in (NETWORKS, OPTIM, STATE, ACTIONS)},
    "pickle in manifest": lambda f: f.path("CKPT/manifest.json").write_bytes(pickled(f)),
    "pickle in config": lambda f: f.path("config.json").write_bytes(pickled(f)),
    "pickle in segment": lambda f: f.segment(pickled(f)),
    "object array in actions": lambda f: f.put(ACTIONS, object_npy(f)),
    "object array in segment": lambda f: f.segment(object_npy(f)),
    "torch archive in networks": lambda f: f.put(NETWORKS, torch_zip(f)),
    "torch archive in optim": lambda f: f.put(OPTIM, torch_zip(f)),
    "zip bomb in networks": lambda f: f.put(NETWORKS, zip_bomb(f)),
    "zip bomb in actions": lambda f: f.put(ACTIONS, zip_bomb(f)),
    # .npy headers, which NumPy reads as Python.
    "npy header that is code": lambda f: f.put(ACTIONS, npy("__import__('os').system('touch canary')\n")),
    "npy header with a call": lambda f: f.put(ACTIONS, npy_of("(exit(), 2)")),
    "npy header unfinished": lambda f: f.put(ACTIONS, npy("{'descr': '<f4', 'shape': (3L,\n")),
    "npy header of Python 2": lambda f: f.put(ACTIONS, npy_of("(3L, 2L)")),
    "npy header nested": lambda f: f.put(ACTIONS, npy("(" * 900 + ")" * 900)),
    "npy header of signs": lambda f: f.put(ACTIONS, npy("-" * 950 + "1")),
    "npy header of 64 kB": lambda f: f.put(ACTIONS, npy(b" " * 65535)),
    "npy header of 4 GB": lambda f: f.put(ACTIONS, npy(b"{}", version=b"\x02\x00", length=2**32 - 1)),
    "npy header beyond the file": lambda f: f.put(ACTIONS, npy(b"{}", length=60_000)),
    "npy of 1 TB": lambda f: f.put(ACTIONS, npy_of("(137438953472, 2)")),
    "npy of negative shape": lambda f: f.put(ACTIONS, npy_of("(-1, 2)")),
    "npy of huge numbers": lambda f: f.put(ACTIONS, npy_of(f"({'9' * 500}, 2)")),
    "npy of one dimension": lambda f: f.put(ACTIONS, npy_of("(200,)")),
    "npy of float64": lambda f: f.put(ACTIONS, npy_of("(50, 2)", "'<f8'")),
    "npy of fields": lambda f: f.put(ACTIONS, npy_of("(50, 2)", "[('a', '<f4')]")),
    "npy in Fortran order": lambda f: f.put(ACTIONS, npy_of("(100, 2)", fortran="True")),
    "npy of nan": lambda f: f.put(ACTIONS, npy_bytes(np.full((5, 2), np.nan, np.float32))),
    "npy of other width": lambda f: f.put(ACTIONS, npy_bytes(np.zeros((5, 3), np.float32))),
    "npy empty": lambda f: f.put(ACTIONS, b""),
    "segment of 1 TB": lambda f: f.segment(npy_of("(27487790694, 10)")),
    "segment of inf": lambda f: f.segment(npy_bytes(np.full((45, 10), np.inf, np.float32))),
    "segment of other width": lambda f: f.segment(npy_bytes(np.zeros((45, 11), np.float32))),
    "segment of fewer rows": lambda f: f.segment(npy_bytes(np.zeros((44, 10), np.float32))),
    # safetensors.
    "header of 2^63 bytes": lambda f: f.put(NETWORKS, tensor_file({}, length=2**63)),
    "header of 2^64 - 1 bytes": lambda f: f.put(NETWORKS, tensor_file({}, length=2**64 - 1)),
    "header of no bytes": lambda f: f.put(NETWORKS, tensor_file({}, length=0)),
    "header nested": lambda f: f.put(NETWORKS, tensor_file(DEEP_OBJECT)),
    "header a list": lambda f: f.put(NETWORKS, tensor_file([])),
    "header not UTF-8": lambda f: f.put(NETWORKS, tensor_file(b"\xff\xfe{}")),
    "tensor of 1 TB": lambda f: f.put(NETWORKS, tensor_file(entry("F32", [2**38], 2**40))),
    "tensor of negative size": lambda f: f.put(NETWORKS, tensor_file(entry("F32", [-1], 4), bytes(4))),
    "tensor whose shape overflows": lambda f: f.put(
        NETWORKS, tensor_file(entry("F32", [2**33, 2**33], 4), bytes(4))
    ),
    "tensor of unknown type": lambda f: f.put(NETWORKS, tensor_file(entry("OBJECT", [1], 8), bytes(8))),
    "tensor of 8-bit floats": lambda f: f.put(NETWORKS, tensor_file(entry("F8_E4M3", [4], 4), bytes(4))),
    "tensor of complex numbers": lambda f: f.put(NETWORKS, tensor_file(entry("C64", [1], 8), bytes(8))),
    "tensor of another type": lambda f: f.tensors(
        NETWORKS, lambda t: t.update({"actor.net.0.bias": t["actor.net.0.bias"].astype(np.float64)})
    ),
    "nan in the weights": lambda f: f.tensors(NETWORKS, lambda t: t["actor.net.0.bias"].fill(np.nan)),
    "inf in Adam's moments": lambda f: f.tensors(
        OPTIM, lambda t: t["optim.actor.net.0.bias.exp_avg"].fill(np.inf)
    ),
    "a tensor missing": lambda f: f.tensors(NETWORKS, lambda t: t.pop("actor.net.0.bias")),
    "a tensor too many": lambda f: f.tensors(NETWORKS, lambda t: t.update(extra=np.zeros(3, np.float32))),
    "no tensor": lambda f: f.tensors(NETWORKS, lambda t: t.clear()),
    "a shape that fits another net": lambda f: f.tensors(
        NETWORKS, lambda t: t.update({"actor.net.0.weight": np.zeros((3, 17), np.float32)})
    ),
    "a transposed shape": lambda f: f.tensors(
        NETWORKS, lambda t: t.update({"actor.net.0.weight": np.ascontiguousarray(t["actor.net.0.weight"].T)})
    ),
    "a tensor with a nasty name": lambda f: f.tensors(
        NETWORKS, lambda t: t.update({NASTY: np.zeros(1, np.float32)})
    ),
    "a tensor with a name of 1 MB": lambda f: f.tensors(
        NETWORKS, lambda t: t.update({"a" * 10**6: np.zeros(1, np.float32)})
    ),
    "noise of another width": lambda f: f.tensors(
        OPTIM, lambda t: t.update({"optim.noise": np.zeros((2, 5), np.float32)})
    ),
    "noise of another number of environments": lambda f: f.tensors(
        OPTIM, lambda t: t.update({"optim.noise": np.zeros((3, 2), np.float32)})
    ),
    "noise of integers": lambda f: f.tensors(
        OPTIM, lambda t: t.update({"optim.noise": np.zeros((2, 2), np.int64)})
    ),
    "noise of no dimension": lambda f: f.tensors(
        OPTIM, lambda t: t.update({"optim.noise": np.zeros((), np.float32)})
    ),
    "no noise": lambda f: f.tensors(OPTIM, lambda t: t.pop("optim.noise")),
    "a rollout in a replay's place": lambda f: f.tensors(
        OPTIM, lambda t: t.update({"optim.rollout": np.zeros((2, 11), np.float32)})
    ),
    "a random state of another size": lambda f: f.tensors(
        OPTIM, lambda t: t.update({"optim.random.update": np.zeros(7, np.uint8)})
    ),
    "a random state of noise": lambda f: f.tensors(OPTIM, lambda t: t["optim.random.update"].fill(0xA5)),
    "a random state of floats": lambda f: f.tensors(
        OPTIM, lambda t: t.update({"optim.random.update": np.zeros(5056, np.float32)})
    ),
    # JSON.
    "state nested": lambda f: f.put(STATE, DEEP),
    "manifest nested": lambda f: f.path("CKPT/manifest.json").write_bytes(DEEP),
    "config nested": lambda f: f.path("config.json").write_bytes(DEEP_OBJECT),
    "state nested just too deep": lambda f: f.put(STATE, b"[" * 33 + b"]" * 33),
    "state with a key twice": lambda f: f.put(
        STATE, f.path(f"CKPT/{STATE}").read_bytes().replace(b"{", b'{"updates": 1,', 1)
    ),
    "manifest with a key twice": lambda f: f.path("CKPT/manifest.json").write_bytes(
        f.path("CKPT/manifest.json").read_bytes().replace(b"{", b'{"step": 1,', 1)
    ),
    "state with NaN": lambda f: f.put(STATE, f.path(f"CKPT/{STATE}").read_bytes().replace(b"false", b"NaN", 1)),
    "state with 1e999": lambda f: f.put(
        STATE, f.path(f"CKPT/{STATE}").read_bytes().replace(b"false", b"1e999", 1)
    ),
    "state with 10^5000": lambda f: f.put(
        STATE, f.path(f"CKPT/{STATE}").read_bytes().replace(b"false", b"1" * 5000, 1)
    ),
    "state not UTF-8": lambda f: f.put(STATE, b'{"a": "\xff"}'),
    "state a list": lambda f: f.put(STATE, b"[1, 2]"),
    "state null": lambda f: f.put(STATE, b"null"),
    "manifest null": lambda f: f.path("CKPT/manifest.json").write_bytes(b"null"),
    "manifest of 9 MB": lambda f: f.path("CKPT/manifest.json").write_bytes(b" " * 9 * 2**20 + b"{}"),
    "config of 2 MB": lambda f: f.path("config.json").write_bytes(b" " * 2 * 2**20 + b"{}"),
    "config a list": lambda f: f.path("config.json").write_bytes(b"[]"),
    "config empty": lambda f: f.path("config.json").write_bytes(b""),
    # Names and numbers in the manifest.
    "files by another path": lambda f: f.manifest(
        lambda m: m.update(files={f"../../outside/{n}": e for n, e in m["files"].items()})
    ),
    "files by absolute path": lambda f: f.manifest(
        lambda m: m.update(files={f"/etc/{n}": e for n, e in m["files"].items()})
    ),
    "no files": lambda f: f.manifest(lambda m: m.update(files={})),
    "files a list": lambda f: f.manifest(lambda m: m.update(files=["networks.safetensors"])),
    "size negative": lambda f: f.manifest(lambda m: m["files"][NETWORKS].update(size=-1)),
    "size of 1 TB": lambda f: f.manifest(lambda m: m["files"][NETWORKS].update(size=2**40)),
    "size a text": lambda f: f.manifest(lambda m: m["files"][NETWORKS].update(size="many")),
    "hash a number": lambda f: f.manifest(lambda m: m["files"][NETWORKS].update(sha256=0)),
    "step a text": lambda f: f.manifest(lambda m: m.update(step=NASTY)),
    "step of another checkpoint": lambda f: f.manifest(lambda m: m.update(step=7)),
    "format of the future": lambda f: f.manifest(lambda m: m.update(format="softac-checkpoint-99" + NASTY)),
    "segment up the path": in_segment(sha256="../../../../outside/x"),
    "segment with a null": in_segment(sha256="\0"),
    "segment start negative": in_segment(start=-1),
    "segment start huge": in_segment(start=0, stop=10**300),
    "segment a list": lambda f: f.manifest(lambda m: m.update(segments=[["a"]])),
    "segments a number": lambda f: f.manifest(lambda m: m.update(segments=5)),
    "one segment ten thousand times": lambda f: f.manifest(
        lambda m: m.update(segments=m["segments"][:1] * 10_000)
    ),
    "segments missing": lambda f: f.manifest(lambda m: m.update(segments=[])),
    "a gap between segments": lambda f: f.manifest(lambda m: m["segments"].pop(1)),
    # Links, devices, pipes.
    "networks a link": lambda f: f.link(f"CKPT/{NETWORKS}", shutil.copy(f.path(f"CKPT/{NETWORKS}"), f.outside)),
    "config a link": lambda f: f.link("config.json", shutil.copy(f.path("config.json"), f.outside)),
    "manifest a link to a device": lambda f: f.link("CKPT/manifest.json", "/dev/zero"),
    "config a link to a device": lambda f: f.link("config.json", "/dev/zero"),
    "networks a link to a device": lambda f: f.link(f"CKPT/{NETWORKS}", "/dev/zero"),
    "config a pipe": lambda f: os.mkfifo(f.clear("config.json")),
    "manifest a pipe": lambda f: os.mkfifo(f.clear("CKPT/manifest.json")),
    "networks a pipe": lambda f: os.mkfifo(f.clear(f"CKPT/{NETWORKS}")),
    "segment a pipe": lambda f: os.mkfifo(f.clear("replay/SEG")),
    "segment a link": lambda f: f.link("replay/SEG", shutil.copy(f.path("replay/SEG"), f.outside)),
    "config a folder": lambda f: f.clear("config.json").mkdir(),
    "checkpoints a link": lambda f: f.link("checkpoints", shutil.copytree(f.run / "checkpoints", f.outside / "c")),
    "replay a link": lambda f: f.link("replay", shutil.copytree(f.run / "replay", f.outside / "r")),
    "best a link": lambda f: f.link("best", f.outside),
    "crash a link": lambda f: f.link("crash", f.outside),
    "lock a link": lambda f: f.link(".lock", f.outside / "precious"),
    # The description of the run.
    "env os:system": in_config("env", id="os:system"),
    "env of a package": in_config("env", id="antigravity:Env-v0"),
    "env of a submodule": in_config("env", id="xml.dom.minidom:Env-v0"),
    "env with a nasty name": in_config("env", id=NASTY),
    "env with a name of 100 kB": in_config("env", id="x" * 100_000),
    "env with a null": in_config("env", id="Pendulum\0-v1"),
    "env a number": in_config("env", id=5),
    "env arguments a text": in_config("env", kwargs="render"),
    "env arguments unknown": in_config("env", kwargs={"entry_point": "os:system", NASTY: 1}),
    "env arguments of Gymnasium": in_config("env", kwargs={"id": "os:system", "vectorization_mode": "os:system"}),
    "algorithm os:system": lambda f: f.config(lambda c: c.update(algorithm="os:system")),
    "algorithm with a nasty name": lambda f: f.config(lambda c: c.update(algorithm=NASTY)),
    "hyperparameter unknown": in_config("hyperparameters", _target_="os.system"),
    "hyperparameter a text": in_config("hyperparameters", learning_rate="__import__('os')"),
    "hyperparameter a text of 1 MB": in_config("hyperparameters", ent_coef="a" * 900_000),
    "network of 17 GB": in_config("hyperparameters", net_arch=[16384] * 16),
    "network of other widths": in_config("hyperparameters", net_arch=[16, 15]),
    "more critics": in_config("hyperparameters", n_critics=64),
    "replay of 1e12 rows": in_config("hyperparameters", buffer_size=10**12),
    "a billion threads": in_config("run", threads=10**9),
    "minus one thread": in_config("run", threads=-1),
    "threads 1e999": lambda f: f.path("config.json").write_bytes(
        f.path("config.json").read_bytes().replace(b'"threads": 1', b'"threads": 1e999')
    ),
    "a billion environments": in_config("run", n_envs=10**9),
    "other environments": in_config("run", n_envs=3),
    "trust": in_config("run", trust_module=True),
    "device unknown": in_config("run", device="os:system"),
    "seed huge": in_config("run", seed=10**30),
    "run a list": lambda f: f.config(lambda c: c.update(run=[])),
    "env missing": lambda f: f.config(lambda c: c.pop("env")),
    "format of another program": lambda f: f.config(lambda c: c.update(format="other")),
    "space of 1 TB": observation_space(box(shape=[2**38])),
    "space whose shape overflows": observation_space(box(shape=[2**32, 2**32])),
    "space of a negative shape": observation_space(box(shape=[-3])),
    "space of objects": observation_space(box(dtype="O")),
    "space of a nasty type": observation_space(box(dtype=NASTY)),
    "space with nan bounds": observation_space(box(low=["nan"])),
    "space without a kind": observation_space({}),
    "space of a kind that imports": observation_space({"kind": "os:system"}),
    "space a text": observation_space("Box"),
    "space nested": observation_space(wide(12)),
    "space of 1e15 categories": observation_space({"kind": "Discrete", "n": 10**15, "start": 0}),
    "space of another environment": observation_space(box(shape=[4])),
    "space with a nasty key": observation_space({"kind": "Dict", "parts": {NASTY: box()}}),
    "action space of 1e9 numbers": lambda f: f.config(
        lambda c: c["env"]["spaces"].update(action=box(shape=[10**9]))
    ),
    "metrics of 8 GB": lambda f: os.truncate(f.path("metrics.jsonl"), 2**33),
    # The counters and episodes.
    "steps negative": collector(steps=-1),
    "steps of another checkpoint": collector(steps=10**15),
    "cursor beyond": collector(cursor=5),
    "cursor a text": collector(cursor="here"),
    "recent returns a number": collector(recent=5),
    "recent returns of three": collector(recent=[[1, 2, 3]]),
    "recent returns of four": collector(recent=[[1, 2, True, 4]]),
    "actions of another shape": collector(actions=[[0.0] * 3]),
    "actions beyond": collector(actions=[[1e300, 0.0], [0.0, 0.0]]),
    "actions beyond float64": lambda f: f.put(
        STATE,
        f.path(f"CKPT/{STATE}").read_bytes().replace(b'"actions": [', b'"actions": [' + b"9" * 400 + b", ", 1),
    ),
    "actions a text": collector(actions=NASTY),
    "no episodes": collector(episodes=[]),
    "too many episodes": collector(episodes=[{"index": 0, "length": 0, "obs_sha256": ""}] * 1000),
    "episode of a negative index": episode(index=-1),
    "episode of a negative length": episode(length=-1),
    "episode too long": episode(length=10**12),
    "episode a text": collector(episodes="ab"),
    "collector missing": lambda f: f.state(lambda s: s.pop("collector")),
    "updates negative": lambda f: f.state(lambda s: s.update(updates=-(10**12))),
    "updates that no steps called for": lambda f: f.state(lambda s: s.update(updates=10**12)),
    "updates a list": lambda f: f.state(lambda s: s.update(updates=[])),
    "rows added huge": lambda f: f.state(lambda s: s.update(rows_added=10**12)),
    "rows added negative": lambda f: f.state(lambda s: s.update(rows_added=-5)),
    "means a text": lambda f: f.state(lambda s: s.update(means=NASTY)),
    "means that are not summed": lambda f: f.state(lambda s: s["means"].append({"name": "a", "count": 1})),
    "means of one name twice": lambda f: f.state(lambda s: s["means"][1].update(name=s["means"][0]["name"])),
    "means of nothing": lambda f: f.state(lambda s: s["means"][0].update(count=0)),
}

HARMLESS: dict[str, Callable[[Forgery], Any]] = {
    "nothing": lambda f: None,
    "files with other names beside": lambda f: f.manifest(lambda m: m["files"].update({"../evil": {}, NASTY: 1})),
    "a fingerprint of nonsense": lambda f: f.manifest(lambda m: m.update(fingerprint={"torch": NASTY, "cpu": []})),
    "a checkpoint with a nasty name": lambda f: (f.run / "checkpoints" / f"step-{NASTY}").mkdir(),
    "a checkpoint that is a pipe": lambda f: os.mkfifo(f.run / "checkpoints" / "step-999999999"),
    "metrics not UTF-8": lambda f: f.path("metrics.jsonl").write_bytes(b'\xff\xfe\n{"step": 1}\n'),
    "metrics nested": lambda f: f.path("metrics.jsonl").write_bytes(DEEP + b"\n"),
    "metrics with returns of nonsense": lambda f: f.path("metrics.jsonl").write_text(
        '{"step": 1, "eval/returns": 5}\n{"step": true}\n[]\n{"step": 2, "eval/returns": [[], {}]}\n'
    ),
    "metrics with half a character": lambda f: f.path("metrics.jsonl").write_text(
        '{"step": 1, "\\ud800": 1}\n{"step": 2, "a": "\\udfff"}\n'
    ),
    "metrics with a line of 64 MB": lambda f: os.truncate(f.path("metrics.jsonl"), 2**26),
    "metrics a pipe": lambda f: os.mkfifo(f.clear("metrics.jsonl")),
    "metrics a link to a device": lambda f: f.link("metrics.jsonl", "/dev/zero"),
    "metrics a link": lambda f: f.link("metrics.jsonl", f.outside / "precious"),
    "aside of metrics a link": lambda f: f.link(".tmp-metrics.jsonl", f.outside / "precious"),
    "aside of config a link": lambda f: f.link(".tmp-config.json", f.outside / "precious"),
    "aside of config a pipe": lambda f: os.mkfifo(f.run / ".tmp-config.json"),
    "progress a link": lambda f: f.link("progress.csv", f.outside / "precious"),
    "aside of a checkpoint a link": lambda f: f.link(f"checkpoints/.tmp-{os.getpid()}", f.outside),
    "lock a pipe": lambda f: os.mkfifo(f.run / ".lock"),
    "score a pipe": lambda f: os.mkfifo(f.clear("best/score.json")),
    "score nonsense": lambda f: f.path("best/score.json").write_text('{"mean_reward": []}'),
    "score nested": lambda f: f.path("best/score.json").write_bytes(DEEP),
    "aside of the score a link": lambda f: f.link("best/.tmp-score.json", f.outside / "precious"),
}


@pytest.fixture(scope="module")
def alarm() -> Alarm:
    return Alarm()


@pytest.fixture(scope="module")
def original(alarm: Alarm) -> Iterator[Path]:
    with memory_folder() as folder:
        tiny(n_envs=2).learn(101, run_dir=folder / "run", eval_freq=60, n_eval_episodes=1, save_freq=45)
        # One checkpoint only: nothing to fall back to. And what is imported late, is imported now.
        shutil.rmtree(folder / "run/checkpoints/step-000000090")
        shutil.copytree(folder / "run", folder / "warm-up")
        use(folder / "warm-up")
        yield folder / "run"


def use(run: Path) -> None:
    """Load a run with everything in it, act, and go on with it."""
    model = SAC.load(run, verify_replay=True)
    model.predict(np.zeros(3, np.float32))
    model.learn(2, run_dir=run, n_eval_episodes=1, eval_freq=1, save_freq=0)


@pytest.fixture
def forgery(original: Path) -> Iterator[Forgery]:
    with memory_folder() as folder:
        forgery = Forgery(Path(shutil.copytree(original, folder / "run")))
        (forgery.outside / "precious").write_text("precious")
        yield forgery


def used(forgery: Forgery, alarm: Alarm) -> BaseException | None:
    """Use the run; the error it ends in. Asserts what must hold in any case."""
    before = {p: p.read_bytes() for p in forgery.outside.rglob("*") if p.is_file()}
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            use(forgery.run)
        except Exception as error:
            caught.append(error)

    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    heard = alarm.listen(attempt)
    assert time.process_time() - began <= SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak <= MEGABYTES * 1000
    assert heard == []
    assert {p: p.read_bytes() for p in forgery.outside.rglob("*") if p.is_file()} == before
    return caught[0] if caught else None


def test_the_alarm_works(alarm: Alarm, original: Path, tmp_path: Path) -> None:
    data = pickle.dumps(Payload(tmp_path / "canary"))
    heard = alarm.listen(lambda: pickle.loads(data))  # noqa: S301 - what softac never does
    assert any(event.startswith("os.system") for event in heard)
    assert any(event.startswith("pickle.find_class") for event in heard)
    assert (tmp_path / "canary").exists()
    sys.modules.pop("colorsys", None)
    assert any(event.startswith("import ('colorsys'") for event in alarm.listen(lambda: __import__("colorsys")))
    assert alarm.listen(lambda: exec("1"))  # noqa: S102
    assert alarm.listen(lambda: None) == []


def test_there_are_many() -> None:
    assert len(REFUSED) >= 40
    assert len(HARMLESS) >= 10


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, forgery: Forgery, alarm: Alarm) -> None:
    REFUSED[name](forgery)
    error = used(forgery, alarm)
    assert isinstance(error, CheckpointError | ConfigError), repr(error)
    text = str(error)
    assert text.isprintable()
    assert len(text) <= 2_000
    assert "expected" in text
    assert re.search(r"; (?!expected)[^;]+$", text), f"it does not say what to do: {text}"


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(name: str, forgery: Forgery, alarm: Alarm, caplog: pytest.LogCaptureFixture) -> None:
    HARMLESS[name](forgery)
    assert used(forgery, alarm) is None
    assert all(message.isprintable() for message in caplog.messages)
