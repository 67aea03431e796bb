"""Draw the figures of the book that no notebook draws: ``make figures``."""

from itertools import pairwise
from math import dist, inf
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from hvae_course import analysis, data, fit, objectives, plots, recipes
from hvae_course.gaussians import kl_normal
from hvae_course.hierarchy import Trace, hold
from hvae_course.oracles import LinearGaussian, SharedCause, optimise_link

FOLDER = Path(__file__).parent
PRIOR, POSTERIOR = plots.COLOURS["prior"], plots.COLOURS["posterior"]
plots.use_style()


def two_draws() -> None:
    """The trap: a pair drawn together, and the same z_2 with a second draw of z_1."""
    model, x = LinearGaussian((1.0, 0.9), (0.25, 0.19)), torch.tensor([[1.3]]).double()
    q1, q2 = model.posterior_chain()
    torch.manual_seed(0)
    first, second = (q1(x.expand(200, 1)).sample() for _ in range(2))
    z2 = q2(first).sample()
    line = torch.linspace(-1.1, 2.9, 2).double()
    spread = 2 * model.variances[1] ** 0.5
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.3), sharex=True, sharey=True)
    titles = ("$z_2$ drawn given this $z_1$", "$z_1$ drawn a second time")
    for panel, z1, title in zip(axes, (first, second), titles, strict=True):
        mean = model.slopes[1] * line
        panel.fill_between(line, mean - spread, mean + spread, color=PRIOR, alpha=0.13, lw=0)
        panel.plot(line, mean, color=PRIOR, lw=1)
        panel.plot(z2, z1, "o", color=POSTERIOR, alpha=0.7, mew=0)
        panel.set(xlabel="$z_2$", title=title, xlim=(line[0], line[-1]), ylim=(-0.5, 2.6))
    axes[0].set_ylabel("$z_1$")
    axes[0].text(2.85, -0.4, r"band: $p(z_1 \mid z_2)$", ha="right", color=PRIOR)
    figure.savefig(FOLDER / "two_draws.png")


def trap_data() -> None:
    """Both objectives over the slope of the link, where z_2 is not needed and where it is."""
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.9))
    slopes = torch.linspace(0, 0.99, 34, dtype=torch.float64)
    looks = (("elbo", "joint sample (ELBO)", "C0-"), ("closed_form", "closed-form KL", "C1--"))
    titles = ("one coordinate: $z_2$ is not needed", "eight coordinates: $z_2$ is needed")
    for panel, size, title in zip(axes, (1, 8), titles, strict=True):
        source = SharedCause(0.9, (0.25, 0.19), size)
        for objective, label, line in looks:
            best = optimise_link(objective, source, slope=slopes)
            learned = optimise_link(objective, source)
            panel.plot(slopes, getattr(best.terms, objective), line, label=label)
            end = getattr(learned.terms, objective)
            panel.plot(learned.model.slope, end, f"{line[:2]}o")
        panel.set(xlabel="slope $a$ from $z_2$ to $z_1$", title=title)
    axes[0].set_ylabel("best value [nats]")
    axes[0].legend(loc="lower left")
    figure.savefig(FOLDER / "trap_data.png")


def closed_form(trace: Trace, x: torch.Tensor) -> torch.Tensor:
    """The objective of chapter 1 that is not an ELBO.

    Args:
        trace: the model's trace of x.
        x: data ``(B, D)``.

    Returns:
        ``(B,)``, nats per example.
    """
    return trace.log_px(x) - sum(kl_normal(level.q, level.p) for level in trace.levels)


def landing() -> None:
    """Families of generated digits, and the information of z_2 under two objectives."""
    digits = data.load("digits")
    shape = {"width_ratios": [1.1, 1, 1]}
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5), gridspec_kw=shape)
    curves = ((objectives.elbo, "joint sample", "-"), (closed_form, "closed-form KL", "--"))
    for objective, name, style in curves:
        torch.manual_seed(0)
        model = recipes.two_level_vae(digits)
        history = fit(model, digits, objective=objective, epochs=60, progress=False)
        frame = history.frame.query("split == 'validation'").set_index("epoch")
        axes[1].plot(frame.query("quantity == 'objective'")["value"], style, label=name)
        axes[2].plot(frame.query("level == 2")["value"], style, label=name)
        if objective is objectives.elbo:
            z2 = analysis.sample(model, 4, seed=5).levels[1].z.repeat_interleave(4, dim=0)
            torch.manual_seed(0)
            images = model.generate(16, hold({2: z2})).px.mean.unflatten(0, (4, 4))
            plots.image_grid(images, digits.image_shape, axes=axes[0])
    axes[0].set_title("one row, one $z_2$")
    axes[1].set(xlabel="epoch", ylabel="nats per image", title="validation bound")
    axes[1].set_ylim(-118, -96)
    axes[2].set(xlabel="epoch", title="information of $z_2$")
    axes[2].set_ylim(0, None)
    axes[1].legend(loc="lower right")
    figure.get_layout_engine().set(wspace=0.06)
    figure.savefig(FOLDER / "landing.png")


def multipliers() -> None:
    """GECO and ReWO: the step of log beta, and where a model whose error rises with beta rests."""
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.7))
    rules = ((objectives.ReWO(0.1), "ReWO", "C0-"), (objectives.GECO(0.1), "GECO", "C1--"))
    rests = dict(zip(axes[1:], (0.4, 2.5), strict=True))
    for panel, rest in rests.items():
        panel.axhline(rest, color="0.6", lw=0.8)
        panel.text(800, rest * 1.1, "error $= \\kappa^2$", ha="right", fontsize=9)
    beta = torch.logspace(-2, 1, 200)
    for rule, name, line in rules:
        for violation in (-0.1, 0.1):
            step = rule(beta, torch.tensor(violation)).expand_as(beta)
            axes[0].semilogx(beta, step, line, label=name if violation < 0 else None)
        for panel, rest in rests.items():
            weight, weights = torch.tensor(0.01), []
            for _ in range(800):
                weights.append(weight.item())
                weight = weight * rule(weight, 0.2 * weight - 0.2 * rest).exp()
            panel.semilogy(weights, line, label=name)
    axes[0].text(0.011, 0.0105, "constraint holds", fontsize=9, va="bottom")
    axes[0].text(0.011, -0.0095, "violated (both)", fontsize=9, va="bottom")
    axes[0].axhline(0, color="0.6", lw=0.8)
    axes[0].set(xlabel="KL weight $\\beta$", ylabel="step $\\eta$ of $\\log \\beta$")
    axes[0].set_ylim(-0.012, 0.012)
    axes[0].set_title("the rules")
    axes[1].set(xlabel="step", ylabel="KL weight $\\beta$", title="a constraint that binds")
    axes[2].set(xlabel="step", title="a loose constraint")
    for panel in axes[1:]:
        panel.set_ylim(0.008, 5)
    axes[0].legend(loc="center left")
    figure.savefig(FOLDER / "multipliers.png")


def a_star() -> None:
    """A* on seven points around a hole, with one point inside it: four moments of the search."""
    places = {"start": (0, 0), "A": (4, 0), "B": (0, 5), "C": (12, 5), "end": (12, 0)}
    places |= {"D": (0, -9), "E": (12, -9)}
    edges = ("start A", "start B", "B C", "C end", "start D", "D E", "E end")
    links = [tuple(edge.split()) for edge in edges]
    reached, came_from, settled, moments = {"start": 0.0}, {}, [], []
    while "end" not in settled:
        waiting = [name for name in reached if name not in settled]
        node = min(waiting, key=lambda n: reached[n] + dist(places[n], places["end"]))
        settled.append(node)
        for other in {*sum((link for link in links if node in link), ())} - {*settled}:
            length = reached[node] + dist(places[node], places[other])
            if node != "end" and length < reached.get(other, inf):
                reached[other], came_from[other] = length, node
        moments.append((dict(reached), tuple(settled)))
    route = ["end"]
    while route[-1] != "start":
        route.append(came_from[route[-1]])
    beside = {"start": (0.3, -1.4, "left", "top"), "end": (-0.3, -1.4, "right", "top")}
    beside |= dict.fromkeys("ABC", (0, 1.3, "center", "bottom"))
    figure, axes = plt.subplots(2, 2, figsize=(6.2, 6.2))
    titles = ("1. start", "2. A, a dead end", "3. B", "4. C, then the end")
    for panel, title, moment in zip(axes.flat, titles, (0, 1, 2, 4), strict=True):
        reached, settled = moments[moment]
        for a, b in links:
            on_route = title == titles[-1] and {a, b} in map(set, pairwise(route))
            style = {"color": "C0", "lw": 3} if on_route else {"color": "0.75", "lw": 1.2}
            panel.plot(*zip(places[a], places[b], strict=True), zorder=1, **style)
        for name, (x, y) in places.items():
            face = "C0" if name in settled else "white"
            edge = "C0" if name in reached else "0.6"
            panel.plot(x, y, "o", ms=24, mfc=face, mec=edge, mew=1.5)
            colour = "white" if name in settled else edge
            small = {"size": 9, "weight": "bold", "ha": "center", "va": "center"}
            panel.text(x, y, name, color=colour, **small)
            if name in reached:
                ahead = dist((x, y), places["end"])
                sum_ = f"{reached[name]:.0f} + {ahead:.0f} = {reached[name] + ahead:.0f}"
                dx, dy, side, height = beside.get(name, (0, -1.3, "center", "top"))
                panel.text(x + dx, y + dy, sum_, ha=side, va=height, fontsize=9)
        panel.set(xlim=(-2.8, 14.8), ylim=(-11.6, 8), aspect="equal")
        panel.set_title(title)
        panel.axis("off")
    figure.savefig(FOLDER / "a_star.png")


if __name__ == "__main__":
    two_draws()
    trap_data()
    landing()
    multipliers()
    a_star()
