"""Agents on the Hugging Face hub: pushed by an allow-list in one commit, pulled as a stranger's folder."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from softac.agents.make import make_agent, require_served
from softac.agents.registry import find_agent
from softac.errors import CheckpointError, ConfigError, DiskError, SoftacError, one_line
from softac.files import exists, read_hashed, read_regular, remove, sync_folder
from softac.learning.state import load_state_, state_of
from softac.report.plots import learning_curves, save_figure
from softac.report.results import read_result
from softac.run.checkpoint import (
    JSON_LIMIT,
    MANIFEST,
    OPTIM_PREFIX,
    Snapshot,
    parse_json,
    write_checkpoint,
)
from softac.run.folder import CHECKPOINTS, CONFIG, REPLAY
from softac.run.metrics import METRICS, read_rows
from softac.run.names import ACTIONS, NETWORKS, OPTIM, STATE
from softac.run.numerics import single_precision
from softac.run.stored import Description, require_fitting
from softac.ship.card import CURVE, FILM, model_card
from softac.types import Agent

CARD = "README.md"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
STEP = r"checkpoints/step-\d{9,15}(?:\.\d{3,9})?/"
KEPT = r"(?:manifest\.json|networks\.safetensors|optim\.safetensors|state\.json|episode_actions\.npy)"
ACTING = re.compile(rf"config\.json|metrics\.jsonl|imported\.json|{STEP}{KEPT}", re.ASCII)
WHOLE = re.compile(rf"{ACTING.pattern}|replay/seg-\d+-\d+-[0-9a-f]{{16}}\.npy", re.ASCII)
MOST_BYTES, MOST_BYTES_WHOLE, MOST_FILES = 2**30, 2**35, 10_000


@dataclass(frozen=True)
class Shared:
    """What was pushed or pulled.

    Attributes:
        repository: USER/NAME.
        revision: the commit, which never changes.
        step: environment steps the agent has made.
        files: of the repository, that came or went.
    """

    repository: str
    revision: str
    step: int
    files: tuple[str, ...]


def push(
    run: Path,
    repository: str,
    *,
    best: bool = False,
    whole: bool = False,
    public: bool = False,
    film: Path | None = None,
) -> Shared:
    """Push the agent of a run: configuration, networks, metrics, card and curve, in one commit.

    Args:
        run: the folder of a run or a saved model.
        repository: USER/NAME; made if it does not exist.
        best: the agent of the best evaluation, not the last checkpoint.
        whole: with optimiser and replay, so that it can go on learning.
        public: for everybody to see; only asked for when the repository is made.
        film: an `.mp4` for the card.

    Raises:
        CheckpointError: the run has no checkpoint that verifies.
        ConfigError: the hub refuses, cannot be reached, or its package is missing.
    """
    _require_name(repository)
    _require_film(film)
    if best and whole:
        raise ConfigError(
            "best and whole were both given", "expected one", "the best agent has no optimiser to share"
        )
    hub = _hub()
    described = Description.read(run, find_agent)
    snapshot, _ = described.newest(best=best, verify_replay=whole)
    with tempfile.TemporaryDirectory() as aside, _told():
        folder = Path(aside)
        _assemble(run, folder, described, snapshot, repository, whole=whole, film=film)
        files = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
        api = hub.HfApi()
        api.create_repo(repository, private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=f"softac: step {snapshot.step}",
            delete_patterns=["checkpoints/*", "replay/*"],  # of an earlier push; its commit still has them
        )
    return Shared(repository, str(commit.oid), snapshot.step, files)


def _assemble(
    run: Path,
    folder: Path,
    described: Description,
    snapshot: Snapshot,
    repository: str,
    *,
    whole: bool,
    film: Path | None,
) -> None:
    """Put what may be shared, and nothing else, into an empty folder."""
    for name in (CONFIG, METRICS, "imported.json"):
        if exists(run / name):
            (folder / name).write_bytes(read_regular(run / name, MOST_BYTES))
    if whole:
        _copy_whole(run, folder, snapshot)
    else:
        networks = {name: t for name, t in snapshot.tensors.items() if not name.startswith(OPTIM_PREFIX)}
        no_actions = np.zeros((0, described.spaces.spec.action_dim), np.float32)
        write_checkpoint(
            folder / CHECKPOINTS, Snapshot(snapshot.step, networks, {}, no_actions, []), described.sha256
        )
    result = read_result(run)
    if result.returns:
        save_figure(learning_curves([result]), folder / CURVE)
    if film is not None:
        shutil.copyfile(film, folder / FILM)
    card = model_card(result, read_rows(run / METRICS), repository, snapshot.step, film is not None)
    (folder / CARD).write_text(card, encoding="utf-8")


def _copy_whole(run: Path, folder: Path, snapshot: Snapshot) -> None:
    """A checkpoint and its replay: the bytes that were written, and nothing else that lies beside them."""
    assert snapshot.path is not None  # noqa: S101 - for the type checker; it was read from there
    there = folder / CHECKPOINTS / snapshot.path.name
    there.mkdir(parents=True)
    data = read_regular(snapshot.path / MANIFEST, JSON_LIMIT)
    (there / MANIFEST).write_bytes(data)
    listed = parse_json(data, snapshot.path / MANIFEST)["files"]
    for name in (NETWORKS, OPTIM, STATE, ACTIONS):
        if name in listed:
            size, sha256 = int(listed[name]["size"]), str(listed[name]["sha256"])
            (there / name).write_bytes(read_hashed(snapshot.path / name, size, sha256))
    for segment in snapshot.segments:
        (folder / REPLAY).mkdir(exist_ok=True)
        kept = read_hashed(run / REPLAY / segment.file_name, segment.size, segment.sha256)
        (folder / REPLAY / segment.file_name).write_bytes(kept)


def pull(repository: str, folder: Path, *, revision: str | None = None, whole: bool = False) -> Shared:
    """Pull an agent into a new folder, where it is there whole and checked or not at all.

    Args:
        repository: USER/NAME.
        folder: a new one.
        revision: a commit, branch or tag; None: the newest. It is pinned to its commit before anything is read.
        whole: the replay as well, if it was pushed; without it the agent can act and not go on learning.

    Raises:
        CheckpointError: it is no softac agent, or damaged or hostile.
        ConfigError: the hub refuses, cannot be reached, or its package is missing; or the folder exists.
        DiskError: it cannot be written.
    """
    _require_name(repository)
    if exists(folder):
        raise ConfigError(f"{folder} exists", "expected a new folder", "choose another with --run-dir")
    hub = _hub()
    with _told():
        info = hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
        names = _allowed(info.siblings or [], repository, whole=whole)
    aside = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    try:
        remove(aside)
        (aside / "down").mkdir(parents=True)
        with _told():
            for name in names:
                hub.hf_hub_download(repository, name, revision=info.sha, local_dir=aside / "down")
        made = aside / "run"
        for name in names:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / "down" / name).rename(made / name)
        step = require_sound(made, whole=whole)
        made.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise DiskError(
            f"{folder} cannot be written ({error.strerror or one_line(str(error), 100)})",
            "expected a disk that takes it",
            "free some space or choose another folder with --run-dir",
        ) from None
    finally:
        remove(aside)
    return Shared(repository, str(info.sha), step, tuple(names))


def require_sound(folder: Path, *, whole: bool) -> int:
    """Read a folder as a stranger's: what it says, its networks, that they fit; returns its step.

    No environment is made. What the folder asks for is not executed.

    Raises:
        CheckpointError: something in it cannot be what softac wrote.
    """
    described = Description.read(folder, find_agent)
    snapshot, _ = described.newest(best=False, verify_replay=whole)
    described.require_as_large(snapshot)
    agent = _first_agent(described)
    own = {name: tensor for name, tensor in state_of(agent).items() if name.startswith(OPTIM_PREFIX)}
    networks = {name: t for name, t in snapshot.tensors.items() if not name.startswith(OPTIM_PREFIX)}
    load_state_(agent, own | networks)
    return int(snapshot.step)


def _first_agent(described: Description) -> Agent:
    """The agent that a folder describes, with its first weights."""
    if described.run.encoder == "own":
        raise CheckpointError(
            "it reads images with an encoder of its author's own, which no folder holds",
            "expected one of softac's, with which its networks can be checked",
            "load its files by hand if you trust them, and pass encoder= to Model.load",
        )
    made: dict[str, Any] = {"generator": torch.Generator(), "device": torch.device("cpu")}
    kind, config, run = described.agent_class, described.hyperparameters, described.run
    try:
        require_served(kind, described.spaces.spec, described.env_id)
        require_fitting(kind, run, described.spec)
        with single_precision():
            return make_agent(kind, described.spec, config, **made, precision=run.precision)
    except ConfigError as error:
        raise CheckpointError(
            f"{described.path / CONFIG} cannot be used ({error.given})",
            "expected what softac wrote",
            "restore the file",
        ) from None


def _allowed(siblings: Iterable[Any], repository: str, *, whole: bool) -> list[str]:
    """The files that may come, in an order; refuses what is too much before anything is loaded."""
    pattern, most = (WHOLE, MOST_BYTES_WHOLE) if whole else (ACTING, MOST_BYTES)
    sizes = {str(s.rfilename): int(s.size or 0) for s in siblings if pattern.fullmatch(str(s.rfilename))}
    if CONFIG not in sizes:
        raise CheckpointError(
            f"{repository} holds no {CONFIG}",
            "expected an agent that `softac push` has pushed",
            "policies of Stable-Baselines3 come with `softac import`",
        )
    if sum(sizes.values()) > most or len(sizes) > MOST_FILES:
        raise CheckpointError(
            f"{repository} has {len(sizes)} files of {sum(sizes.values()) / 1e9:.1f} GB to load",
            f"expected at most {MOST_FILES} of {most / 1e9:.1f} GB",
            "load it by hand if you trust it",
        )
    return sorted(sizes)


def _require_name(repository: str) -> None:
    if not REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise ConfigError(
            f"{one_line(repository, 100)!r} was given", "expected USER/NAME", "write for instance ada/pendulum-sac"
        )


def _require_film(film: Path | None) -> None:
    if film is not None and (film.suffix != ".mp4" or not film.is_file()):
        raise ConfigError(
            f"{film} was given as a film", "expected an .mp4", "`softac enjoy RUN --video FILE.mp4` makes one"
        )


def _hub() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        return import_module("huggingface_hub")
    except ModuleNotFoundError:
        raise ConfigError(
            "huggingface_hub is not installed", "expected it for the hub", "pip install 'softac[hub]'"
        ) from None


@contextmanager
def _told() -> Iterator[None]:
    """What the hub or the way to it refuses, in one line."""
    errors, where = (
        import_module("huggingface_hub.errors"),
        os.environ.get("HF_ENDPOINT", "https://huggingface.co"),
    )
    try:
        yield
    except SoftacError:
        raise
    except errors.LocalTokenNotFoundError:
        raise ConfigError("there is no token for the hub", "expected one", "`hf auth login` stores one") from None
    except errors.OfflineModeIsEnabled:
        raise ConfigError("HF_HUB_OFFLINE is set", "expected a way to the hub", "unset it") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.GatedRepoError) as error:
        raise ConfigError(
            one_line(str(error).partition("\n")[0], 200),
            "expected a repository that you may use",
            "check its name and revision; `hf auth login` stores a token",
        ) from None
    except errors.HfHubHTTPError as error:
        raise ConfigError(
            f"the hub refused ({one_line(str(error), 200)})",
            "expected it to answer",
            "try again, or `hf auth login`",
        ) from None
    except Exception as error:  # of the library below it, whatever that is
        of_the_disk = isinstance(error, OSError) and not isinstance(
            error, ConnectionError | TimeoutError | errors.LocalEntryNotFoundError
        )
        if of_the_disk:
            raise
        raise ConfigError(
            f"the hub at {where} cannot be reached ({one_line(f'{type(error).__name__}: {error}', 160)})",
            "expected a network connection",
            "try again, or set HF_ENDPOINT",
        ) from None
