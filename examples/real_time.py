"""Learning on something that does not wait: a pendulum that moves on with the clock on the wall.

    python examples/real_time.py                     # overlap: the next action does not wait for an update
    python examples/real_time.py --without-overlap   # it does, and the pendulum swings on meanwhile

The pendulum stands for a robot. It is read 20 times a second and holds its last torque until another one comes. An
action that is late therefore acts late, and one that is later than a whole tick leaves that tick to the old one.
`time/action_delay` is how long an observation waited for its action, in seconds; `softac doctor RUN` judges it.
"""

import argparse
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from softac import SAC

GRAVITY, MASS, LENGTH = 10.0, 1.0, 1.0
SUBSTEP = 0.005  # seconds of simulation between two looks at the clock


class RealTimePendulum(gym.Env[Any, Any]):
    """`Pendulum-v1` with a clock of its own: states and rewards are the same, time is not.

    Args:
        hertz: observations per second.
        length: ticks of an episode.
    """

    def __init__(self, hertz: float = 20.0, length: int = 200) -> None:
        self.observation_space = spaces.Box(np.float32([-1, -1, -8]), np.float32([1, 1, 8]))
        self.action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.tick, self.length = 1.0 / hertz, length
        self.angle = self.velocity = self.torque = 0.0
        self.missed = 0  # ticks that began and ended without a new action
        self.simulated = self.due = 0.0  # seconds of the monotonic clock
        self.ticks = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """Hold it somewhere and let go."""
        super().reset(seed=seed)
        self.angle, self.velocity = self.np_random.uniform([-np.pi, -1.0], [np.pi, 1.0])
        self.torque, self.ticks = 0.0, 0
        self.simulated = time.monotonic()
        self.due = self.simulated + self.tick
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, ...]:
        """Take a torque now, and answer at the next tick."""
        now = time.monotonic()
        self._move_on(now)  # with the torque from before: what passed while nobody acted has passed
        self.torque = float(np.clip(action[0], -2.0, 2.0))
        late = max(0, int((now - self.due) // self.tick) + 1) if now > self.due else 0
        self.missed += late
        self.due += late * self.tick
        time.sleep(max(0.0, self.due - time.monotonic()))
        self._move_on(self.due)
        self.due += self.tick
        self.ticks += 1 + late
        angle = (self.angle + np.pi) % (2 * np.pi) - np.pi
        reward = -(angle**2 + 0.1 * self.velocity**2 + 0.001 * self.torque**2)
        return self._observed(), float(reward), False, self.ticks >= self.length, {"missed": self.missed}

    def _move_on(self, until: float) -> None:
        while self.simulated < until:
            dt = min(SUBSTEP, until - self.simulated)
            gravity = 3 * GRAVITY / (2 * LENGTH) * np.sin(self.angle)
            self.velocity += (gravity + 3.0 / (MASS * LENGTH**2) * self.torque) * dt
            self.velocity = float(np.clip(self.velocity, -8.0, 8.0))
            self.angle += self.velocity * dt
            self.simulated += dt

    def _observed(self) -> Any:
        return np.array([np.cos(self.angle), np.sin(self.angle), self.velocity], np.float32)


def main() -> None:
    """Train, and say how late the actions were."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4_000, help="20 of them take a second")
    parser.add_argument("--without-overlap", action="store_true")
    parser.add_argument("--gradient-steps", type=float, default=4.0, help="updates per step; an update is some ms")
    parser.add_argument("--run-dir", help="keep metrics and checkpoints there")
    args = parser.parse_args()

    def show(model: SAC, row: dict[str, float]) -> None:
        delay = row.get("time/action_delay")
        late = (
            ""
            if delay is None
            else f", actions {1e3 * delay:.1f} ms late ({1e3 * row['time/action_delay_max']:.0f} at most)"
        )
        print(f"step {model.num_timesteps:>6}, return {row.get('rollout/ep_rew_mean', float('nan')):8.1f}, "
              f"{row['time/fps']:.1f} steps/s{late}")  # fmt: skip

    # A process of its own for the pendulum, so that its clock does not depend on what the learner computes.
    model = SAC(
        RealTimePendulum,
        env_workers=1,
        overlap=not args.without_overlap,
        on_env_failure="restart",
        learning_starts=200,
        learning_rate=1e-3,
        batch_size=128,
        net_arch=[64, 64],
        gradient_steps=args.gradient_steps,
    )
    # No evaluations: each would leave the pendulum alone meanwhile.
    model.learn(args.steps, run_dir=args.run_dir, n_eval_episodes=0, save_freq=0, callback=show)
    model.close()


if __name__ == "__main__":
    main()
