"""Deep agents against exact values, and the bias of one, two and five critics.

    python benchmarks/oracles/run.py                    # everything: about 20 minutes of one core
    python benchmarks/oracles/run.py finite continuous  # some suites only
    python benchmarks/oracles/run.py --summary          # the table and the picture from the results again

    finite          sac_discrete and dqn on random finite MDPs
    continuous      sac, sac_v and sac_mixture on problems of one and two steps
    overestimation  Q less the true value while sac and td3 learn, in pure noise and on Pendulum-v1

Each suite writes results/SUITE.csv. `problems.py` has the problems and their answers.
"""

import os  # the number of threads must be set before torch is imported

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import problems as p
import torch

from softac import Model
from softac.agents.registry import find_agent
from softac.envs.finite_mdp import FiniteMDPEnv
from softac.tabular import FiniteMDP, soft_policy_iteration

HERE = Path(__file__).parent
Row = dict[str, Any]

# Finite MDPs

FINITE = {"gamma": 0.9, "net_arch": (32, 32), "batch_size": 128, "learning_starts": 10_000, "tau": 0.05}
DQN = FINITE | {"train_freq": 1, "gradient_steps": 1, "max_grad_norm": 1e6, "exploration_final_eps": 1.0}
# Every copy of a hard target freezes the noise of one update, and what all pairs have in common of it decays by
# gamma only from copy to copy: small steps keep it small.
DQN |= {"learning_rate": 3e-4}
SOFT, HARD = DQN | {"target_update_interval": 1}, DQN | {"target_update_interval": 50, "tau": 1.0}
FINITE_SETTINGS: dict[
    str, tuple[str, float, dict[str, Any]]
] = {  # algorithm, scale of the rewards, hyperparameters
    "two critics": ("sac_discrete", 1.0, FINITE | {"ent_coef": 0.1, "learning_rate": 1e-3}),
    "one critic": ("sac_discrete", 1.0, FINITE | {"ent_coef": 0.1, "learning_rate": 1e-3, "n_critics": 1}),
    "soft target": ("dqn", 1.0, SOFT),
    "soft target, double": ("dqn", 1.0, SOFT | {"double": True}),
    "hard target": ("dqn", 1.0, HARD),
    "hard target, double": ("dqn", 1.0, HARD | {"double": True}),
    "rewards of 10": ("dqn", 10.0, SOFT | {"learning_rate": 3e-3}),
}


class Counting(gym.Wrapper[Any, Any, Any, Any]):
    """Counts the transitions it passes on, so that what the sample lacks can be told from what the agent does."""

    def __init__(self, env: gym.Env[Any, Any], mdp: FiniteMDP) -> None:
        super().__init__(env)
        self.counts = np.zeros((*mdp.r.shape, mdp.n_states))

    def reset(self, **arguments: Any) -> Any:
        """Begin."""
        self.state, info = self.env.reset(**arguments)
        return self.state, info

    def step(self, action: Any) -> Any:
        """Step and count."""
        result = self.env.step(action)
        self.counts[self.state, action, result[0]] += 1
        self.state = result[0]
        return result


def finite() -> Iterator[Row]:
    for setting, (algorithm, scale, hyperparameters) in FINITE_SETTINGS.items():
        for seed in range(4):
            mdp = p.sparse_mdp(seed, reward_scale=scale)
            alpha = hyperparameters.get("ent_coef", 0.0)
            exact = soft_policy_iteration(mdp, alpha)
            env = Counting(gym.wrappers.TimeLimit(FiniteMDPEnv(mdp), 50), mdp)
            model = Model(find_agent(algorithm), env, seed=seed, **hyperparameters).learn(14_000)
            seen = p.watch(model, 100, 20, lambda agent: p.tables_of(agent, 6))
            q = np.mean([q for q, _ in seen], axis=0)
            spread = np.ptp(exact.Q)
            sample = FiniteMDP(env.counts / env.counts.sum(-1, keepdims=True), mdp.r, mdp.gamma)
            error = q.mean(0) - exact.Q
            row = {
                "algorithm": algorithm,
                "setting": setting,
                "seed": seed,
                "range_of_q": spread,
                "largest_td_error": p.largest_td_error(mdp, exact.Q, exact.V),
                "q_error": np.abs(error).max() / spread,
                "q_error_last": np.abs(seen[-1][0].mean(0) - exact.Q).max() / spread,
                "q_error_of_sample": np.abs(soft_policy_iteration(sample, alpha).Q - exact.Q).max() / spread,
                "q_bias": error.mean() / spread,
                "q_bias_of_least": np.mean([(q.min(0) - exact.Q).mean() for q, _ in seen]) / spread,
            }
            if algorithm == "sac_discrete":
                pi = np.mean([pi for _, pi in seen], axis=0)
                row["policy_distance"] = 0.5 * np.abs(pi - exact.pi).sum(-1).max()
            else:
                greedy = q[0].argmax(-1)
                row["greedy_loss"] = (exact.Q.max(-1) - exact.Q[np.arange(6), greedy]).max() / spread
                row["huber_point"] = np.abs(p.huber_point(mdp) - exact.Q).max() / spread
                row["error_to_huber_point"] = np.abs(q[0] - p.huber_point(mdp)).max() / spread
            yield row


# One and two steps

CONTINUOUS = {"net_arch": (64, 64), "batch_size": 128, "learning_rate": 1e-3, "learning_starts": 1_000}
TWO_STEPS = CONTINUOUS | {"gamma": p.GAMMA, "tau": 0.02}
ONE_STEP_ALPHA, TWO_STEP_ALPHA, TARGET_ENTROPY = 0.2, 0.15, -0.8
LEARNED = {"ent_coef": "auto_0.5", "ent_coef_learning_rate": 5e-3}
UPDATES, SEEDS = 4_000, 3


def continuous() -> Iterator[Row]:
    yield from one_step()
    yield from two_steps()


def one_step() -> Iterator[Row]:
    rewards = p.two_bumps(p.ACTIONS)
    fixed = CONTINUOUS | {"ent_coef": ONE_STEP_ALPHA}
    score = fixed | {"actor_gradient": "score_function"}
    learned = CONTINUOUS | LEARNED | {"target_entropy": TARGET_ENTROPY}
    bests = {K: p.local_bests(rewards, ONE_STEP_ALPHA, K, 16) for K in (1, 2, 4)}
    alpha, theta = p.best_at_entropy(TARGET_ENTROPY)
    at_target = [(p.soft_value(theta, rewards, alpha), theta)]
    for algorithm, setting, hyperparameters, alpha_star, maxima in (
        ("sac", "two critics", fixed, ONE_STEP_ALPHA, bests[1]),
        ("sac", "one critic", fixed | {"n_critics": 1}, ONE_STEP_ALPHA, bests[1]),
        ("sac_v", "two critics", fixed | {"reward_scale": 1.0}, ONE_STEP_ALPHA, bests[1]),
        ("sac_v", "score function", score | {"reward_scale": 1.0}, ONE_STEP_ALPHA, bests[1]),
        ("sac_mixture", "2 components", fixed | {"n_components": 2}, ONE_STEP_ALPHA, bests[2]),
        ("sac_mixture", "2 components, score function", score | {"n_components": 2}, ONE_STEP_ALPHA, bests[2]),
        ("sac_mixture", "4 components", fixed | {"n_components": 4}, ONE_STEP_ALPHA, bests[4]),
        ("sac", "learned temperature", learned, alpha, at_target),
    ):
        value, theta = maxima[0]
        for seed in range(SEEDS):
            model = Model(find_agent(algorithm), p.OneStep, seed=seed, **hyperparameters).learn(1_000 + UPDATES)
            seen = p.watch(
                model, 100, 10, lambda agent: (p.policy_of(agent, 1.0), p.q_of(agent, 1.0), log_alpha(agent))
            )
            q = np.mean([q for _, q, _ in seen], axis=0)
            density = np.mean([np.exp(p.log_density(found)) for found, _, _ in seen], axis=0)
            gaps = [0.5 * p.STEP * np.abs(density - np.exp(p.log_density(top))).sum() for _, top in maxima]
            reached = np.mean([p.soft_value(found, rewards, alpha_star) for found, _, _ in seen])
            yield {
                "problem": "one step",
                "algorithm": algorithm,
                "setting": setting,
                "seed": seed,
                "exact_value": value,
                "value_error": p.soft_value(theta, q, alpha_star) - value,
                "regret_nats": (value - reached) / alpha_star,
                "policy_distance": gaps[0],
                "distance_to_a_maximum": min(gaps),
                "value_of_that_maximum": maxima[int(np.argmin(gaps))][0],
                **shift(np.mean([found for found, _, _ in seen], axis=0), theta),
                **temperature([x for _, _, x in seen], alpha_star),
            }


def two_steps() -> Iterator[Row]:
    answer = p.two_step_answer(TWO_STEP_ALPHA)
    # Where the first action leads: five points over the middle of what the best policy does.
    places = np.tanh(answer.first[1] + np.exp(answer.first[2]) * np.array([-1.5, -0.75, 0.0, 0.75, 1.5]))
    fixed = TWO_STEPS | {"ent_coef": TWO_STEP_ALPHA}
    # A small replay holds the episodes of the policy as it is: the states that the target is a mean over.
    learned = LEARNED | {"target_entropy": answer.mean_entropy(), "buffer_size": 2_000}
    for algorithm, setting, hyperparameters in (
        ("sac", "two critics", fixed),
        ("sac", "one critic", fixed | {"n_critics": 1}),
        ("sac_v", "two critics", fixed | {"reward_scale": 1.0}),
        ("sac_mixture", "1 component", fixed | {"n_components": 1}),
        ("sac", "learned temperature", TWO_STEPS | learned),
    ):
        for seed in range(SEEDS):
            model = Model(find_agent(algorithm), p.TwoSteps, seed=seed, **hyperparameters).learn(1_000 + UPDATES)

            def look(agent: Any) -> Any:
                second = [p.policy_of(agent, 1.0, x) for x in places]
                return p.policy_of(agent, 0.0, 0.0), second, p.q_of(agent, 0.0, 0.0), log_alpha(agent)

            seen = p.watch(model, 100, 10, look)
            first, second, q = (np.mean([one[i] for one in seen], axis=0) for i in range(3))
            distances = [p.distance(found, answer.second(x)) for found, x in zip(second, places, strict=True)]
            yield {
                "problem": "two steps",
                "algorithm": algorithm,
                "setting": setting,
                "seed": seed,
                "exact_value": answer.value,
                "value_error": p.soft_value(answer.first, q, TWO_STEP_ALPHA) - answer.value,
                "policy_distance": max(p.distance(first, answer.first), *distances),
                **shift(first, answer.first),
                **temperature([one[3] for one in seen], TWO_STEP_ALPHA),
            }


def shift(found: Any, theta: Any) -> Row:
    """How far mean and log sigma of a single Gaussian are from the best ones."""
    if len(theta) > 3:
        return {}
    return {"mean_error": found[1] - theta[1], "log_std_error": found[2] - theta[2]}


def log_alpha(agent: Any) -> float | None:
    """Of a temperature that is learned."""
    learner = getattr(agent, "temperature", None)
    return None if learner is None else float(learner().item())


def temperature(logs: list[float | None], exact: float) -> Row:
    if None in logs:
        return {}
    return {"exact_alpha": exact, "alpha_error": np.exp(np.mean(logs)) / exact - 1.0}


# The bias of the critics

BIAS_SEEDS = 5
NOISE = {"gamma": 0.9, "net_arch": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "tau": 0.02}
NOISE_ALPHA, NOISE_STEPS, NOISE_EVERY = 0.05, 3_000, 300
PENDULUM = {"gamma": 0.95, "net_arch": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "tau": 0.02}
PENDULUM_ALPHA, PENDULUM_STEPS, PENDULUM_EVERY = 0.2, 8_000, 500
STARTS, HORIZON = 64, 200  # gamma^200 is 4e-5


def overestimation() -> Iterator[Row]:
    for algorithm in ("sac", "td3"):
        for seed in range(BIAS_SEEDS):
            for n_critics in (1, 2, 5):
                alpha = NOISE_ALPHA if algorithm == "sac" else 0.0
                yield from biases(
                    ("pure noise", algorithm, n_critics, seed),
                    lambda: gym.wrappers.TimeLimit(p.PureNoise(), 50),
                    NOISE | ({"ent_coef": alpha} if alpha else {}),
                    (NOISE_STEPS, NOISE_EVERY),
                    lambda agent, alpha=alpha: noise_bias(agent, alpha),
                )
            for n_critics in (1, 2):
                alpha = PENDULUM_ALPHA if algorithm == "sac" else 0.0
                yield from biases(
                    ("Pendulum-v1", algorithm, n_critics, seed),
                    "Pendulum-v1",
                    PENDULUM | {"learning_starts": 500} | ({"ent_coef": alpha} if alpha else {}),
                    (PENDULUM_STEPS, PENDULUM_EVERY),
                    lambda agent, alpha=alpha: pendulum_bias(agent, alpha),
                )


def biases(
    name: tuple[str, str, int, int],
    env: Any,
    hyperparameters: dict[str, Any],
    steps: tuple[int, int],
    look: Callable[[Any], Row],
) -> Iterator[Row]:
    problem, algorithm, n_critics, seed = name
    model = Model(find_agent(algorithm), env, seed=seed, n_critics=n_critics, **hyperparameters)
    total, every = steps
    for step, row in enumerate(p.watch(model, total // every, every, look), 1):
        head = {"problem": problem, "algorithm": algorithm, "n_critics": n_critics, "seed": seed}
        yield {**head, "step": step * every, **row}


def act(agent: Any, obs: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """An action and log pi as the agent's own targets have them: for td3 smoothed, with log pi = 0."""
    noise = torch.randn(len(obs), agent.spec.action_dim, generator=generator)
    if hasattr(agent, "target_actor"):
        clip = agent.config.target_noise_clip
        smoothing = (agent.config.target_policy_noise * noise).clamp(-clip, clip)
        return (agent.actor(obs) + smoothing).clamp(-1.0, 1.0), torch.zeros(len(obs))
    action, log_prob = agent.actor(obs).rsample(noise)
    return action, log_prob


@torch.no_grad()
def noise_bias(agent: Any, alpha: float) -> Row:
    """E[Q - true Q] over states and the policy's actions."""
    generator = torch.Generator().manual_seed(0)
    obs = 2.0 * torch.rand(4_096, 2, generator=generator) - 1.0
    action, log_prob = act(agent, obs, generator)
    q = agent.critic(obs, action)
    true = p.noise_q(-log_prob.mean().item(), alpha, agent.config.gamma) if alpha else 0.0
    return {"true_q": true, "bias": q.amin(0).mean().item() - true, "bias_of_mean": q.mean().item() - true}


@torch.no_grad()
def pendulum_bias(agent: Any, alpha: float) -> Row:
    """E[Q(s, a) - G], s met by the policy at a random moment, a and G its own: soft, discounted, not cut off."""
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    gamma, each = agent.config.gamma, np.arange(STARTS)
    state = np.stack([rng.uniform(-np.pi, np.pi, STARTS), rng.uniform(-1.0, 1.0, STARTS)], axis=-1)
    moment = rng.integers(0, 200, STARTS)
    obs, actions, payments = [], [], []
    for _ in range(200 + HORIZON):
        seen = np.stack([np.cos(state[:, 0]), np.sin(state[:, 0]), state[:, 1]], axis=-1)
        obs.append(torch.tensor(seen, dtype=torch.float32))
        action, log_prob = act(agent, obs[-1], generator)
        actions.append(action)
        state, reward = swing(state, 2.0 * action[:, 0].double().numpy())
        payments.append(np.stack([reward, -alpha * log_prob.double().numpy()]))
    paid = np.array(payments)  # [T, 2, STARTS]: rewards and the worth of entropy
    weights = gamma ** np.arange(HORIZON)
    returns = np.zeros(STARTS)
    for i in each:
        reward, bonus = paid[moment[i] : moment[i] + HORIZON, :, i].T
        returns[i] = weights @ reward + weights[1:] @ bonus[1:]  # the entropy of the action itself is not in Q
    q = agent.critic(
        torch.stack([obs[t][i] for i, t in enumerate(moment)]),
        torch.stack([actions[t][i] for i, t in enumerate(moment)]),
    ).double()
    error = q.amin(0).numpy() - returns
    return {
        "true_q": returns.mean(),
        "bias": error.mean(),
        "bias_of_mean": q.mean().item() - returns.mean(),
        "standard_error": error.std(ddof=1) / STARTS**0.5,
    }


def swing(state: Any, torque: Any) -> tuple[Any, Any]:
    """One step of Pendulum-v1 for many states `[N, 2]` (angle, speed) at once; see `check_swing`."""
    angle, speed = state.T
    upright = (angle + np.pi) % (2.0 * np.pi) - np.pi
    reward = -(upright**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
    return np.stack([angle + 0.05 * speed, speed], axis=-1), reward


def check_swing() -> None:
    env = gym.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    state, rng = np.array([env.state]), np.random.default_rng(0)
    for _ in range(200):
        torque = rng.uniform(-2.0, 2.0, 1).astype(np.float32)
        state, reward = swing(state, torque.astype(float))
        expected = env.step(torque)[1]
        np.testing.assert_allclose(state[0], env.state, atol=1e-6)
        np.testing.assert_allclose(reward[0], expected, atol=1e-6)


# Results

SUITES = {"finite": finite, "continuous": continuous, "overestimation": overestimation}


def measure(suite: str) -> None:
    began, rows = time.process_time(), []
    for row in SUITES[suite]():
        rows.append(row)
        print(*(f"{name} {show(value)}" for name, value in row.items()), sep="  ", flush=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    (HERE / "results").mkdir(exist_ok=True)
    with (HERE / "results" / f"{suite}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: show(value) for name, value in row.items()} for row in rows)
    print(f"{suite}: {time.process_time() - began:.0f} s of one core", flush=True)


def show(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read(suite: str) -> list[dict[str, str]]:
    with (HERE / "results" / f"{suite}.csv").open() as file:
        return list(csv.DictReader(file))


def summary() -> None:
    """Per setting: the worst over the seeds of what was compared; for the bias the mean over the seeds."""
    for suite, keys, columns in (
        (
            "finite",
            ("algorithm", "setting"),
            (
                "q_error",
                "q_error_of_sample",
                "q_bias_of_least",
                "policy_distance",
                "greedy_loss",
                "huber_point",
                "error_to_huber_point",
            ),
        ),
        (
            "continuous",
            ("problem", "algorithm", "setting"),
            (
                "value_error",
                "regret_nats",
                "mean_error",
                "log_std_error",
                "policy_distance",
                "distance_to_a_maximum",
                "alpha_error",
            ),
        ),
    ):
        rows = read(suite)
        print("\n| " + " | ".join((*keys, *columns)) + " |")
        for name in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
            mine = [row for row in rows if tuple(row[key] for key in keys) == name]
            cells = [[float(row[column]) for row in mine if row.get(column)] for column in columns]
            print(
                "| " + " | ".join((*name, *(f"{max(cell, key=abs):.4f}" if cell else "" for cell in cells))) + " |"
            )
    print("\n| problem | algorithm | n_critics | bias of each seed over the last third | mean |")
    for (problem, algorithm, n_critics), (steps, bias) in curves().items():
        seeds = bias[:, 3 * steps > 2 * steps[-1]].mean(-1)
        cells = (problem, algorithm, n_critics, ", ".join(f"{x:.2f}" for x in seeds), f"{seeds.mean():.2f}")
        print("| " + " | ".join(cells) + " |")


def curves() -> dict[tuple[str, str, str], tuple[Any, Any]]:
    """(problem, algorithm, n_critics) -> steps `[T]` and the bias `[seeds, T]`."""
    found: dict[tuple[str, str, str], dict[str, list[tuple[int, float]]]] = {}
    for row in read("overestimation"):
        runs = found.setdefault((row["problem"], row["algorithm"], row["n_critics"]), {})
        runs.setdefault(row["seed"], []).append((int(row["step"]), float(row["bias"])))
    tables = {name: np.array(list(runs.values())) for name, runs in found.items()}
    return {name: (table[0, :, 0], table[:, :, 1]) for name, table in tables.items()}


def plot() -> None:
    import matplotlib
    from matplotlib.figure import Figure

    sys.path.insert(0, str(HERE.parents[1] / "docs"))
    from figures import BLUE, GREEN, ORANGE, style

    colours = {"1": ORANGE, "2": BLUE, "5": GREEN}
    with matplotlib.rc_context({**style("light"), "savefig.transparent": False}):
        figure = Figure((9.5, 5.6), layout="constrained")
        axes = figure.subplots(2, 2, sharex="row", sharey="row")
        panels = {
            (problem, algorithm): axes[i, j]
            for i, problem in enumerate(("pure noise", "Pendulum-v1"))
            for j, algorithm in enumerate(("sac", "td3"))
        }
        for (problem, algorithm, n_critics), (steps, bias) in curves().items():
            ax, colour = panels[problem, algorithm], colours[n_critics]
            ax.plot(steps, bias.T, color=colour, linewidth=0.6, alpha=0.5)
            label = "1 critic" if n_critics == "1" else f"{n_critics} critics"
            ax.plot(steps, bias.mean(0), color=colour, label=label)
        for (problem, algorithm), ax in panels.items():
            ax.axhline(0.0, color=matplotlib.rcParams["text.color"], linewidth=0.8, linestyle=":")
            ax.set(title=f"{algorithm}, {problem}", xlabel="environment steps")
            if problem == "Pendulum-v1":
                ax.set_yscale("symlog", linthresh=10.0)
        for ax in axes[:, 0]:
            ax.set_ylabel("Q − true value")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        figure.savefig(HERE / "results" / "overestimation.svg", metadata={"Date": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--summary", action="store_true", help="only the table and the picture")
    args = parser.parse_args()
    if unknown := set(args.suites) - set(SUITES):
        parser.error(f"unknown suite {', '.join(sorted(unknown))}; expected {', '.join(SUITES)}")
    torch.set_num_threads(1)
    check_swing()
    if not args.summary:
        for suite in args.suites or SUITES:
            measure(suite)
    summary()
    plot()
