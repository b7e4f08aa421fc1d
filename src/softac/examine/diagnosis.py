"""The doctor: is the installation sound, are a run's files whole, and does it learn as it should?"""

import math
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from softac._version import __version__
from softac.agents.sac import SACAgent, SACConfig
from softac.config import make_config
from softac.envs import EnvFault, InProcessVectorEnv
from softac.envs.rendering import EGL_PACKAGES, has_display, has_egl
from softac.envs.video import find_ffmpeg
from softac.errors import CheckpointError, ConfigError, EnvironmentFailed
from softac.examine.findings import Finding
from softac.files import read_hashed
from softac.learning.engine import what_compiling_lacks
from softac.model import Model
from softac.replay.ring import available_memory
from softac.report.results import label
from softac.run.checkpoint import Snapshot, checkpoints, read_checkpoint, read_newest, write_checkpoint
from softac.run.folder import BEST, CHECKPOINTS, LOCK, REPLAY, config_sha256, read_config
from softac.run.metrics import METRICS, read_rows
from softac.run.numerics import numerics
from softac.run.seeding import Purpose, derive_seed, generator
from softac.types import EnvSpec, Moment, Transition

Rows = list[dict[str, Any]]

OLDEST = {"torch": "2.10", "numpy": "2.0", "gymnasium": "1.1", "mujoco": "3.3.6"}
LITTLE_MEMORY = 2e9
SATURATED, VERY_SATURATED = 0.7, 0.9
FAR = 100.0  # two orders of magnitude
COLD = 1e-6  # a temperature that is as good as zero
EPISODES, LONGEST = 5, 2_000  # for the comparison of Q with what follows
MOST_BOOTSTRAP = 0.25

# --------------------------------------------------------------------------- the installation


def installation() -> Iterator[Finding]:
    """Versions, processor, memory and what films need."""
    yield from _versions()
    yield _processor()
    yield _cuda()
    if missing := what_compiling_lacks():
        yield Finding("note", missing, "install it", "updates are executed eagerly, which is slower")
    else:
        yield Finding("ok", "updates can be compiled: C++ compiler and Python's headers are there")
    free = available_memory()
    if free < LITTLE_MEMORY:
        yield Finding(
            "note",
            f"only {free / 1e9:.1f} GB of memory are free",
            "close other programs, or lower --buffer-size",
            "the replay of a long run on a large task takes one or two",
        )
    else:
        yield Finding("ok", f"memory: {free / 1e9:.1f} GB free")
    yield from _films()


def _versions() -> Iterator[Finding]:
    found = {name: _version(name) for name in OLDEST}
    words = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    old = [f"{n} {v}" for n, v in found.items() if v is not None and _release(v) < _release(OLDEST[n])]
    missing = [name for name, number in found.items() if number is None]
    if missing or old:
        wanted = ", ".join(f"{name}>={number}" for name, number in OLDEST.items())
        yield Finding(
            "problem",
            f"{' and '.join([*(f'{m} is missing' for m in missing), *(f'{o} is too old' for o in old)])}",
            f"pip install --upgrade softac (it asks for {wanted})",
            "softac is not tested with these",
            exit_code=1,
        )
    elif found["mujoco"] == "4.0.0":
        yield Finding(
            "problem",
            "mujoco 4.0.0 computes wrong accelerations for sparse models",
            "pip install 'mujoco!=4.0.0'",
            "results on MuJoCo tasks would be wrong",
            exit_code=1,
        )
    else:
        yield Finding("ok", f"softac {__version__}, Python {platform.python_version()}, {words}")


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, kind = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    what = f"processor: {cores} cores for this process, {threads} PyTorch threads, {kind}"
    if threads > cores:
        return Finding("note", what, f"export OMP_NUM_THREADS={cores}", "threads beyond the cores slow each other")
    if kind in ("DEFAULT", "NO AVX"):
        return Finding(
            "note", what, "use a processor with AVX2 if there is one", "PyTorch is several times slower without"
        )
    return Finding("ok", what)


def _cuda() -> Finding:
    if torch.cuda.is_available():
        return Finding("ok", f"GPU: {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")
    if torch.version.cuda is not None:
        return Finding(
            "note",
            f"this PyTorch is built for CUDA {torch.version.cuda} and finds no GPU",
            "see that `nvidia-smi` works, or ignore it to train on the CPU",
            "training runs on the CPU",
        )
    return Finding("ok", "no GPU: training runs on the CPU")


def _films() -> Iterator[Finding]:
    if ffmpeg := find_ffmpeg():
        yield Finding("ok", f"films: .mp4 with {ffmpeg}, and .gif")
    else:
        yield Finding(
            "note",
            "films: .gif only, since there is no ffmpeg",
            "apt install ffmpeg, or pip install imageio-ffmpeg",
        )
    if has_display() or has_egl():
        yield Finding("ok", "drawing: with a display" if has_display() else "drawing: no display, MuJoCo with EGL")
    else:
        yield Finding(
            "note",
            "drawing: neither a display nor EGL",
            EGL_PACKAGES,
            "MuJoCo tasks can be trained on but not filmed",
        )


def self_test() -> Iterator[Finding]:
    """One update made twice, and one checkpoint written and read, in a folder that is then deleted."""
    first, second = _one_update(), _one_update()
    if different := [name for name in first if not torch.equal(first[name], second[name])]:
        yield Finding(
            "problem",
            f"the same update made twice gave different bits ({different[0]})",
            "export OMP_NUM_THREADS=1 and try again; if that does not help, reinstall PyTorch or test the memory",
            "no result here can be repeated",
            exit_code=1,
        )
    else:
        yield Finding("ok", "the same update made twice gives the same bits")
    try:
        with tempfile.TemporaryDirectory(prefix="softac-") as folder:
            snapshot = Snapshot(1, first, {"steps": 1}, np.zeros((0, 1), np.float32), [])
            write_checkpoint(Path(folder), snapshot, "self-test")
            again, _ = read_newest(Path(folder), "self-test", 1)
            whole = again.tensors.keys() == first.keys() and all(
                torch.equal(again.tensors[name], first[name]) for name in first
            )
        fault = "" if whole else "what was read is not what was written"
    except (OSError, CheckpointError) as error:
        fault = str(error)
    if fault:
        yield Finding(
            "problem",
            f"a checkpoint in {tempfile.gettempdir()} cannot be written and read again ({fault})",
            "see that the disk has space and is sound (df, dmesg)",
            "a run could not be saved",
            exit_code=1,
        )
    else:
        yield Finding("ok", "a checkpoint can be written, and verifies")


def _one_update() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    with numerics(torch.get_num_threads()):
        agent = SACAgent(EnvSpec(3, 1), SACConfig(net_arch=(16, 16)), generator=draw, device=torch.device("cpu"))
        obs, next_obs = (torch.randn(32, 3, generator=draw) for _ in range(2))
        action, reward = torch.rand(32, 1, generator=draw) * 2 - 1, torch.randn(32, generator=draw)
        batch = Transition(obs, action, reward, torch.full((32,), 0.99), next_obs)
        agent.update_(batch, agent.update_noise(32, draw))
        return agent.state_dict()


# --------------------------------------------------------------------------- the files of a run


def files(path: Path) -> Iterator[Finding]:
    """What a run folder holds, how far the run got, and whether its files are whole.

    Raises:
        CheckpointError: there is no readable config.json.
    """
    config = read_config(path)
    yield Finding("ok", f"run: {label(config)} on {config['env']['id']}, seed {config['run']['seed']}")
    if busy := in_use(path):
        yield Finding("ok", "another process is at work on it now")
    rows = read_rows(path / METRICS)
    reached = max((row["step"] for row in rows), default=0)
    if planned := int(config.get("total_timesteps", 0)):
        ending = "" if reached >= planned or busy else f"; go on with: softac resume {path}"
        yield Finding("ok", f"progress: {reached:,} of {planned:,} steps logged{ending}")
    good = 0
    width = action_dim(config)
    verified: set[str] = set()
    for folder in (CHECKPOINTS, BEST):
        for checkpoint in checkpoints(path / folder):
            try:
                snapshot = read_checkpoint(checkpoint, config_sha256(config), width)
                for segment in snapshot.segments:
                    if segment.file_name not in verified:
                        read_hashed(path / REPLAY / segment.file_name, segment.size, segment.sha256)
                        verified.add(segment.file_name)
            except CheckpointError as error:
                if not checkpoint.exists():
                    continue  # a run that goes on deletes its old ones
                name = f"{folder}/{checkpoint.name}"
                yield Finding(
                    "problem", f"{name} does not verify: {error.given}", error.remedy, error.expected, exit_code=1
                )
            else:
                good += folder == CHECKPOINTS
                rows_kept = sum(s.stop - s.start for s in snapshot.segments)
                replay = f", with {rows_kept:,} transitions of replay" if rows_kept else ""
                yield Finding("ok", f"{folder}/{checkpoint.name} verifies{replay}")
    if not good:
        yield Finding(
            "problem",
            "no checkpoint verifies" if checkpoints(path / CHECKPOINTS) else "there is no checkpoint yet",
            "wait for the first one" if busy else f"restore one, or begin again: softac resume {path}",
            "there is no agent to evaluate or to go on with",
            exit_code=3,
        )


def in_use(path: Path) -> bool:
    """Whether another process holds a run folder."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)  # lets go of the lock as well
    return False


# --------------------------------------------------------------------------- how it learns


def learning(path: Path, env: str | None = None) -> Iterator[Finding]:
    """What the metrics and the newest agent say about how well a run learns.

    A few episodes are run in an environment of their own; the run's files are only read.

    Args:
        path: a run folder. Where no checkpoint verifies, only the configuration and the metrics are judged.
        env: the environment, where config.json may not name it; as for `Model.load`.

    Raises:
        CheckpointError: there is no readable config.json.
        ConfigError: `env` does not have the run's spaces.
    """
    description = read_config(path)
    config = None
    if description["algorithm"] == "sac":
        config = make_config(SACConfig, description["hyperparameters"])
    dim = action_dim(description)
    rows = read_rows(path / METRICS)
    trained = [row for row in rows if "train/n_updates" in row]
    yield from _finite(rows)
    if not trained:
        yield Finding("ok", "no update has been logged yet")
    if config is not None:
        yield from target_entropy(config, dim)
        yield from temperature(trained, config, dim)
        yield from saturation(trained)
    yield from evaluations([row for row in rows if "eval/mean_reward" in row])
    if not trained or config is None:
        return
    try:
        model = Model.load(path, env, trust_module=env is not None)
    except CheckpointError:
        return  # `files` has said so
    with closing(model):
        yield from critics(model, trained[-1]["train/n_updates"])


def action_dim(description: dict[str, Any]) -> int:
    """How many numbers an action of a run has, from its config.json; one where it is discrete."""
    return math.prod(description["env"]["spaces"]["action"].get("shape", [1]))


def _finite(rows: Rows) -> Iterator[Finding]:
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float) and not math.isfinite(value):
                yield Finding(
                    "problem",
                    f"{name} is {value} at step {row['step']:,}",
                    "go back to a checkpoint before it with a lower --learning-rate, or scale the rewards down",
                    "nothing that is learned after this means anything",
                    exit_code=1,
                )
                return


def target_entropy(config: SACConfig, dim: int) -> Iterator[Finding]:
    """Whether the entropy asked for can be had: at most log 2 a coordinate, that of the uniform policy."""
    if not isinstance(config.ent_coef, str):
        yield Finding("ok", f"temperature: fixed at {config.ent_coef:.4g}")
        return
    target, most, automatic = _target(config, dim), dim * math.log(2.0), -float(dim)
    if target >= most:
        yield Finding(
            "problem",
            f"the target entropy {target:.4g} is out of reach: a policy in [-1, 1]^{dim} has at most "
            f"{most:.4g} nats",
            f"begin a new run with --target-entropy {automatic:g}, or auto",
            "the temperature grows without end and the policy becomes uniform",
            exit_code=1,
        )
    elif target > 0.9 * most:
        yield Finding(
            "note",
            f"the target entropy {target:.4g} is close to the {most:.4g} nats of the uniform policy",
            f"see whether --target-entropy {automatic:g} (auto) learns better",
            "hardly any policy but the uniform one is random enough",
        )
    else:
        yield Finding("ok", f"target entropy: {target:.4g} of at most {most:.4g} nats")


def _target(config: SACConfig, dim: int) -> float:
    return -float(dim) if config.target_entropy == "auto" else float(config.target_entropy)


def temperature(rows: Rows, config: SACConfig, dim: int) -> Iterator[Finding]:
    """Whether the temperature runs off: two orders of magnitude in one direction, and still going."""
    values = np.array([row["train/ent_coef"] for row in rows if "train/ent_coef" in row])
    if (
        not isinstance(config.ent_coef, str)
        or len(values) == 0
        or not np.isfinite(values).all()
        or (values <= 0).any()
    ):
        return
    entropy = [row["train/entropy"] for row in rows if "train/entropy" in row]
    now = f"the temperature is {values[-1]:.3g}"
    recent = np.diff(values[len(values) // 2 :])
    rising, falling = ((sign * recent > 0).mean() >= 0.9 if len(recent) else False for sign in (1, -1))
    lately = f"entropy {entropy[-1]:.3g}, target {_target(config, dim):.3g}" if entropy else "entropy unknown"
    if len(values) >= 5 and rising and values[-1] > FAR * values.min():
        yield Finding(
            "problem",
            f"the temperature runs off upwards: {values.min():.3g} -> {values[-1]:.3g} ({lately})",
            "lower --target-entropy (auto is -dim(A)), divide very large rewards, or fix --ent-coef",
            "the policy stays below the entropy asked for, and the bonus soon outweighs every reward",
            exit_code=1,
        )
    elif values[-1] < COLD or (len(values) >= 5 and falling and values[-1] < values.max() / FAR**2):
        yield Finding(
            "problem",
            f"the temperature has collapsed: {values.max():.3g} -> {values[-1]:.3g} ({lately})",
            "multiply tiny rewards, raise --target-entropy if it is below auto, or fix --ent-coef",
            "exploration gets no reward any more; what the policy has not tried by now it will not try",
            exit_code=1,
        )
    else:
        yield Finding("ok", f"{now} ({lately})")


def saturation(rows: Rows) -> Iterator[Finding]:
    """Whether most actions lie at the bounds."""
    shares = [row["train/saturated_actions"] for row in rows if "train/saturated_actions" in row][-5:]
    if not shares:
        return
    share = float(np.mean(shares))
    if not share > SATURATED:
        yield Finding("ok", f"actions at their bounds: {share:.0%}")
        return
    yield Finding(
        "problem" if share > VERY_SATURATED else "note",
        f"{share:.0%} of the actions lie at their bounds",
        "nothing, if full force is right; else scale observations and rewards to about 1, and lower "
        "--learning-rate",
        "tanh has no slope there, so the policy can hardly move away again",
        exit_code=1 if share > VERY_SATURATED else 0,
    )


def evaluations(rows: Rows) -> Iterator[Finding]:
    """Whether the agent lost what it had learned, and whether its mode does what its samples do."""
    rows = [r for r in rows if all(math.isfinite(v) for v in r.values() if isinstance(v, int | float))]
    if not rows:
        yield Finding("ok", "no evaluation yet")
        return
    last, n = rows[-1], max(1, len(rows[-1].get("eval/returns", [0])))
    means = np.array([row["eval/mean_reward"] for row in rows])
    error = max(row["eval/std_reward"] for row in (last, rows[int(means.argmax())])) / math.sqrt(n)
    best = rows[int(means.argmax())]
    drop, range_ = means.max() - means[-1], means.max() - means.min()
    score = f"evaluation {means[-1]:,.4g} at step {last['step']:,}"
    if len(rows) >= 3 and drop > 0.5 * range_ and drop > 3.0 * error:
        yield Finding(
            "problem",
            f"{score} has fallen from {means.max():,.4g} at step {best['step']:,}",
            "use the best agent (softac eval RUN --best); for the next run try a lower --learning-rate or another "
            "seed",
            "the last agent is far from the best one",
            exit_code=1,
        )
    else:
        yield Finding("ok", f"{score}, best {means.max():,.4g} at step {best['step']:,}")
    if "eval/stochastic_mean_reward" not in last:
        return
    sampled, spread = last["eval/stochastic_mean_reward"], last["eval/stochastic_std_reward"]
    gap = means[-1] - sampled
    noise = 3.0 * math.hypot(last["eval/std_reward"], spread) / math.sqrt(n)
    if abs(gap) <= max(noise, 0.25 * max(abs(means[-1]), abs(sampled))):
        return
    if gap > 0:
        yield Finding(
            "note",
            f"sampled actions return {sampled:,.4g}, the mode {means[-1]:,.4g}",
            "deploy the mode (the default); if training data look poor, lower --target-entropy",
            "the noise of exploration costs much of the return, so the replay holds few good episodes",
        )
    else:
        yield Finding(
            "note",
            f"the mode returns {means[-1]:,.4g}, sampled actions {sampled:,.4g}",
            "evaluate with --stochastic, and train for longer",
            "the policy relies on its noise: its mode lies between the actions that work",
        )


def critics(model: Model, updates: float) -> Iterator[Finding]:
    """Whether min_i Q_i(s, a) agrees with the soft returns that really follow."""
    agent = model.agent
    if not isinstance(agent, SACAgent):
        return
    try:
        with closing(model.source.make()) as env, numerics(model.threads):
            q, follows, episodes = soft_returns(agent, InProcessVectorEnv(lambda: env, 1))
    except (ConfigError, EnvironmentFailed, EnvFault) as error:
        yield Finding(
            "note",
            f"the critics were not compared with episodes: {error}",
            "correct the environment, or name it with --env",
        )
        return
    if len(q) == 0:
        yield Finding(
            "note",
            "the critics were not compared with episodes: with this gamma all of them are cut off too early",
            "nothing",
            "most of the value lies beyond the time limit, where only the critics know it",
        )
        return
    config = agent.config
    # What the critics say of a state follows its future after about 1 / (1 - gamma) steps, each of which takes
    # the target critics 1 / tau updates.
    young = updates * config.tau / config.target_update_interval * (1.0 - config.gamma) < 1.0
    yield judged(q, follows, episodes, young)


def judged(q: NDArray[np.float64], follows: NDArray[np.float64], episodes: int, young: bool) -> Finding:
    """The verdict on values `q` where the soft returns `follows` came out."""
    bias, spread = float((q - follows).mean()), float(follows.std())
    scale = max(spread, 0.25 * float(np.abs(follows).mean()))
    what = (
        f"Q is {q.mean():,.4g} where a soft return of {follows.mean():,.4g} follows: bias {bias:+,.3g}, spread of "
        f"the returns {spread:,.3g}, over {len(q):,} steps of {episodes} episode{'' if episodes == 1 else 's'}"
    )
    if abs(bias) <= scale:
        return Finding("ok", what)
    if young:
        return Finding(
            "note", what, "train for longer", "too early to judge: the target critics have not come round yet"
        )
    if bias < 0:
        return Finding(
            "note",
            what,
            "train for longer; if it stays, lower --n-critics",
            "the minimum over the critics is too pessimistic, or they lag behind the policy",
        )
    return Finding(
        "problem",
        what,
        "lower --learning-rate or --gradient-steps, or raise --n-critics",
        "the critics overestimate, and the actor climbs their errors instead of returns",
        exit_code=1,
    )


def soft_returns(
    agent: SACAgent, envs: InProcessVectorEnv, n_episodes: int = EPISODES
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Q and what it estimates, at the steps of some episodes of the sampling policy.

    The critics are trained towards r + gamma (1 - terminated) (Q(s', a') - alpha log pi(a'|s')), so

        Q(s_t, a_t)  ~  r_t + sum_{k > t} gamma^(k-t) (r_k - alpha log pi(a_k|s_k)):

    the entropy of a_t itself is not in it. With n-step targets the intermediate entropies are not either:
    only every n-th term after t has one. A terminated episode ends the sum; one that was cut off ends in
    gamma^(T-t) (min_i Q_i(s_T, a_T) - alpha log pi(a_T|s_T)), and steps where this takes the critics' own
    word for more than a quarter are left out.

    Args:
        agent: acts with its own noise, at its present temperature.
        envs: the first environment is used.
        n_episodes: episodes, each cut off after 2,000 steps.

    Returns:
        min_i Q_i(s, a) and the soft return, one pair a step, and the number of episodes.
    """
    gamma, n, alpha = agent.config.gamma, agent.config.n_steps, float(agent.alpha())
    noise = generator(Purpose.EVALUATION_NOISE, 0)
    q_all: list[NDArray[np.float64]] = []
    g_all: list[NDArray[np.float64]] = []
    kept = 0
    for episode in range(n_episodes):
        obs = envs.reset(0, derive_seed(Purpose.EVALUATION_EPISODE, 0, episode))
        rewards: list[float] = []
        bonuses: list[float] = []
        values: list[float] = []
        terminated = truncated = False
        while True:
            s = torch.from_numpy(obs)[None].to(agent.device)
            with torch.no_grad():
                action, log_prob = agent.actor(s).rsample(agent.act_noise(1, noise, Moment(0)))
                values.append(float(agent.critic(s, action).amin(0)))
            bonuses.append(-alpha * float(log_prob))
            if terminated or truncated or len(rewards) == LONGEST:
                break  # the last pair is that of the final state
            (step,) = envs.step(0, action.cpu().numpy())
            rewards.append(step.reward)
            obs, terminated, truncated = step.obs, step.terminated, step.truncated
        follows = discounted(rewards, bonuses[:-1], gamma, n, 0.0 if terminated else values[-1] + bonuses[-1])
        left = np.arange(len(rewards), 0, -1)
        sound = np.full(len(rewards), True) if terminated else gamma**left <= MOST_BOOTSTRAP
        if sound.any():
            kept += 1
            q_all.append(np.array(values[:-1])[sound])
            g_all.append(follows[sound])
    if not kept:
        return np.zeros(0), np.zeros(0), 0
    return np.concatenate(q_all), np.concatenate(g_all), kept


def discounted(
    rewards: Sequence[float], bonuses: Sequence[float], gamma: float, n: int, last_value: float
) -> NDArray[np.float64]:
    """G_t = r_t + ... + gamma^(n-1) r_(t+n-1) + gamma^n (bonus_(t+n) + G_(t+n)) for every step t.

    Args:
        rewards: r_0 .. r_(T-1).
        bonuses: -alpha log pi(a_t|s_t) for the same steps.
        gamma: discount per step.
        n: rewards between two bonuses.
        last_value: what stands for bonus_T + G_T; 0 after termination.
    """
    size = len(rewards)
    out = np.zeros(size)
    for t in reversed(range(size)):
        stop = min(t + n, size)
        total = sum(gamma ** (k - t) * rewards[k] for k in range(t, stop))
        tail = last_value if stop == size else bonuses[stop] + out[stop]
        out[t] = total + gamma ** (stop - t) * tail
    return out


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _release(number: str) -> tuple[int, ...]:
    parts = number.split("+")[0].split(".")[:3]
    return tuple(int(digits) if (digits := "".join(filter(str.isdigit, part))) else 0 for part in parts)
