"""The figures of the pages, drawn from the library, each for a light and a dark page.

    python docs/figures.py FOLDER        the build calls draw_all itself

A figure is a function that computes its data and returns a function that draws it into a matplotlib figure.
"""

import math
import runpy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from house import draw_house
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from softac.equations.distributions import Gaussian, SquashedGaussian
from softac.equations.entropy import entropy, gaussian_entropy, squashed_gaussian_entropy
from softac.equations.gradients import (
    quadratic_pathwise_variance,
    quadratic_score_function_variance,
    sine_pathwise_variance,
    sine_score_function_variance,
)
from softac.tabular import (
    LAYOUTS,
    MOVES,
    grid_cells,
    gridworld,
    random_mdp,
    soft_bellman_backup,
    soft_policy_evaluation_linear,
    soft_policy_iteration,
)

Draw = Callable[[Figure], None]

# Told apart by lightness as well as hue, and readable on white and on near-black.
BLUE, ORANGE, GREEN, PURPLE = "#3b82c4", "#e08214", "#2a9d8f", "#a05195"
INK = {"light": "#24292f", "dark": "#d6dbe1"}
FAINT = {"light": "#d5d9de", "dark": "#3a3f45"}


def draw_all(folder: Path, names: Iterable[str], endings: tuple[str, ...] = ("svg",)) -> None:
    """Write NAME-light and NAME-dark for every figure of `names` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        size, draw = FIGURES[name]()
        for theme in ("light", "dark"):
            with matplotlib.rc_context(style(theme)):
                figure = Figure(size, layout="constrained")
                draw(figure)
                for ending in endings:
                    metadata = {"Date": None} if ending == "svg" else None
                    figure.savefig(folder / f"{name}-{theme}.{ending}", dpi=110, metadata=metadata)


def style(theme: str) -> dict[str, object]:
    ink, faint = INK[theme], FAINT[theme]
    return {
        "savefig.transparent": True,
        "svg.hashsalt": "softac",
        "svg.fonttype": "path",
        "font.size": 10,
        "axes.titlesize": 10.5,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": faint,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
    }


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def number(x: torch.Tensor) -> str:
    return f"{x.item():.2f}".replace("-", "−")


def entropy_figure() -> tuple[tuple[float, float], Draw]:
    peaked, even = f64(0.02, 0.04, 0.82, 0.08, 0.03, 0.01), f64(0.15, 0.17, 0.19, 0.18, 0.16, 0.15)
    x = torch.linspace(-4.0, 4.0, 801, dtype=torch.float64)
    stds = {ORANGE: 0.18, BLUE: 1.2}

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for shift, p, colour, word in ((-0.2, peaked, ORANGE, "low"), (0.2, even, BLUE, "high")):
            label = f"{word}: H = {entropy(p):.2f} bits"
            left.bar(np.arange(1, 7) + shift, p, width=0.4, color=colour, label=label)
        left.set(xlabel="action", ylabel="probability", title="categorical", ylim=(0, 1.0))
        left.grid(visible=False, axis="x")
        for colour, std in stds.items():
            density = Gaussian(f64(0.0), f64(std).log()).log_prob(x[:, None]).exp()
            label = f"σ = {std}: H = {number(gaussian_entropy(f64(std)))} nats"
            right.plot(x, density, color=colour, label=label)
            right.fill_between(x, density, color=colour, alpha=0.25, linewidth=0)
        right.axhline(1.0, color=rcParams["text.color"], linewidth=0.8, linestyle=":")
        right.set(xlabel="action", ylabel="density", title="Gaussian", ylim=(0, 2.9), xlim=(-4, 4))
        for ax in (left, right):
            ax.legend(loc="upper right")

    return (8.0, 3.1), draw


def gridworld_figure() -> tuple[tuple[float, float], Draw]:
    layout, gamma = LAYOUTS["four-rooms"], 0.95
    mdp, cells = gridworld(layout, gamma), grid_cells(layout)
    solutions = {alpha: soft_policy_iteration(mdp, alpha) for alpha in (0.0, 0.01, 0.03, 0.1)}

    def draw(figure: Figure) -> None:
        dark_part = colormaps["viridis"](np.linspace(0.0, 0.75, 256))  # white spokes stay visible on it
        colours = ListedColormap(dark_part).with_extremes(bad=rcParams["grid.color"])
        for ax, (alpha, solution) in zip(figure.subplots(2, 2).flat, solutions.items(), strict=True):
            image = np.full((len(layout), len(layout[0])), np.nan)
            image[tuple(cells.T)] = np.where(mdp.terminal, np.nan, solution.V)
            ax.imshow(image, cmap=colours, interpolation="nearest")
            for a, move in enumerate(MOVES):  # a spoke from the centre of each cell, as long as the move is likely
                weight = np.where(mdp.terminal, 0.0, solution.pi[:, a])
                ends = cells + 0.46 * weight[:, None] * np.array(move)
                spokes = np.stack([cells, ends], axis=1)[weight > 0.02, :, ::-1]
                ax.add_collection(LineCollection(list(spokes), colors="white", linewidths=1.5, capstyle="round"))
            ax.scatter(*cells[~mdp.terminal].T[::-1], s=5, color="white", zorder=3, linewidths=0)
            row, column = cells[mdp.terminal][0]
            ax.text(column, row, "G", ha="center", va="center", fontweight="bold")
            row, column = cells[mdp.start > 0][0]
            ax.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, ec=ORANGE, lw=1.8))
            ax.set(title=f"α = {alpha:g}", xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)

    return (7.2, 7.5), draw


def contraction_figure() -> tuple[tuple[float, float], Draw]:
    curves = {}
    for gamma in (0.5, 0.8, 0.95):
        rng = np.random.default_rng(0)
        mdp = random_mdp(20, 4, gamma, rng)
        pi = rng.dirichlet(np.full(4, 0.5), size=20)
        pi /= pi.sum(-1, keepdims=True)
        exact = soft_policy_evaluation_linear(mdp, pi, 0.5).Q
        Q, errors = np.zeros_like(mdp.r), []
        for _ in range(61):
            errors.append(np.abs(Q - exact).max())
            Q = soft_bellman_backup(mdp, Q, pi, 0.5)
        curves[gamma] = np.array(errors) / errors[0]

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        k = np.arange(61)
        for (gamma, errors), colour in zip(curves.items(), (GREEN, BLUE, ORANGE), strict=True):
            ax.semilogy(k, errors, color=colour, label=f"γ = {gamma:g}")
            ax.semilogy(k, gamma**k, color=colour, linestyle="--", linewidth=1.0)
        ax.set(xlabel="sweeps k", ylabel="largest error of Q, relative to the first", ylim=(1e-9, 2), xlim=(0, 60))
        ax.legend(loc="upper right", ncols=3, bbox_to_anchor=(1.0, 1.12))

    return (6.4, 3.4), draw


def squashed_figure() -> tuple[tuple[float, float], Draw]:
    a = torch.linspace(-0.9995, 0.9995, 4001, dtype=torch.float64)
    cases = [(0.0, 0.3, GREEN), (0.0, 0.87, BLUE), (0.0, 3.0, ORANGE), (1.2, 0.5, PURPLE)]

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        for mean, std, colour in cases:
            density = SquashedGaussian(f64(mean), f64(std).log()).log_prob(a[:, None]).exp()
            H = squashed_gaussian_entropy(f64(mean), f64(std))
            ax.plot(a, density, color=colour, label=f"μ = {mean:g}, σ = {std:g}: H = {number(H)}")
        ax.axhline(
            0.5,
            color=rcParams["text.color"],
            linewidth=1.0,
            linestyle=":",
            label=f"uniform: H = log 2 = {math.log(2):.2f}",
        )
        ax.set(xlabel="action a = tanh(u)", ylabel="density", xlim=(-1, 1), ylim=(0, 2.9))
        ax.legend(loc="upper left")

    return (6.8, 3.6), draw


def variance_figure() -> tuple[tuple[float, float], Draw]:
    dims = np.arange(1, 18)
    quadratic = {"pathwise": [], "score function, b = E[q]": [], "score function, best b": []}
    for n in dims:
        offset, std = torch.full((int(n),), 0.5), torch.full((int(n),), 0.3)
        quadratic["pathwise"].append(quadratic_pathwise_variance(1.0, offset, std).mean[0])
        for name, baseline in (("score function, b = E[q]", "mean"), ("score function, best b", "optimal")):
            quadratic[name].append(quadratic_score_function_variance(1.0, offset, std, baseline).mean[0])
    w = torch.linspace(0.2, 20.0, 300, dtype=torch.float64)
    path = [sine_pathwise_variance(float(x), f64(0.0), f64(0.5)).mean.item() for x in w]
    score = [sine_score_function_variance(float(x), f64(0.0), f64(0.5)).mean.item() for x in w]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for (name, values), colour, line in zip(
            quadratic.items(), (BLUE, ORANGE, ORANGE), ("-", "-", "--"), strict=True
        ):
            left.plot(dims, values, line, color=colour, label=name)
        left.set(
            xlabel="dimensions of the action", ylabel="variance", title="q quadratic", xlim=(1, 17), ylim=(0, 6.5)
        )
        right.semilogy(w, path, color=BLUE, label="pathwise")
        right.semilogy(w, score, color=ORANGE, label="score function")
        right.set(xlabel="ω", title="q(a) = sin(ωa)", xlim=(0, 20), xticks=range(0, 21, 5))
        left.legend(loc="upper left")
        right.legend(loc="center right")

    return (8.0, 3.2), draw


def vae_figure() -> tuple[tuple[float, float], Draw]:
    vae = runpy.run_path(str(Path(__file__).parent / "theory" / "vae.py"))
    generator = torch.Generator().manual_seed(0)
    model = vae["train"](generator)
    unseen = vae["pictures"](10, generator)
    generated = model.generate(torch.randn(10, vae["LATENT"], generator=generator))
    rows = {"unseen": unseen, "reconstructed": model.reconstruct(unseen), "generated": generated}

    def draw(figure: Figure) -> None:
        grid: list[list[Axes]] = figure.subplots(3, 10)
        for axes, (name, images) in zip(grid, rows.items(), strict=True):
            axes[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
            for ax, image in zip(axes, images, strict=True):
                ax.imshow(image.reshape(vae["SIDE"], -1), cmap="magma", vmin=0, vmax=1, interpolation="nearest")
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
                ax.spines[:].set_visible(False)

    return (8.0, 2.4), draw


def house_figure() -> tuple[tuple[float, float], Draw]:
    def draw(figure: Figure) -> None:
        draw_house(figure, rcParams["grid.color"], (BLUE, ORANGE, GREEN, PURPLE))

    return (8.4, 8.2), draw


FIGURES = {
    "entropy": entropy_figure,
    "gridworld": gridworld_figure,
    "contraction": contraction_figure,
    "squashed": squashed_figure,
    "variance": variance_figure,
    "vae": vae_figure,
    "house": house_figure,
}

if __name__ == "__main__":
    draw_all(Path(sys.argv[1]), FIGURES, ("svg", "png"))
