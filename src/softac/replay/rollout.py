"""The rollout that an on-policy agent learns from once."""

import torch

from softac.replay.ring import row_width
from softac.types import EnvSpec, FloatArray, Rollout, Row, SoftRow


class RolloutStorage:
    """Room for `n_steps` rounds of `n_envs` environments, in the order they are stepped.

    One float32 row a step: obs | action | reward | discount | next obs | continues.

    Args:
        n_steps: T.
        n_envs: N.
        spec: sizes of observations and actions.
        device: where rollouts are delivered.
    """

    def __init__(self, n_steps: int, n_envs: int, spec: EnvSpec, device: torch.device) -> None:
        o, a = spec.obs_dim, spec.action_dim
        self.n_steps, self.n_envs, self.device = n_steps, n_envs, device
        self.rows = torch.zeros(n_steps * n_envs, row_width(spec) + 1, dtype=torch.float32)
        self.added = 0
        self._widths = [o, a, 1, 1, o, 1]
        table = self.rows.numpy()
        self._obs, self._action = table[:, :o], table[:, o : o + a]
        self._reward, self._discount = table[:, o + a], table[:, o + a + 1]
        self._next_obs, self._continues = table[:, o + a + 2 : -1], table[:, -1]

    def __len__(self) -> int:
        return self.added

    @property
    def actions(self) -> FloatArray:
        """The actions of the rows that hold something, `[len, A]`; a view."""
        return self._action[: self.added]

    def add(self, row: Row | SoftRow) -> None:
        """Append one step."""
        i = self.added
        self._obs[i] = row.obs
        self._action[i] = row.action
        self._reward[i] = row.reward
        self._discount[i] = row.discount
        self._next_obs[i] = row.next_obs
        self._continues[i] = not row.ended
        self.added += 1

    def cut(self, index: int) -> None:
        """Environment `index` has lost its episode: nothing follows on its last step."""
        last = self.added - 1 - (self.added - 1 - index) % self.n_envs
        if last >= 0:
            self._continues[last] = 0.0

    def read(self) -> Rollout:
        """The full storage as a `Rollout` on the device; a view of it, so read before adding more."""
        table = self.rows.view(self.n_steps, self.n_envs, -1).to(self.device)
        obs, action, reward, discount, next_obs, continues = torch.split(table, self._widths, dim=2)
        return Rollout(obs, action, reward.squeeze(2), discount.squeeze(2), next_obs, continues.squeeze(2))

    def clear(self) -> None:
        """Make room for the next rollout."""
        self.added = 0
