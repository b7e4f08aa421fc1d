"""Engines and precision: the same update, executed in other ways."""

import logging
import os
import re
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from hashing import digests
from reliability_envs import tiny
from softac import PPO, SAC, TD3
from softac.agents.registry import AGENTS
from softac.errors import ConfigError
from softac.learning import private
from softac.learning.engine import (
    PAYS_FROM,
    Engine,
    choose_engine,
    what_compiling_lacks,
)
from softac.learning.graphs import Recording, prepare_compiler
from softac.learning.learner import Learner
from softac.learning.products import onednn_is_ahead
from softac.learning.state import state_of
from softac.nets.layers import Linear, mlp, round_hidden_products
from softac.run.numerics import WORTH_A_THREAD, usual_threads
from softac.types import EnvSpec, Transition

CPU = torch.device("cpu")
# rebrac, whose batches tell of one action more, has its own test.
OFF_POLICY = [name for name, agent in AGENTS.items() if not agent.on_policy and name != "rebrac"]
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
NO_COMPILER = pytest.mark.skipif(bool(what_compiling_lacks()), reason=what_compiling_lacks() or "none")
CONTINUOUS, DISCRETE = EnvSpec(5, 2), EnvSpec(5, 1, 3)


def agent(name: str, device: torch.device = CPU, **options: Any) -> Any:
    cls = AGENTS[name]
    spec = CONTINUOUS if "continuous" in cls.actions else DISCRETE
    weights = torch.Generator().manual_seed(0)
    return cls(spec, cls.Config(**{"net_arch": (32, 32)} | options), generator=weights, device=device)


def batches(n: int, discrete: bool, size: int = 16) -> list[Transition]:
    generator = torch.Generator().manual_seed(1)
    normal = partial(torch.randn, generator=generator)
    return [
        Transition(
            normal(size, 5),
            torch.randint(3, (size, 1), generator=generator).float() if discrete else normal(size, 2).tanh(),
            normal(size),
            torch.full((size,), 0.99),
            normal(size, 5),
        )
        for _ in range(n)
    ]


def assert_parity(name: str, engine: str, device: torch.device = CPU, **options: Any) -> None:
    """From the same state, batches and noise: the same metrics, parameters, moments and counters."""
    reference, other = agent(name, device, **options), agent(name, device, **options)
    eager, engine_ = Engine(reference), Engine(other, engine)
    noise = torch.Generator().manual_seed(2)
    for on_cpu in batches(9 if engine == "cudagraph" else 4, "discrete" in reference.actions):
        rows = torch.cat([tensor.reshape(16, -1) for tensor in on_cpu], -1).to(device)
        # As a replay has them: parts of one table.
        parts = rows.split([tensor[0].numel() for tensor in on_cpu], -1)
        batch = Transition(*(part.view(tensor.shape) for part, tensor in zip(parts, on_cpu, strict=True)))
        drawn = reference.update_noise(16, noise)
        expected, found = eager.update_(batch, drawn), engine_.update_(batch, drawn)
        assert engine_.name == engine
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=2e-5, atol=2e-6, msg=lambda t, k=key: f"{k}: {t}")
            assert not found[key].requires_grad
        state = state_of(other)
        for key, value in state_of(reference).items():
            torch.testing.assert_close(state[key], value, rtol=2e-5, atol=5e-6, msg=lambda t, k=key: f"{k}: {t}")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "softac"]


@NO_COMPILER
@pytest.mark.parametrize("name", OFF_POLICY)
def test_compiled_updates_are_the_eager_ones_to_rounding(name: str) -> None:
    assert_parity(name, "compiled", **({"target_update_interval": 3, "tau": 0.5} if name == "dqn" else {}))


@NO_COMPILER
@pytest.mark.parametrize("ahead", [True, False])
def test_products_are_made_by_whom_the_processor_favours(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = private.products_by_onednn
    monkeypatch.setattr(private, "products_by_onednn", lambda: made.append(1) or make())
    monkeypatch.setattr("softac.learning.graphs.onednn_is_ahead", lambda: ahead)
    monkeypatch.setattr(private, "LARGE", 16)
    assert_parity("crossq", "compiled", net_arch=(32, 48))  # products, stacks of two, biases
    assert made == [1] * ahead


OPTIONS = [
    ("sac", {"ent_coef": 0.2}),
    ("sac", {"log_std": "tanh", "alpha_loss": "log_alpha", "actor_q": "mean", "n_critics": 1}),
    ("sac", {"target_update_interval": 2}),
    ("sac_mixture", {"actor_gradient": "score_function", "n_components": 2}),
    ("sac_mixture", {"target_update_interval": 2, "ent_coef": 0.1}),
    ("sac_discrete", {"target_update_interval": 2}),
    ("sac_v", {"ent_coef": 0.3}),
    ("dqn", {"double": False, "dueling": True, "max_grad_norm": 0.01}),
    ("td3", {"policy_delay": 3}),
    ("crossq", {"target_network": True, "policy_delay": 1, "ent_coef": 0.2}),
    ("crossq", {"n_critics": 1, "net_arch": (32, 16, 32), "critic_net_arch": (16, 24)}),
    ("xqc", {"target_network": False, "n_atoms": 11, "policy_delay": 3}),
    ("gamid_pg", {"n_components": 3, "ent_coef": 0.2}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_every_option_is_one_graph(name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    traced = partial(torch.compile, backend="aot_eager")

    def without_code(function: Any, *, fullgraph: bool, dynamic: bool, options: Any) -> Any:
        assert set(options) - {"post_grad_custom_post_pass"} == {"guard_filter_fn", "cpp_wrapper"}
        assert options["cpp_wrapper"] is True
        return traced(function, fullgraph=fullgraph, dynamic=dynamic)

    monkeypatch.setattr("torch.compile", without_code)
    assert_parity(name, "compiled", **options)


@NO_CUDA
@pytest.mark.parametrize("engine", ["compiled", "cudagraph"])
@pytest.mark.parametrize("name", OFF_POLICY)
def test_engines_agree_on_a_gpu(name: str, engine: str) -> None:
    assert_parity(name, engine, torch.device("cuda"))


class Recorder:
    """Stands in for CUDA graphs: what is recorded is executed when it is replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[int, ...]] = []
        self.recording = False
        for name in ("CUDAGraph", "Stream", "current_stream"):
            monkeypatch.setattr(f"torch.cuda.{name}", lambda: self)
        monkeypatch.setattr("torch.cuda.current_blas_handle", lambda: None)
        for name in ("device", "stream"):
            monkeypatch.setattr(f"torch.cuda.{name}", lambda _: nullcontext())
        monkeypatch.setattr("torch.cuda.graph", lambda graph, stream: self.record())

    @contextmanager
    def record(self) -> Iterator[None]:
        self.recording = True
        yield
        self.recording = False

    def wait_stream(self, _: Any) -> None: ...

    def function(self, batch: Transition, flag: bool) -> dict[str, Tensor]:
        self.batch, self.result = batch, {"sum": torch.zeros(())}
        self.seen.append(tuple(t.data_ptr() for t in batch) + batch.obs.stride())
        if not self.recording:
            self.replay()
        return self.result

    def replay(self) -> None:
        self.result["sum"].copy_(self.batch.obs.sum())


def test_a_recording_is_of_places_that_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    recording = Recording(recorder.function, CPU)
    for turn, batch in enumerate(batches(7, discrete=False)):
        rows = torch.cat([batch.obs, batch.action], -1)  # as a replay has them: parts of one table
        found = recording(batch._replace(obs=rows[:, :5]), True)
        torch.testing.assert_close(found["sum"], batch.obs.sum())
        assert len(recorder.seen) == min(turn + 1, 4)
    assert len(set(recorder.seen)) == 1


class Asks:
    """An agent whose update asks for a number, which no graph can answer."""

    on_policy, device = False, CPU

    def __init__(self) -> None:
        self.net = Learner(torch.nn.Linear(5, 1), 0.1)
        self.asked = 0

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        return obs

    def update_(self, batch: Transition, noise: None) -> dict[str, Tensor]:
        loss = self.net(batch.obs).square().mean()
        self.net.descend(loss)
        self.asked += loss.item() > 0.0
        return {"train/loss": loss.detach()}


def test_what_does_not_compile_goes_on_eagerly_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    stubborn = Asks()
    engine = Engine(stubborn, "compiled")  # type: ignore[arg-type]
    weights = [p.detach().clone() for p in stubborn.net.parameters]
    for batch in batches(2, discrete=False):
        engine.update_(batch, None)
    assert engine.name == "eager"
    assert stubborn.asked == 2
    assert all(step == 2 for step in stubborn.net.steps)
    assert not torch.equal(weights[0], stubborn.net.parameters[0])
    (message,) = said(caplog)
    assert re.fullmatch(
        r"updates could not be compiled \(Could not guard on data-dep.*\); going on eagerly, not bit for bit",
        message,
    ), message


def chosen(asked: str, planned: int, name: str = "sac", device: str = "cpu") -> tuple[str, str]:
    found = agent(name) if not AGENTS[name].on_policy else Asks()
    found.on_policy = AGENTS[name].on_policy
    found.device = torch.device(device)
    return choose_engine(asked, found, planned)


@NO_COMPILER
def test_the_rule_for_the_engine() -> None:
    assert chosen("auto", PAYS_FROM - 1) == ("eager", "9,999 updates do not pay for compiling, 10,000 do")
    assert chosen("auto", PAYS_FROM) == ("compiled", "10,000 updates pay for it")
    assert chosen("auto", 10**6, "ppo") == ("eager", "on-policy updates are not compiled")
    assert chosen("auto", PAYS_FROM - 1, device="cuda")[0] == "eager"
    assert chosen("auto", PAYS_FROM, device="cuda") == ("cudagraph", "10,000 updates pay for it")
    assert chosen("eager", 10**6) == ("eager", "as asked")
    assert chosen("compiled", 1) == ("compiled", "as asked")
    assert chosen("cudagraph", 1, device="cuda") == ("cudagraph", "as asked")
    none = "there is no GPU for CUDA graphs, and"
    assert chosen("cudagraph", 1) == ("eager", f"{none} 1 updates do not pay for compiling, 10,000 do")
    assert chosen("cudagraph", PAYS_FROM) == ("compiled", f"{none} 10,000 updates pay for it")


def test_without_a_compiler_a_run_is_eager_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    missing = "there is no C++ compiler no-such-compiler (Debian: apt install g++)"
    assert what_compiling_lacks() == missing
    assert chosen("auto", 10**6) == ("eager", missing)
    model = tiny("Pendulum-v1", engine="compiled").learn(40, run_dir=tmp_path / "run", n_eval_episodes=0)
    assert said(caplog) == [f"updates are executed eagerly and not compiled: {missing}"]
    assert model.training is not None
    assert model.training.engine.name == "eager"
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    if not what_compiling_lacks().startswith("there is no C++"):
        assert what_compiling_lacks() == "Python's headers are missing (Debian: apt install python3-dev)"


@pytest.mark.parametrize("engine", ["compiled", "cudagraph"])
def test_on_policy_updates_are_not_compiled(engine: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PPO("CartPole-v1", engine=engine)
    assert str(caught.value) == (
        f"engine='{engine}' was given for an on-policy algorithm; expected one that learns from a replay: its "
        "update is one graph; leave engine out"
    )


def test_cuda_graphs_need_a_gpu() -> None:
    with pytest.raises(ConfigError) as caught:
        SAC("Pendulum-v1", engine="cudagraph", device="cpu")
    assert str(caught.value) == ("engine='cudagraph' was given on the cpu; expected a CUDA device; use 'compiled'")


def test_auto_is_decided_once_and_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    model = tiny("Pendulum-v1").learn(40, run_dir=run, n_eval_episodes=0)
    assert model.run.engine == "eager"
    assert '"engine": "eager"' in (run / "config.json").read_text()
    monkeypatch.setattr("softac.learning.engine.PAYS_FROM", 0)
    assert SAC.load(run).learn(40, run_dir=run, n_eval_episodes=0).run.engine == "eager"


def test_a_model_saved_before_it_learned_keeps_the_description_it_was_saved_with(tmp_path: Path) -> None:
    tiny("Pendulum-v1").save(tmp_path / "model")
    before = (tmp_path / "model" / "config.json").read_text()
    assert '"engine": "auto"' in before
    model = SAC.load(tmp_path / "model").learn(40)
    assert model.training is not None
    assert model.training.engine.name == "eager"
    assert model.run.engine == "auto"


def test_another_engine_than_before_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("CXX", "no-such-compiler")
    tiny("Pendulum-v1", engine="compiled").learn(40, run_dir=run, n_eval_episodes=0)
    caplog.clear()
    monkeypatch.setattr("softac.learning.engine.what_compiling_lacks", lambda: "")
    model = SAC.load(run).learn(0 + 1, run_dir=run, n_eval_episodes=0)
    assert said(caplog) == ["continuing, not bit for bit: engine was eager and is compiled"]
    assert model.run.engine == "compiled"


def test_what_was_chosen_and_why_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "softac"):
        tiny("Pendulum-v1").learn(40)
    (message,) = said(caplog)
    assert re.fullmatch(
        r"engine eager \(\d+ updates do not pay for compiling, 10,000 do\), threads 1, float32", message
    )


@NO_COMPILER
@pytest.mark.parametrize(
    ("engine", "precision"), [("compiled", "float32"), ("compiled", "bf16"), ("eager", "bf16")]
)
def test_resume_gives_the_same_bits(engine: str, precision: str, tmp_path: Path) -> None:
    arguments = {"engine": engine, "precision": precision, "net_arch": [16, 16]}
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    frequencies = {"eval_freq": 60, "n_eval_episodes": 1, "save_freq": 45}
    tiny("Pendulum-v1", **arguments).learn(130, run_dir=whole, **frequencies)
    tiny("Pendulum-v1", **arguments).learn(77, run_dir=halves, **frequencies)
    SAC.load(halves).learn(53, run_dir=halves, **frequencies)
    assert digests(halves) == digests(whole)


@NO_COMPILER
def test_delayed_updates_resume_between_their_turns(tmp_path: Path) -> None:
    """Four calls of `learn` stop after each turn of a delay of three."""
    arguments: dict[str, Any] = {
        "engine": "compiled", "net_arch": [8, 8], "batch_size": 8, "learning_starts": 10, "policy_delay": 3,
    }  # fmt: skip
    whole = TD3("Pendulum-v1", **arguments).learn(33)
    legs = TD3("Pendulum-v1", **arguments)
    for leg in (20, 1, 1, 11):
        legs.save(tmp_path / "model")
        legs = TD3.load(tmp_path / "model").learn(leg) if legs.num_timesteps else legs.learn(leg)
    state = state_of(legs.agent)
    assert all(torch.equal(state[name], tensor) for name, tensor in state_of(whole.agent).items())


def test_the_compiler_keeps_its_files_in_the_users_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/caches")
    for given, place in (
        (None, "/home/me/caches/softac/compiled"),
        (default_cache_dir(), "/home/me/caches/softac/compiled"),
        ("/elsewhere", "/elsewhere"),
    ):
        if given is None:
            monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        else:
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", given)
        prepare_compiler()
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == place


def test_only_products_between_hidden_layers_are_rounded() -> None:
    net = mlp((3, 8, 8, 8, 2), generator=torch.Generator().manual_seed(0), members=2)
    assert round_hidden_products(net) == 2
    assert [layer.rounded for layer in net if isinstance(layer, Linear)] == [False, True, True, False]
    assert round_hidden_products(mlp((3, 8, 2), generator=torch.Generator())) == 0


def test_a_rounded_product_is_that_of_rounded_factors() -> None:
    layer = Linear(7, 5, generator=torch.Generator().manual_seed(0), members=2)
    x = torch.randn(2, 32, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    exact = layer(x)
    layer.rounded = True
    y = layer(x)
    assert y.dtype == torch.float32
    nearest = torch.matmul(x.bfloat16().double(), layer.weight.bfloat16().double())
    torch.testing.assert_close(
        y.double() - layer.bias.double(), nearest.bfloat16().double(), rtol=2**-8, atol=1e-6
    )
    assert 1e-5 < (y - exact).abs().max() < 0.02
    torch.testing.assert_close(layer(x[:, :31]), exact[:, :31])
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, layer.weight.sum(-1)[:, None].expand_as(x), rtol=0.02, atol=0.01)


def test_in_bf16_parameters_moments_targets_and_log_probabilities_stay_float32() -> None:
    model = tiny("Pendulum-v1", precision="bf16", net_arch=[16, 16]).learn(40)
    assert {t.dtype for n, t in state_of(model.agent).items() if n != "n_updates"} == {torch.float32}
    agent_: Any = model.agent
    policy = agent_.actor(torch.zeros(4, 3))
    assert policy.mean.dtype == policy.log_std.dtype == torch.float32
    assert agent_.target_critic(torch.zeros(4, 3), torch.zeros(4, 1)).dtype == torch.float32
    rounded = [m.rounded for m in agent_.target_critic.modules() if isinstance(m, Linear)]
    assert rounded == [False, True, False]


def test_bf16_needs_two_hidden_layers() -> None:
    with pytest.raises(ConfigError) as caught:
        SAC("Pendulum-v1", precision="bf16", net_arch=[64])
    assert str(caught.value) == (
        "precision='bf16' was given and sac has no product between hidden layers, which is what it rounds; "
        "expected two hidden layers or more; leave precision out"
    )


def test_threads_follow_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr("softac.run.numerics.onednn_is_ahead", lambda: False)
    assert usual_threads(100, (64, 64)) == 1
    assert usual_threads(256, (256, 256)) == 256**3 // WORTH_A_THREAD == 4
    assert usual_threads(4096, (256, 256)) == 8
    assert usual_threads(256, (1024,)) == 1
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    assert usual_threads(256, (256, 256)) == 2


def test_a_thread_does_more_where_onednn_makes_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr("softac.run.numerics.onednn_is_ahead", lambda: True)
    assert usual_threads(256, (256, 256)) == 1
    assert usual_threads(256, (512, 512)) == 4
    assert usual_threads(256, (256, 256), may_compile=False) == 4
    wide: Any = {"net_arch": [256, 256], "batch_size": 256, "buffer_size": 256}
    assert tiny("Pendulum-v1", **wide).threads == 1
    assert tiny("Pendulum-v1", **wide, engine="eager").threads == 4


ZEN_5 = {"sse4a": True, "avx512_vp2intersect": True, "avx512_bf16": True}


@pytest.mark.parametrize(
    ("can", "expected"),
    [
        (ZEN_5, True),
        (ZEN_5 | {"avx512_vp2intersect": False}, False),  # Zen 4
        (ZEN_5 | {"sse4a": False}, False),  # Intel's that have it
        ({"neon": True}, False),
    ],
)
def test_where_onednn_is_ahead(can: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: True)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: can, raising=False)
    assert onednn_is_ahead() is expected
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: False)
    assert not onednn_is_ahead()


def test_a_pytorch_that_cannot_tell_what_the_processor_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.cpu.get_capabilities", raising=False)
    assert not onednn_is_ahead()
