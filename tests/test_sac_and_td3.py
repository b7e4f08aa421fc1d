"""SAC without its noise and entropy is TD3 without smoothing and delay: to rounding, and in nothing else.

With tau = 1 TD3's target actor is its actor, and with one critic (or twins that agree) its first critic is the
least. What is left between the two algorithms is taken away, and given back, one thing at a time.
"""

import pytest
import torch

from plain import CONTINUOUS, make_agent
from softac.agents.sac import Noise
from softac.learning.state import load_state_, state_of
from softac.types import Transition

pytestmark = pytest.mark.usefixtures("float64")

ROUNDING = 1e-12


def twins(sac_config=None, td3_config=None, **both):
    """A SAC and a TD3 agent with the same weights: SAC's means are TD3's actor, the critics are the same."""
    both = {"net_arch": (8, 6), "learning_rate": 1e-2, "tau": 1.0, "n_critics": 1} | both
    sac = make_agent("sac", CONTINUOUS, **both | {"ent_coef": 0.0} | (sac_config or {}))
    td3 = make_agent(
        "td3", CONTINUOUS, **both | {"policy_delay": 1, "target_policy_noise": 0.0} | (td3_config or {})
    )
    state, given = state_of(td3), state_of(sac)
    for name in state:
        if name.split(".")[0] in ("actor", "critic", "target_actor", "target_critic"):
            origin = given[name.replace("target_actor", "actor")]
            state[name] = origin[..., : state[name].shape[-1]]  # of the last layer, the half of the means
    load_state_(td3, state)
    return sac, td3


def apart(sac, td3):
    """The largest difference of actor means, critics and targets, and of their first moments, by network.

    Adam's first step has the size of the learning rate whatever the gradient; its moment is a share of it.
    """
    found = {}
    theirs = state_of(td3)
    for name, tensor in state_of(sac).items():
        net = name.removeprefix("optim.").split(".")[0]
        if net in ("actor", "critic", "target_critic") and not name.endswith((".exp_avg_sq", ".step")):
            other = theirs[name]
            difference = (tensor[..., : other.shape[-1]] - other).abs().max().item()
            found[net] = max(found.get(net, 0.0), difference)
    return found


def run(sac, td3, updates=7, before_each=lambda sac, td3: None, sac_noise=0.0, smoothing=1.0):
    """The differences after each update on the same batch."""
    history = []
    for seed in range(updates):
        before_each(sac, td3)
        generator = torch.Generator().manual_seed(seed)
        obs, next_obs = torch.randn(2, 16, 3, generator=generator)
        action, now, following, drawn = torch.randn(4, 16, 2, generator=generator)
        reward, discount = torch.randn(16, generator=generator), 0.9 * (torch.rand(16, generator=generator) > 0.3)
        data = Transition(obs, action.tanh(), reward, discount, next_obs)
        sac.update_(data, Noise(sac_noise * now, sac_noise * following))
        td3.update_(data, smoothing * drawn)
        history.append(apart(sac, td3))
    return history


@pytest.mark.parametrize("log_std", ["clamp", "tanh"])
@pytest.mark.parametrize("n_critics", [1, 2])
def test_sac_without_noise_and_entropy_is_td3_without_smoothing_and_delay(n_critics, log_std):
    sac, td3 = twins({"log_std": log_std}, n_critics=n_critics)
    if n_critics == 2:  # equal twins, so that the first of them is the least
        for learner in (sac, td3):
            with torch.no_grad():
                for p in (*learner.critic.parameters, *learner.target_critic.parameters()):
                    p[1] = p[0]
    before = state_of(sac)
    for differences in run(sac, td3):
        assert max(differences.values()) < ROUNDING
    # And they have learned something.
    for net in ("actor", "critic", "target_critic"):
        moved = [(state_of(sac)[k] - v).abs().max() for k, v in before.items() if k.startswith(net)]
        assert max(moved) > 0.01


def lag(_, td3):
    """Take the lag of TD3's target actor away."""
    with torch.no_grad():
        for target, online in zip(td3.target_actor.parameters(), td3.actor.parameters, strict=True):
            target.copy_(online)


def always_due(_, td3):
    """Make every update one of those that move actor and targets."""
    td3.n_updates.fill_(1)


def lift_the_second(sac, td3):
    """Make the first critic the least one everywhere."""
    for learner in (sac, td3):
        with torch.no_grad():
            for net in (learner.critic.module.net, learner.target_critic.net):
                net[-1].bias[1] = 100.0


@pytest.mark.parametrize(
    ("config", "agree_at_first", "undo"),
    [
        # SAC's target takes the action of the actor as it is, TD3's of one that follows; they begin as one.
        ({"tau": 0.1}, {"actor", "critic", "target_critic"}, {"before_each": lag}),
        # SAC's actor climbs the least critic, TD3's the first one; the critics feel it an update later.
        ({"n_critics": 2}, {"critic", "target_critic"}, {"before_each": lift_the_second}),
        # TD3 asks its target around the action.
        ({"td3_config": {"target_policy_noise": 0.2}}, set(), {"smoothing": 0.0}),
        # TD3 leaves actor and targets as they are at every other update.
        ({"td3_config": {"policy_delay": 2}}, {"critic"}, {"before_each": always_due}),
    ],
    ids=["target actor", "Q_1", "smoothing", "delay"],
)
def test_each_thing_that_td3_has_and_sac_has_not_makes_a_difference_alone(config, agree_at_first, undo):
    history = run(*twins(**config))
    assert {net for net, difference in history[0].items() if difference < ROUNDING} == agree_at_first
    assert min(history[-1].values()) > 1e-6
    # It is this and nothing else: taken away, they agree again.
    for differences in run(*twins(**config), **undo):
        assert max(differences.values()) < ROUNDING


@pytest.mark.parametrize(
    ("sac_config", "noise"), [({}, 1.0), ({"ent_coef": 0.2}, 0.0)], ids=["sampled actions", "entropy"]
)
def test_each_thing_that_sac_has_and_td3_has_not_makes_a_difference_alone(sac_config, noise):
    for differences in run(*twins(sac_config), sac_noise=noise):
        assert min(differences.values()) > 1e-7
