"""Policies of Stable-Baselines3 as `softac import` reads them, beside Stable-Baselines3 itself.

    python benchmarks/sb3/policies.py make tests/data/sb3     # small zips that are missing, and their outputs
    python benchmarks/sb3/policies.py compare tests/data/sb3  # 10,000 observations, and returns

Needs stable-baselines3==2.9.2 beside softac. The test suite reads what `make` has written and needs it not.
"""

import argparse
import tempfile
import warnings
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from softac import Model
from softac.run.seeding import Purpose, derive_seed
from softac.ship.sb3 import import_sb3

MEAN, STD = np.zeros(1), np.full(1, 0.2)
MODELS = {
    "sac": (SAC, "Pendulum-v1", {"train_freq": 2, "gradient_steps": 2, "ent_coef": "auto_0.1"}),
    "td3": (TD3, "Pendulum-v1", {"action_noise": NormalActionNoise(MEAN, STD)}),
    "ddpg": (DDPG, "Pendulum-v1", {"action_noise": OrnsteinUhlenbeckActionNoise(MEAN, STD)}),
    "dqn": (DQN, "CartPole-v1", {"learning_rate": 1e-3}),
    "ppo": (PPO, "Pendulum-v1", {"n_steps": 64, "clip_range": 0.1}),
    "ppo_normalised": (PPO, "Pendulum-v1", {"n_steps": 64}),
    "a2c": (A2C, "CartPole-v1", {}),
    "sac_widths": (SAC, "Pendulum-v1", {}),
    "ppo_widths": (PPO, "Pendulum-v1", {"n_steps": 64}),
}
NETS = {
    "sac_widths": {"net_arch": {"pi": [8], "qf": [12, 8]}, "activation_fn": torch.nn.Tanh},
    "ppo_widths": {"net_arch": {"pi": [8, 6], "vf": [12]}, "activation_fn": torch.nn.ReLU},
}
STEPS = 400
EXPECTED = "expected.npz"


def observations(env_id: str, n: int) -> np.ndarray:
    """Observations from everywhere in the space, or from [-3, 3] where it has no end."""
    space = gym.make(env_id).observation_space
    low, high = (np.clip(bound, -8.0, 8.0) for bound in (space.low, space.high))
    low, high = np.where(np.abs(space.low) > 8, -3.0, low), np.where(np.abs(space.high) > 8, 3.0, high)
    return np.random.default_rng(0).uniform(low, high, (n, *space.shape)).astype(np.float32)


def make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    expected = dict(np.load(folder / EXPECTED)) if (folder / EXPECTED).exists() else {}
    for name, (algorithm, env_id, settings) in MODELS.items():
        if (folder / f"{name}.zip").exists():
            continue
        env = env_id
        if name.endswith("normalised"):
            env = VecNormalize(DummyVecEnv([lambda e=env_id: gym.make(e)]))
        nets = NETS.get(name, {"net_arch": [8, 8]})
        model = algorithm("MlpPolicy", env, seed=0, device="cpu", policy_kwargs=nets, **settings)
        model.learn(STEPS)
        with tempfile.TemporaryDirectory() as aside:
            model.save(f"{aside}/model.zip")
            without_system(Path(aside, "model.zip"), folder / f"{name}.zip")
        if isinstance(env, VecNormalize):
            rms = env.obs_rms
            np.savez(folder / f"{name}.npz", mean=rms.mean, var=rms.var, epsilon=env.epsilon, clip=env.clip_obs)
        for part, values in outputs(model, env, observations(env_id, 200)).items():
            expected[f"{name}.{part}"] = values
    np.savez(folder / EXPECTED, **expected)


def without_system(path: Path, to: Path) -> None:
    """A copy without the description of the machine."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            if name != "system_info.txt":
                target.writestr(zipfile.ZipInfo(name), source.read(name))


def outputs(model, env, obs: np.ndarray) -> dict[str, np.ndarray]:
    """The deterministic action of each observation, and what the critics say of it and of an action."""
    if isinstance(env, VecNormalize):
        obs = env.normalize_obs(obs)
    s = torch.as_tensor(obs)
    said = {"action": model.predict(obs, deterministic=True)[0]}
    with torch.no_grad():
        if isinstance(model, DQN):
            said |= {"critic": model.q_net(s), "target": model.q_net_target(s)}
        elif isinstance(model, PPO | A2C):
            said["critic"] = model.policy.predict_values(s)[:, 0]
        else:
            a = torch.linspace(-1.0, 1.0, len(s))[:, None]
            said |= {"critic": torch.cat(model.critic(s, a), 1), "target": torch.cat(model.critic_target(s, a), 1)}
        if isinstance(model, SAC):
            said["log_std"] = model.actor.get_action_dist_params(s)[1]
            said["log_alpha"] = model.log_ent_coef.detach()
    return {part: np.asarray(value) for part, value in said.items()}


def ours(model: Model, obs: np.ndarray) -> dict[str, np.ndarray]:
    """The same of the agent here."""
    s, agent = torch.as_tensor(obs), model.agent
    said = {"action": model.predict(obs, deterministic=True)[0]}
    with torch.no_grad():
        if agent.on_policy:
            said["critic"] = agent.critic(s)
        elif model.spaces.spec.n_actions is not None:
            said |= {"critic": agent.critic(s)[0], "target": agent.target_critic(s)[0]}
        else:
            a = torch.linspace(-1.0, 1.0, len(s))[:, None]
            said |= {"critic": agent.critic(s, a).T, "target": agent.target_critic(s, a).T}
        if hasattr(agent, "temperature"):
            said |= {
                "log_std": agent.actor(s).log_std,
                "log_alpha": agent.temperature.learner.parameters[0].detach()[None],
            }
    return {part: np.asarray(value) for part, value in said.items()}


def difference(there: np.ndarray, here: np.ndarray) -> float:
    """The largest, relative to 1 or to the value if that is larger."""
    return float((np.abs(there - here) / np.maximum(1.0, np.abs(there))).max())


def compare(folder: Path, n: int, episodes: int) -> None:
    for name, (algorithm, env_id, _) in MODELS.items():
        obs = observations(env_id, n)
        statistics = folder / f"{name}.npz" if name.endswith("normalised") else None
        model = import_sb3(folder / f"{name}.zip", env_id, normalisation=statistics).model
        env = normalising(statistics, env_id)
        there, here = outputs(algorithm.load(folder / f"{name}.zip", device="cpu"), env, obs), ours(model, obs)
        parts = ", ".join(
            f"{part} {difference(there[part], here[part]):.1e}" for part in there.keys() | here.keys()
        )
        returns = model.evaluate(None, episodes, deterministic=True, seed=0).returns
        theirs = played(algorithm.load(folder / f"{name}.zip", device="cpu"), env, env_id, episodes)
        gap = difference(np.array(theirs), np.array(returns))
        print(f"{name:<15} {parts}; {episodes} returns {gap:.1e} ({np.mean(theirs):.3f}, {np.mean(returns):.3f})")


def normalising(statistics: Path | None, env_id: str) -> VecNormalize | str:
    if statistics is None:
        return env_id
    env, told = VecNormalize(DummyVecEnv([lambda: gym.make(env_id)]), training=False), np.load(statistics)
    env.obs_rms.mean, env.obs_rms.var = told["mean"], told["var"]
    return env


def played(model, env, env_id: str, episodes: int) -> list[float]:
    """Returns of the policy played by Stable-Baselines3, from the start states of `softac eval --seed 0`."""
    returns, world = [], gym.make(env_id)
    for episode in range(episodes):
        obs, _ = world.reset(seed=derive_seed(Purpose.EVALUATION_EPISODE, 0, episode))
        total, ended = 0.0, False
        while not ended:
            seen = env.normalize_obs(obs) if isinstance(env, VecNormalize) else obs
            obs, reward, terminated, truncated, _ = world.step(model.predict(seen, deterministic=True)[0])
            total, ended = total + float(reward), terminated or truncated
        returns.append(total)
    return returns


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--observations", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.what == "make":
        make(arguments.folder)
    else:
        compare(arguments.folder, arguments.observations, arguments.episodes)
