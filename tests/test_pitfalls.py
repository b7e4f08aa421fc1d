"""The known ways to get SAC almost right, each as a test with the number it has in our list of pitfalls.

Left out are those that have no room here: 6 (target entropy of discrete actions), 17 (the first version of the
paper), 19 and 21 (how published figures are compared) and 20 (Swimmer's discount, a matter of presets).
"""

import math
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import huber_loss

from probes import (
    SMALL,
    AsymmetricEnv,
    CountingEnv,
    EarlyEndingEnv,
    SpaceEnv,
    TerminatingEnv,
    TruncatingEnv,
    rows,
    trained,
    unit_box,
)
from softac import SAC, Model
from softac.agents.sac import Noise, SACAgent
from softac.config import make_config
from softac.equations.distributions import SquashedGaussian
from softac.equations.losses import (
    log_temperature_loss,
    policy_loss,
    q_loss,
    soft_q_target,
    td_target,
    temperature_loss,
)
from softac.errors import CheckpointError, ConfigError
from softac.learning.state import load_state_, state_of
from softac.types import EnvSpec, Moment, Transition

SPEC = EnvSpec(obs_dim=2, action_dim=1)
RATE = 1e-30  # a step size that moves no parameter: float32 + 1e-30 is the same float32


def agent(seed: int = 0, spec: EnvSpec = SPEC, **config) -> SACAgent:
    made = make_config(SACAgent.Config, {"net_arch": (16, 16)} | config)
    return SACAgent(spec, made, generator=torch.Generator().manual_seed(seed), device=torch.device("cpu"))


def batch(size: int = 32, seed: int = 0, discount: float = 0.99) -> Transition:
    generator = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, size, 2, generator=generator)
    action, reward = torch.randn(size, 1, generator=generator).tanh(), torch.randn(size, generator=generator)
    return Transition(obs, action, reward, torch.full((size,), discount), next_obs)


def noise(size: int = 32, seed: int = 1) -> Noise:
    return Noise(*torch.randn(2, size, 1, generator=torch.Generator().manual_seed(seed)))


def let_cross(critic: torch.nn.Module, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """Shift the critics so that each is the least one somewhere; their values there, `[2, B]`."""
    with torch.no_grad():
        critic.net[-1].bias.sub_(critic(obs, action).mean(1)[:, None, None])
        q = critic(obs, action)
    assert (q[0] < q[1]).any()
    assert (q[0] > q[1]).any()
    return q


def test_01_truncation_is_not_termination():
    for make, discount in ((TruncatingEnv, 0.9), (TerminatingEnv, 0.0)):
        data = rows(trained(make, 20, gamma=0.9))
        last = data.next_obs[:, 1] == 5.0
        assert last.sum() == 4
        assert data.discount[last].tolist() == pytest.approx([discount] * 4)
        assert data.discount[~last].tolist() == pytest.approx([0.9] * 16)
        # The bootstrap is from the observation the episode ended in, not from the next episode's first.
        assert torch.equal(data.next_obs[last][:, 0], data.obs[last][:, 0])


def test_01_the_time_limit_of_a_registered_environment_is_a_truncation():
    data = rows(trained("Pendulum-v1", 210, learning_starts=1_000))
    assert data.discount.tolist() == pytest.approx([0.99] * 210)
    # Step 200 of Pendulum, its last: the physics must connect both halves of the row.
    assert (data.obs[199] - data.next_obs[198]).abs().max() == 0.0
    assert (data.obs[200] - data.next_obs[199]).abs().max() > 1e-3


def test_02_resetting_makes_no_rows():
    envs = []

    def make():
        envs.append(CountingEnv(3, "terminated"))
        return envs[-1]

    model = trained(make, 30, n_envs=2)
    data = rows(model)
    # Gymnasium's default autoreset gives a row with an ignored action and reward 0 after every episode.
    assert sum(env.steps for env in envs) == len(data.reward) == 30
    assert data.reward.min() == 1.0
    assert not (data.obs[:, 1] == 3.0).any()  # nothing begins where an episode has ended


def test_02_vector_environments_are_refused():
    envs = gym.make_vec("Pendulum-v1", 2)
    with pytest.raises(ConfigError) as error:
        SAC(envs)
    envs.close()
    assert str(error.value) == (
        "a vector environment (SyncVectorEnv) was given; expected an id, a function or a single environment, "
        "which softac steps itself so that every episode has its own seed and ends exactly where it ends; pass "
        "the single environment's id and n_envs"
    )


def test_03_log_prob_is_that_of_the_sample_before_the_tanh():
    mean, log_std = torch.tensor([[10.0]], requires_grad=True), torch.tensor([[-2.0]])
    action, log_prob = SquashedGaussian(mean, log_std).rsample(torch.zeros(1, 1))
    assert action.item() == 1.0  # the pre-tanh value cannot be found from this any more
    exact = 2.0 - 0.5 * math.log(2 * math.pi) + 2.0 * math.log(math.cosh(10.0))
    assert log_prob.item() == pytest.approx(exact, rel=1e-6)
    # A gradient that leads back; with log(1 - a^2 + 1e-6) it would be 0 here.
    assert torch.autograd.grad(log_prob.sum(), mean)[0].item() == pytest.approx(2.0)


def test_04_both_temperature_losses_have_one_sign_and_one_zero():
    for loss in (temperature_loss, log_temperature_loss):
        for entropy, sign in ((-3.0, -1), (-1.0, 0), (2.0, 1)):
            log_alpha = torch.tensor(-2.0, requires_grad=True)
            (slope,) = torch.autograd.grad(loss(log_alpha, torch.full((8,), -entropy), -1.0), log_alpha)
            assert int(slope.sign()) == sign


@pytest.mark.parametrize("alpha_loss", ["alpha", "log_alpha"])
def test_04_temperature_and_policy_are_detached_from_each_other(alpha_loss):
    # The same temperature gives the same actor, however the temperature itself is moved.
    still = agent(alpha_loss=alpha_loss, ent_coef_learning_rate=RATE, ent_coef="auto_0.5")
    moving = agent(alpha_loss=alpha_loss, ent_coef_learning_rate=0.1, ent_coef="auto_0.5")
    fixed = agent(ent_coef=0.5)
    for each in (still, moving, fixed):
        each.update_(batch(), noise())
    assert moving.temperature.alpha() != still.temperature.alpha()
    for a, b, c in zip(still.actor.parameters, moving.actor.parameters, fixed.actor.parameters, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, rtol=1e-5, atol=1e-6)  # exp(log(0.5)) rounds


@pytest.mark.parametrize("alpha_loss", ["alpha", "log_alpha"])
def test_04_the_temperature_moves_towards_its_target(alpha_loss):
    for target_entropy, direction in ((50.0, 1), (-50.0, -1)):
        learner = agent(alpha_loss=alpha_loss, target_entropy=target_entropy)
        learner.update_(batch(), noise())
        assert int((learner.temperature.alpha() - 1.0).sign()) == direction


def test_05_entropy_and_learning_do_not_depend_on_the_unit_of_actions():
    class InUnits(gym.ActionWrapper):
        """The same environment, its actions declared `scale` times as large."""

        def __init__(self, scale):
            super().__init__(EarlyEndingEnv())
            self.scale = scale
            self.action_space = spaces.Box(-scale, scale, (2,), np.float32)

        def action(self, action):
            return (action / self.scale).astype(np.float32)

    reference = trained(EarlyEndingEnv, 80)
    assert reference.agent.temperature.target_entropy == -2.0
    for scale in (0.5, 64.0):  # powers of two: rescaling does not round
        model = trained(lambda s=scale: InUnits(s), 80)
        assert model.agent.temperature.target_entropy == -2.0
        assert all(map(torch.equal, rows(model), rows(reference)))
        assert all(map(torch.equal, model.agent.actor.parameters, reference.agent.actor.parameters))
        assert model.agent.temperature.alpha() == reference.agent.temperature.alpha()


def test_05b_bounds_are_those_of_each_dimension():
    to_env = trained(AsymmetricEnv, 20).spaces.to_env
    for unit, action in ((-1.0, [-1, 0, -3]), (0.0, [0.5, 5, -2]), (0.5, [1.25, 7.5, -1.5]), (1.0, [2, 10, -1])):
        assert to_env(np.full(3, unit, np.float32)).tolist() == action


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-np.inf, np.inf, "inf"), (0.0, np.inf, "inf"), (-np.inf, 1.0, "inf"), (-1e30, 1e30, "1e+30")],
)
def test_05b_05c_bounds_that_are_infinite_or_absurd_are_refused(low, high, said):
    with pytest.raises(ConfigError) as error:
        SAC(SpaceEnv(action_space=spaces.Box(low, high, (2,), np.float32)))
    assert str(error.value) == (
        f"actions are bounded by {said}; expected finite bounds of at most 1e+06, since the policy explores all "
        "of them; declare useful bounds, or wrap the environment in gymnasium.wrappers.TransformAction with a "
        "bounded Box"
    )


class Counts(SACAgent):
    def update_(self, batch, noise):
        self.seen = [*getattr(self, "seen", []), batch.obs.clone()]
        return super().update_(batch, noise)


@pytest.mark.parametrize("n_envs", [1, 2, 3, 7])
def test_07_updates_follow_environment_steps_and_not_rounds(n_envs):
    model = Model(Counts, EarlyEndingEnv, n_envs=n_envs, **SMALL | {"gradient_steps": 2}).learn(16 + 42)
    done = int(model.agent.n_updates)
    # Every full round has had its updates; the rest of a round that the budget cut has not.
    assert done == 2 * (((16 + 42) // n_envs) * n_envs - 16)


def test_08_first_actions_are_uniform_and_stored_in_the_units_of_the_learner():
    envs = []

    def make():
        envs.append(AsymmetricEnv())
        return envs[-1]

    model = SAC(make, **SMALL | {"learning_starts": 2_000, "buffer_size": 2_000}).learn(2_000)
    actions, stored = np.array(envs[0].actions), rows(model).action.numpy()
    low, high = AsymmetricEnv.action_space.low, AsymmetricEnv.action_space.high
    share = (actions - low) / (high - low)
    for tenth in range(10):
        inside = ((share >= tenth / 10) & (share < (tenth + 1) / 10)).mean(0)
        assert (abs(inside - 0.1) < 0.027).all()  # four standard deviations
    assert np.allclose(stored, 2 * share - 1, atol=1e-6)


def test_08_the_policy_takes_over_and_stays(tmp_path):
    def make():
        return SpaceEnv(unit_box(2))

    def model_is_at(model, step):
        # A policy that always answers 0.5, so that its actions are recognised.
        assert model.num_timesteps == step
        with torch.no_grad():
            net = model.agent.actor.module.net[-1]
            net.weight.zero_()
            net.bias.copy_(torch.tensor([math.atanh(0.5), -20.0]))
        return model

    model = SAC(make, **SMALL | {"learning_starts": 30, "learning_rate": 1e-9})
    model_is_at(model, 0).learn(20)
    assert (rows(model).action - 0.5).abs().min() > 1e-4
    model.learn(20)
    chosen = rows(model).action[:, 0]
    assert (chosen[:30] - 0.5).abs().min() > 1e-4
    assert (chosen[30:] - 0.5).abs().max() < 1e-4
    model.save(tmp_path / "model")
    resumed = SAC.load(tmp_path / "model", env=make).learn(20)
    assert (rows(resumed).action[30:] - 0.5).abs().max() < 1e-4
    assert len(rows(resumed).action) == 60


def test_09_the_actor_step_leaves_the_critics_alone_and_looks_through_them():
    learner = agent(critic_learning_rate=RATE, ent_coef=0.0)
    before = [p.detach().clone() for p in learner.critic.parameters]
    actor_before = [p.detach().clone() for p in learner.actor.parameters]
    learner.update_(batch(), noise())
    assert all(map(torch.equal, before, learner.critic.parameters))
    # With alpha = 0 nothing but dQ/da can have moved the actor.
    assert not any(map(torch.equal, actor_before, learner.actor.parameters))


def test_09_the_actor_climbs_the_least_online_critic_and_not_a_target():
    learner = agent(ent_coef=0.0, critic_learning_rate=RATE)
    with torch.no_grad():  # targets far away: if they were asked, the loss would show it
        for p in learner.target_critic.parameters():
            p.add_(5.0)
    data, drawn = batch(), noise()
    action, _ = learner.actor(data.obs).rsample(drawn.now)
    q = let_cross(learner.critic.module, data.obs, action)
    metrics = learner.update_(data, drawn)
    assert metrics["train/actor_loss"].item() == pytest.approx(-q.amin(0).mean().item(), rel=1e-5)


def target_of(learner, data, drawn) -> float:
    return learner.update_(data, drawn)["train/target_q_mean"].item()


def test_10_the_target_is_the_least_target_critic_at_an_action_of_the_current_policy():
    learner = agent(ent_coef=0.3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in (*learner.target_critic.parameters(), *learner.actor.parameters):
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    data, drawn = batch(), noise()
    with torch.no_grad():
        a2, log_pi2 = learner.actor(data.next_obs).rsample(drawn.next)
        online = learner.critic(data.next_obs, a2)
    q2 = let_cross(learner.target_critic, data.next_obs, a2)
    expected = data.reward + 0.99 * (q2.amin(0) - 0.3 * log_pi2)
    assert (q2.amin(0) - online.amin(0)).abs().mean() > 0.1
    assert target_of(learner, data, drawn) == pytest.approx(expected.mean().item(), rel=1e-5)


def test_10_a_terminal_state_has_neither_value_nor_entropy():
    for alpha in (0.0, 10.0):
        data = batch(discount=0.0)
        found = target_of(agent(ent_coef=alpha), data, noise())
        assert found == pytest.approx(data.reward.mean().item(), abs=1e-6)


def test_10_targets_begin_as_copies_and_the_update_counter_is_global():
    learner = agent(target_update_interval=3, tau=1.0)
    pairs = list(zip(learner.critic.parameters, learner.target_critic.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    follows = []
    for k in range(7):
        learner.update_(batch(seed=k), noise(seed=k))
        follows.append(all(torch.equal(a, b) for a, b in pairs))
    assert follows == [False, False, True, False, False, True, False]
    # Update 8 of another process, not its first: the next copy is due at 9.
    resumed = agent(target_update_interval=3, tau=1.0)
    load_state_(resumed, state_of(learner))
    pairs = list(zip(resumed.critic.parameters, resumed.target_critic.parameters(), strict=True))
    for expected in (False, True):
        resumed.update_(batch(), noise())
        assert all(torch.equal(a, b) for a, b in pairs) == expected


@pytest.mark.parametrize("tau", [0.005, 0.5, 1.0])
def test_10_targets_move_by_tau_towards_the_online_critics(tau):
    learner = agent(tau=tau)
    before = [p.clone() for p in learner.target_critic.parameters()]
    learner.update_(batch(), noise())
    for old, new, online in zip(
        before, learner.target_critic.parameters(), learner.critic.parameters, strict=True
    ):
        torch.testing.assert_close(new, (1 - tau) * old + tau * online)


def test_11_a_column_against_a_vector_is_refused():
    b, column, ensemble = torch.zeros(3), torch.zeros(3, 1), torch.zeros(2, 3)
    for call in (
        lambda: td_target(column, b, b),
        lambda: soft_q_target(b, column, ensemble, b, 0.1),
        lambda: q_loss(ensemble, column),
        lambda: policy_loss(column, b, 0.1),
    ):
        with pytest.raises(ValueError, match="squeeze or index them"):
            call()


def test_11_shapes_inside_an_update():
    data = trained(TruncatingEnv, 40).training.memory.sample(5, torch.Generator().manual_seed(0))
    assert [tuple(x.shape) for x in data] == [(5, 2), (5, 1), (5,), (5,), (5, 2)]
    learner = agent(n_critics=3)
    policy = learner.actor(data.obs)
    action, log_prob = policy.rsample(torch.zeros(5, 1))
    assert (action.shape, log_prob.shape) == ((5, 1), (5,))
    assert learner.critic(data.obs, action).shape == (3, 5)


def test_12_the_replay_holds_raw_observations():
    data = rows(trained(TruncatingEnv, 20))
    assert data.obs.tolist() == [[1 + k // 5, k % 5] for k in range(20)]
    assert data.next_obs.tolist() == [[1 + k // 5, 1 + k % 5] for k in range(20)]


def test_13_a_saved_agent_lacks_nothing():
    learner = agent()
    for k in range(3):
        learner.update_(batch(seed=k), noise(seed=k))
    state = state_of(learner)
    names = {"temperature.log_alpha", "n_updates"}
    names |= {f"optim.temperature.log_alpha.{moment}" for moment in ("exp_avg", "exp_avg_sq", "step")}
    for part in ("net.0.weight", "net.0.bias", "net.4.weight", "net.4.bias"):
        names |= {f"{net}.{part}" for net in ("actor", "critic", "target_critic")}
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            names |= {f"optim.{net}.{part}.{moment}" for net in ("actor", "critic")}
    assert names <= state.keys()
    # Each of them matters: leave one as it is in a new agent, and the future is another.
    for name in names:
        whole, partial = agent(seed=8), agent(seed=8)
        load_state_(whole, state)
        load_state_(partial, {**state, name: state_of(partial)[name]})
        for each in (whole, partial):
            each.update_(batch(seed=9), noise(seed=9))
        ends = [torch.cat([v.flatten().double() for v in state_of(each).values()]) for each in (whole, partial)]
        assert not torch.equal(*ends), name


def test_13_a_saved_run_holds_every_random_stream():
    model = trained(EarlyEndingEnv, 40)
    streams = model.training.streams
    assert set(vars(streams)) == {"warm_up", "exploration", "replay", "update"}
    state = streams.state_dict()
    drawn = [torch.rand(3, generator=g) for g in vars(streams).values()]
    streams.load_state_dict(state)
    assert all(map(torch.equal, drawn, [torch.rand(3, generator=g) for g in vars(streams).values()]))
    assert len({d.sum().item() for d in drawn}) == 4


def test_13_state_of_another_configuration_is_refused():
    with pytest.raises(CheckpointError, match="differ in 4 tensors") as error:
        load_state_(agent(ent_coef=0.1), state_of(agent()))
    assert str(error.value) == (
        "the saved agent and this configuration differ in 4 tensors, first 'optim.temperature.log_alpha.exp_avg'; "
        "expected the same names; load it with the configuration it was saved with"
    )


@pytest.mark.parametrize(("kind", "low", "high"), [("clamp", -20.0, 2.0), ("tanh", -5.0, 2.0)])
def test_14_log_sigma_is_bounded_and_evaluation_is_the_tanh_of_the_mean(kind, low, high):
    learner = agent(log_std=kind)
    with torch.no_grad():
        learner.actor.module.net[-1].weight.normal_(0.0, 1e4, generator=torch.Generator().manual_seed(1))
    obs = batch(256).obs
    policy = learner.actor(obs)
    assert policy.log_std.min().item() == pytest.approx(low)
    assert policy.log_std.max().item() == pytest.approx(high)
    assert torch.equal(learner.act(obs, None), policy.mean.tanh())


def test_15_noise_is_new_in_every_call():
    learner, generator = agent(), torch.Generator().manual_seed(0)
    obs = torch.zeros(1, 2)
    actions = torch.cat([learner.act(obs, learner.act_noise(1, generator, Moment(0))) for _ in range(64)])
    assert actions.std() > 0.05
    for first, second in pairwise(learner.update_noise(4, generator) for _ in range(3)):
        assert not torch.equal(first.now, first.next)
        assert not torch.equal(first.now, second.now)
        assert not torch.equal(first.next, second.next)


def test_15_an_update_is_a_function_of_batch_and_noise():
    torch.manual_seed(0)
    first = agent()
    first.update_(batch(), noise())
    torch.manual_seed(1)
    second = agent()
    second.update_(batch(), noise())
    assert all(map(torch.equal, state_of(first).values(), state_of(second).values()))


def test_16_the_critic_loss_is_half_the_squared_error_also_where_it_is_large():
    q, target = torch.tensor([[100.0]]), torch.tensor([0.0])
    assert q_loss(q, target).item() == 5_000.0
    assert huber_loss(q[0], target).item() == 99.5
    data, learner = batch(), agent(ent_coef=0.0)
    with torch.no_grad():
        a2, _ = learner.actor(data.next_obs).rsample(noise().next)
        y = 1000.0 + 0.99 * learner.target_critic(data.next_obs, a2).amin(0)
        expected = 0.5 * (learner.critic(data.obs, data.action) - y).square().mean(1).sum()
    data = data._replace(reward=torch.full((32,), 1000.0))
    assert learner.update_(data, noise())["train/critic_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_18_each_gradient_step_draws_a_new_batch():
    model = Model(Counts, EarlyEndingEnv, **SMALL | {"gradient_steps": 3}).learn(40)
    assert len(model.agent.seen) == 3 * 24
    assert not any(torch.equal(a, b) for a, b in pairwise(model.agent.seen))


@given(length=st.integers(1, 7), n_steps=st.integers(1, 9), ending=st.sampled_from(["terminated", "truncated"]))
def test_18_n_steps_stop_at_both_kinds_of_end(length, n_steps, ending):
    model = SAC(lambda: CountingEnv(length, ending), n_steps=n_steps, gamma=0.5, **SMALL | {"learning_starts": 99})
    data = rows(model.learn(2 * length))
    assert len(data.reward) == 2 * length
    steps = data.next_obs[:, 1] - data.obs[:, 1]
    assert torch.equal(steps, (length - data.obs[:, 1]).clamp(max=n_steps))
    over = (data.next_obs[:, 1] == length) & (ending == "terminated")
    assert torch.equal(data.discount, torch.where(over, 0.0, 0.5**steps))


def test_18_a_small_replay_forgets_the_oldest_and_no_more():
    model = trained(TruncatingEnv, 64, buffer_size=20)
    data = rows(model)
    assert [(e, t) for e, t in data.obs.int().tolist()] == [(1 + k // 5, k % 5) for k in range(44, 64)]
