"""Does a run learn as it should?"""

import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softac.agents.sac import SACAgent, SACConfig
from softac.config import make_config
from softac.envs import EnvFault, InProcessVectorEnv
from softac.errors import CheckpointError, ConfigError, EnvironmentFailed
from softac.examine.findings import Finding
from softac.examine.run_files import action_dim
from softac.examine.soft_returns import soft_returns
from softac.model import Model
from softac.run.folder import read_config
from softac.run.metrics import METRICS, as_number, read_rows
from softac.run.numerics import numerics

Rows = list[dict[str, Any]]
SATURATED, VERY_SATURATED = 0.7, 0.9
FAR = 100.0  # two orders of magnitude
LATE = 0.2  # of the time from one action to the next
COLD = 1e-6  # a temperature that is as good as zero
# What is in the rows that are judged.
DELAYS = {"time/action_delay", "time/action_delay_max", "time/fps"}
EVALUATED = {"eval/mean_reward", "eval/std_reward"}
SAMPLED = {"eval/stochastic_mean_reward", "eval/stochastic_std_reward"}


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
    read = read_rows(path / METRICS)
    yield from _finite(read)
    rows = [_numbers(row) for row in read]
    trained = [row for row in rows if "train/n_updates" in row]
    if not trained:
        yield Finding("ok", "no update has been logged yet")
    if config is not None:
        yield from target_entropy(config, dim)
        yield from temperature(trained, config, dim)
        yield from saturation(trained)
    yield from evaluations(rows)
    yield from action_delay(rows, int(description["run"]["n_envs"]))
    if not trained or config is None:
        return
    try:
        model = Model.load(path, env, trust_module=env is not None)
    except CheckpointError:
        return  # `files` has said so
    with closing(model):
        yield from critics(model, trained[-1]["train/n_updates"])


def _finite(rows: Rows) -> Iterator[Finding]:
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                yield Finding(
                    "problem",
                    f"{name} is {value} at step {row['step']:,}",
                    "go back to a checkpoint before it with a lower --learning-rate, or scale the rewards down",
                    "nothing that is learned after this means anything",
                    exit_code=1,
                )
                return


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what cannot be computed with."""
    returns = row.get("eval/returns")
    whole = {"eval/returns": returns} if isinstance(returns, list) else {}
    return whole | {name: value for name, value in row.items() if as_number(value) is not None}


def action_delay(rows: Rows, n_envs: int) -> Iterator[Finding]:
    """Whether actions come late, in runs that learn while the environment moves: against the time of a round."""
    told = [row for row in rows if row.keys() >= DELAYS and row["time/fps"] > 0.0]
    if not told:
        return
    row = told[-1]
    delay, longest, round_ = row["time/action_delay"], row["time/action_delay_max"], n_envs / row["time/fps"]
    times = f"observations wait {1e3 * delay:.1f} ms for their action ({1e3 * longest:.0f} ms at most)"
    if delay > LATE * round_:
        yield Finding(
            "note",
            f"actions come late: {times}, of {1e3 * round_:.0f} ms from one action to the next",
            "lower --gradient-steps, take smaller networks, or --engine compiled",
            "where the environment has a clock of its own it has moved on meanwhile",
        )
    else:
        yield Finding("ok", f"actions: {times}, of {1e3 * round_:.0f} ms from one to the next")


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
    rows = [row for row in rows if row.keys() >= EVALUATED]
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
    if not last.keys() >= SAMPLED:
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
