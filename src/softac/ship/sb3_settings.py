"""The settings of Stable-Baselines3's models, by their names here."""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from softac.envs import Spaces
from softac.errors import CheckpointError, ConfigError
from softac.ship.torch_files import Call, read_instructions
from softac.words import clean

Data = Mapping[str, Any]

MODULES = {
    "stable_baselines3.sac.policies": "sac",
    "stable_baselines3.td3.policies": "td3",
    "stable_baselines3.dqn.policies": "dqn",
    "stable_baselines3.common.policies": "ppo",
}
ACTIVATIONS = {"ReLU": "relu", "Tanh": "tanh", "ELU": "elu", "SiLU": "silu"}
USUAL = {"sac": "ReLU", "td3": "ReLU", "ddpg": "ReLU", "dqn": "ReLU", "ppo": "Tanh", "a2c": "Tanh"}
# What changes no policy here, or is looked at by itself.
KNOWN_KWARGS = frozenset(
    "activation_fn clip_mean features_extractor_class features_extractor_kwargs full_std log_std_init n_critics "  # noqa: SIM905
    "net_arch normalize_images optimizer_class optimizer_kwargs ortho_init sde_net_arch share_features_extractor "
    "squash_output use_expln use_sde".split()
)
EXTRACTORS = ("FlattenExtractor", "CombinedExtractor")
LARGEST = 2**63  # of all numbers; the time a model was begun, in nanoseconds, is below
TRAIN_FREQ, PER_STEP = "stable_baselines3.common.type_aliases TrainFreq", "step"
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf", re.ASCII)
CONSTANT = re.compile(r"ConstantSchedule\(val=([^)]*)\)", re.ASCII)


@dataclass
class Settings:
    """What a model of Stable-Baselines3 was set to.

    Attributes:
        algorithm: its name here.
        hyperparameters: by their names here.
        n_envs: environments stepped in each round.
        seed: 0 where there was none.
        steps: environment steps it has made there.
        notes: what cannot come, a sentence each.
    """

    algorithm: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 1
    seed: int = 0
    steps: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, name: str, value: Any, here: str) -> None:
        """Something cannot be here what it was there."""
        self.notes.append(f"{name} was {clean(value, 80)}: {here}")


def find_algorithm(data: Data, where: str) -> str:
    """The name of the algorithm here.

    Raises:
        ConfigError: it is none of the six, or its policy is of a class of somebody's own.
    """
    module = str(_told(data.get("policy_class"), "__module__"))
    name = MODULES.get(module, "")
    if not name:
        raise ConfigError(
            f"{where} has a policy of {clean(module)}",
            "expected SAC, TD3, DDPG, DQN, PPO or A2C of Stable-Baselines3, with a policy of its own",
            "train such a policy here from the start",
        )
    if name == "ppo" and "n_epochs" not in data:
        return "a2c"
    # There DDPG is a TD3 without what makes it one.
    if name == "td3" and data.get("policy_delay") == 1 and data.get("target_noise_clip") == 0.0:
        return "ddpg"
    return name


def require_plain(data: Data, algorithm: str, where: str) -> None:
    """Refuse what would make another policy of the same tensors.

    Raises:
        ConfigError: gSDE, an activation that is none here, a features extractor of its own, and the like.
    """
    kwargs = _policy_kwargs(data)
    odd = sorted(name for name in set(kwargs) - KNOWN_KWARGS if not name.startswith(":"))
    activation = _activation(data, algorithm)
    extractor = str(kwargs.get("features_extractor_class", EXTRACTORS[0]))
    wrong = ""
    if _true(data.get("use_sde")) or _true(kwargs.get("use_sde")):
        wrong = "uses gSDE (use_sde), whose noise depends on the state"
    elif _true(kwargs.get("squash_output")):
        wrong = "squashes the actions of a policy that is not squashed here (squash_output)"
    elif activation not in ACTIVATIONS:
        wrong = f"has the activation {clean(activation)}, not {', '.join(ACTIVATIONS)}"
    elif not any(extractor.rstrip("'>").endswith(usual) for usual in EXTRACTORS):
        wrong = f"has a features extractor of its own ({clean(extractor)})"
    elif odd:
        wrong = f"has policy_kwargs that mean nothing here ({clean(', '.join(odd))})"
    if wrong:
        raise ConfigError(
            f"{where} {wrong}",
            "expected fully connected networks, of any widths",
            "train such a policy here from the start",
        )


def _policy_kwargs(data: Data) -> Mapping[str, Any]:
    kwargs = data.get("policy_kwargs")
    return kwargs if isinstance(kwargs, dict) else {}


def _activation(data: Data, algorithm: str) -> str:
    """The name of its class, or what else is told of it."""
    told = str(_policy_kwargs(data).get("activation_fn", USUAL[algorithm]))
    module, _, name = told.removeprefix("<class '").removesuffix("'>").rpartition(".")
    return name if module in ("", "torch.nn.modules.activation") else told


def require_bounds(data: Data, spaces: Spaces, env: str, where: str) -> None:
    """Refuse an environment whose actions have other bounds than those the policy was trained with.

    Raises:
        ConfigError: it has; the file tells its bounds as text, to eight digits.
    """
    for name, here in (("low", spaces.low), ("high", spaces.high)):
        text = str(_told(data.get("action_space"), name))
        there = np.array([float(number) for number in NUMBER.findall(text)])
        if "..." in text or not len(here) or not len(there):
            continue
        if there.shape != here.shape or not np.allclose(there, here, rtol=1e-5, atol=1e-6):
            raise ConfigError(
                f"{where} was trained with actions whose {name} is {clean(text)}, and in {env} it is "
                f"{clean(np.array2string(here))}",
                "expected the same bounds, which its actions are scaled to",
                "name the environment it was trained in",
            )


def read_settings(data: Data, algorithm: str) -> Settings:
    """The hyperparameters, as far as they are told; of the rest one note each.

    Raises:
        CheckpointError: a number is none that a model can have been trained with.
    """
    for name, value in data.items():
        if isinstance(value, int | float) and abs(value) > LARGEST:
            raise _refusal(name, value)
    settings = Settings(algorithm)
    whole = {name: _whole(data.get(name)) for name in ("n_envs", "seed", "num_timesteps")}
    settings.n_envs, settings.steps = whole["n_envs"] or 1, whole["num_timesteps"] or 0
    settings.seed = (whole["seed"] or 0) % 2**32
    _copy(settings, data, "gamma", "n_steps")
    _set(settings, data, "learning_rate", _constant(data, "learning_rate", "lr_schedule"), "a schedule")
    settings.hyperparameters["activation"] = ACTIVATIONS[_activation(data, algorithm)]
    {"sac": _sac, "td3": _td3, "ddpg": _ddpg, "dqn": _dqn, "ppo": _ppo, "a2c": _a2c}[algorithm](settings, data)
    return settings


def _sac(settings: Settings, data: Data) -> None:
    _off_policy(settings, data)
    _copy(settings, data, "ent_coef", "target_entropy", "target_update_interval")
    settings.hyperparameters["alpha_loss"] = "log_alpha"


def _td3(settings: Settings, data: Data) -> None:
    _off_policy(settings, data)
    _copy(settings, data, "policy_delay", "target_policy_noise", "target_noise_clip")
    settings.hyperparameters["action_noise_std"] = 0.0
    if _kind(data.get("action_noise")) == "NormalActionNoise":
        _set(
            settings, data, "action_noise_std", _noise(data), "not one number for all actions", told="action_noise"
        )
    elif data.get("action_noise") is not None:
        settings.note("action_noise", _kind(data["action_noise"]), "it is left out; td3 has Gaussian noise")


def _ddpg(settings: Settings, data: Data) -> None:
    _off_policy(settings, data)
    noise, kind, std = data.get("action_noise"), _kind(data.get("action_noise")), _noise(data)
    settings.hyperparameters["action_noise_std"] = 0.0
    if kind == "OrnsteinUhlenbeckActionNoise" and std is not None:
        theta, dt = _first(_told(noise, "_theta")), _first(_told(noise, "_dt"))
        if dt is not None and dt < 0.0:
            raise _refusal("_dt of action_noise", dt)
        if theta is not None and dt is not None:
            ou = {"action_noise": "ou", "action_noise_std": std * math.sqrt(dt), "ou_theta": theta * dt}
            settings.hyperparameters |= ou
    elif kind == "NormalActionNoise" and std is not None:
        settings.hyperparameters["action_noise_std"] = std
    elif noise is not None:
        settings.note("action_noise", kind, "it is left out; give action_noise_std")


def _dqn(settings: Settings, data: Data) -> None:
    _off_policy(settings, data)
    _copy(settings, data, "max_grad_norm", "exploration_final_eps")
    now, share = _number(data.get("exploration_rate")), _number(data.get("exploration_fraction"))
    if now is not None and share is not None:
        # Exploration goes on where it was, not from the beginning.
        fades = share * (_number(data.get("_total_timesteps")) or 0) - settings.steps
        settings.hyperparameters |= {"exploration_initial_eps": now, "exploration_steps": max(0, round(fades))}
    interval = _number(data.get("target_update_interval"))
    if interval is not None:
        rate = settings.hyperparameters["gradient_steps"]
        settings.hyperparameters["target_update_interval"] = max(1, round(interval * rate))


def _ppo(settings: Settings, data: Data) -> None:
    _copy(settings, data, "gae_lambda", "ent_coef", "max_grad_norm", "normalize_advantage")
    _copy(settings, data, "batch_size", "n_epochs", "target_kl")
    _set(settings, data, "clip_range", _constant(data, "clip_range", "clip_range"), "a schedule")
    if data.get("clip_range_vf") is not None:
        settings.note("clip_range_vf", _kind(data["clip_range_vf"]), "values are not clipped here")
    _value_coefficient(settings, data)


def _a2c(settings: Settings, data: Data) -> None:
    _copy(settings, data, "gae_lambda", "ent_coef", "max_grad_norm")
    if _true(data.get("normalize_advantage")):
        settings.note("normalize_advantage", True, "a2c has it not; ppo has")
    kwargs = data.get("policy_kwargs")
    if "RMSprop" in str(_told(kwargs, "optimizer_class")):
        settings.note("the optimiser", "RMSprop", "it is Adam, whose step sizes are others")
    _value_coefficient(settings, data)


def _value_coefficient(settings: Settings, data: Data) -> None:
    if data.get("vf_coef", 0.5) != 0.5:
        settings.note("vf_coef", data["vf_coef"], "actor and critic have a learner each; see critic_learning_rate")


def _off_policy(settings: Settings, data: Data) -> None:
    _copy(settings, data, "buffer_size", "learning_starts", "batch_size", "tau")
    frequency, unit = _train_freq(data)
    if frequency is None or unit != PER_STEP:
        settings.note("train_freq", unit or "not told", "updates are made after every environment step")
    every = settings.n_envs * frequency if frequency is not None and unit == PER_STEP else 1
    updates = _whole(data.get("gradient_steps"), least=-1)
    rate = 1.0 if updates is None or updates < 0 or unit != PER_STEP else updates / every
    settings.hyperparameters |= {"train_freq": every, "gradient_steps": rate}


def _train_freq(data: Data) -> tuple[int | None, str]:
    """How often, and whether in steps or episodes; there is no other place for it than a pickle."""
    pickled = _told(data.get("train_freq"), ":serialized:")
    try:
        told = read_instructions(base64.b64decode(str(pickled), validate=True), "train_freq")
    except (binascii.Error, CheckpointError):
        told = None
    match told:
        case Call(name=name, arguments=(int(n), Call(arguments=(str(unit),)))) if (
            name == TRAIN_FREQ and 1 <= n <= LARGEST
        ):
            return n, unit
        case _:
            return None, ""


def _copy(settings: Settings, data: Data, *names: str) -> None:
    """What has the same name and meaning and is told as JSON."""
    for name in names:
        if isinstance(value := data.get(name), int | float | str):
            settings.hyperparameters[name] = value


def _set(settings: Settings, data: Data, name: str, value: float | None, else_: str, *, told: str = "") -> None:
    if value is not None:
        settings.hyperparameters[name] = value
    elif (told or name) in data:
        settings.note(told or name, else_, "the default is used")


def _constant(data: Data, name: str, schedule: str) -> float | None:
    """A number that may be given as a schedule which always says the same."""
    value = _number(data.get(name))
    constant = CONSTANT.search(str(_told(data.get(schedule), "value_schedule")))
    return value if value is not None or constant is None else _first(constant[1])


def _noise(data: Data) -> float | None:
    """The standard deviation of noise around 0 that is the same for all actions."""
    noise = data.get("action_noise")
    mean, sigma = ({float(n) for n in NUMBER.findall(str(_told(noise, part)))} for part in ("_mu", "_sigma"))
    return sigma.pop() if mean == {0.0} and len(sigma) == 1 else None


def _told(value: Any, name: str) -> Any:
    """What is told of an object that is pickled: its attributes, as JSON or as text."""
    return value.get(name, "") if isinstance(value, dict) else ""


def _kind(value: Any) -> str:
    """The name of an object's class."""
    return str(_told(value, ":type:")).rstrip("'>").rpartition(".")[2]


def _refusal(name: str, value: float) -> CheckpointError:
    return CheckpointError(
        f"{clean(name, 80)} of the model is {clean(value, 80)}",
        "expected a number that it can have been trained with",
        "save the model again with Stable-Baselines3",
    )


def _true(value: Any) -> bool:
    return str(value) == "True"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _first(text: Any) -> float | None:
    found = NUMBER.findall(str(text))
    return float(found[0]) if found else None


def _whole(value: Any, least: int = 0) -> int | None:
    return value if type(value) is int and value >= least else None
