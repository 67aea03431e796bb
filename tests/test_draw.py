"""DRAW: one level repeated, a canvas, an encoder that remembers, and noise of every step's own."""

import copy
import math

import pytest
import torch
from linear_gaussian import D, agree, assert_exact
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from benchmarks.richer_flows import OneNoise, largest_correlation
from hvae_course import analysis, recipes
from hvae_course.config import Model
from hvae_course.data import DataSpec
from hvae_course.draw import ConstantPrior, DrawStart, DrawState, DrawUpdate, ReadCanvas
from hvae_course.gaussians import GaussianHead, kl_normal
from hvae_course.hierarchy import (
    BottomUp,
    HierarchicalVAE,
    MarkovUpdate,
    TopDown,
    from_prior,
    hold,
    switch,
)
from hvae_course.likelihoods import Bernoulli
from hvae_course.objectives import elbo
from hvae_course.oracles import LinearGaussian, LinearGaussianLayer
from hvae_course.oracles.layers import LinearGaussianLikelihood
from hvae_course.posteriors import Direct, Recurrent, RecurrentStep, TopDownPosterior
from hvae_course.priors import StandardNormal
from hvae_course.recipes import build

BINARY = DataSpec((6, 5), 2)
X = torch.rand(4, 30, generator=torch.Generator().manual_seed(0)).round()


def make(steps: int = 3, spec: DataSpec = BINARY, **settings) -> HierarchicalVAE:
    torch.manual_seed(0)
    settings = {"hidden": (8,), "latent_sizes": (2,)} | settings
    return recipes.draw(spec, steps=steps, **settings)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# One step is an ordinary VAE


class Gates(nn.Module):
    """A hidden layer of gated units, one step of an LSTM from rest."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size_in, 4 * size_out)

    def forward(self, x: Tensor) -> Tensor:
        i, _, g, o = self.linear(x).chunk(4, dim=1)  # an empty cell has nothing to forget
        return o.sigmoid() * (i.sigmoid() * g.tanh()).tanh()


def ordinary(model: HierarchicalVAE) -> HierarchicalVAE:
    """The VAE of one hidden layer with the weights of a DRAW of one step."""
    (encoder,), (decoder,) = model.posterior.steps, model.top_down.updates
    canvas = model.top_down.initial.canvas
    parts = Gates(30, 8), Gates(2, 8), GaussianHead(8, 2), nn.Linear(8, 30)
    first, second, head, pixels = (part.double() for part in parts)
    of_x, of_error = encoder.cell.weight_ih[:, :60].chunk(2, dim=1)
    with torch.no_grad():
        first.linear.weight.copy_(of_x + of_error)
        shift = of_error @ canvas.sigmoid()  # the error is x less the mean of the empty canvas
        first.linear.bias.copy_(encoder.cell.bias_ih + encoder.cell.bias_hh - shift)
        second.linear.weight.copy_(decoder.cell.weight_ih)
        second.linear.bias.copy_(decoder.cell.bias_ih + decoder.cell.bias_hh)
        pixels.weight.copy_(decoder.write.weight)
        pixels.bias.copy_(decoder.write.bias + canvas)
    head.load_state_dict(encoder.head.state_dict())
    return HierarchicalVAE(
        StandardNormal(2),
        BottomUp([first]),
        posterior=TopDownPosterior([Direct(head)]),
        top_down=TopDown([MarkovUpdate()], [], Bernoulli(nn.Sequential(second, pixels))),
    )


def test_one_step_without_attention_is_a_vae_with_one_hidden_layer_of_gated_units():
    model = make(1).double()
    nn.init.normal_(model.top_down.initial.canvas)
    plain, x, terms = ordinary(model), X.double(), []
    for one in (model, plain):
        torch.manual_seed(1)
        trace = one(x, 3)
        elbo(trace, x).mean().backward()
        terms.append((*trace.terms(x), trace.levels[0].z, trace.px.mean))
    torch.testing.assert_close(*terms, rtol=0, atol=1e-12)
    own, other = model.posterior.steps[0].head.linear, plain.posterior.rules[0].head.linear
    torch.testing.assert_close(own.weight.grad, other.weight.grad, rtol=0, atol=1e-12)


def test_tied_steps_share_all_weights_and_others_none():
    one, tied, untied = make(1), make(8), make(8, tied=False)
    assert size(tied) == size(one)
    assert size(untied) - 30 == 8 * (size(one) - 30)  # all but the first canvas, 30 pixels
    assert tied.num_levels == untied.num_levels == 8
    assert len({*tied.top_down.updates}) == len({*tied.posterior.steps}) == 1
    assert recipes.draw(BINARY).config["latent_sizes"] == [16] * 8


def test_a_tied_step_receives_the_gradients_of_all_its_copies():
    tied, copies = make(3), make(3, tied=False)
    copies.load_state_dict(tied.state_dict())
    for model in (tied, copies):
        torch.manual_seed(1)
        elbo(model(X), X).mean().backward()
    own = tied.top_down.updates[0].cell.weight_hh.grad
    parts = [update.cell.weight_hh.grad for update in copies.top_down.updates]
    torch.testing.assert_close(own, sum(parts))
    assert (own != 0).any() and (parts[2] == 0).all()  # the first step starts from rest


# Exact answers: linear steps

WEIGHTS = (1.0, -0.7, 0.5, 1.2)
NOISE = 0.3
CHAIN = LinearGaussian((1.0,) * 4, (NOISE, *(w**2 for w in WEIGHTS[:0:-1])), size=2)
"""The canvas after each step is the Markov chain of this oracle."""


class Pass(nn.Module):
    """A cell without memory, whose units are what it is given."""

    def forward(self, value: Tensor, memory: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return value[:, :2], memory[1]


class Times(nn.Module):
    """Write z times a weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, hidden: Tensor) -> Tensor:
        return self.weight * hidden


class ReadError(nn.Module):
    """Read the error alone."""

    def forward(self, x: Tensor, error: Tensor, hidden: Tensor) -> Tensor:
        return error


def linear(
    heads: list[nn.Module],
    kind: type[Recurrent] = Recurrent,
    weights: tuple[float, ...] = WEIGHTS,
) -> HierarchicalVAE:
    """c_t = c_t-1 + w_t z_t and x ~ N(c_T, s); heads of the first step first."""
    likelihood = LinearGaussianLikelihood(
        nn.Sequential(ReadCanvas(), LinearGaussianLayer(1.0, NOISE))
    )
    steps = [RecurrentStep(ReadError(), Pass(), head, size=2) for head in reversed(heads)]
    updates = [DrawUpdate(Pass(), Times(w)) for w in reversed(weights)]
    return HierarchicalVAE(
        StandardNormal(2),
        BottomUp([nn.Identity()]),
        posterior=kind(steps, likelihood),
        top_down=TopDown(
            updates,
            [ConstantPrior(StandardNormal(2)) for _ in WEIGHTS[1:]],
            likelihood,
            initial=DrawStart(2, 2),
        ),
    ).double()


def exact_heads() -> list[LinearGaussianLayer]:
    """p(z_t | x, z_<t), which depends on what the canvas lacks alone."""
    left = [NOISE + sum(w**2 for w in WEIGHTS[t:]) for t in range(4)]  # variance of the error
    pairs = zip(WEIGHTS, left, strict=True)
    return [LinearGaussianLayer(w / v, 1 - w**2 / v) for w, v in pairs]


@pytest.mark.equation("eq-draw")
def test_linear_steps_with_the_exact_posterior_give_the_evidence_at_every_draw():
    assert_exact(linear(exact_heads()), CHAIN)


GAINS, SPREADS = (0.6, -0.2, 0.4, 0.5), (0.5, 0.8, 0.3, 0.6)


def joint(x: Tensor) -> MultivariateNormal:
    """The joint q(z_1, ..., z_T | x) of inexact heads, for one dimension of x."""
    mean, rows = [], []  # z_t = mean + rows @ noise, in the order of the steps
    for t, (gain, spread) in enumerate(zip(GAINS, SPREADS, strict=True)):
        error = x - sum(w * m for w, m in zip(WEIGHTS, mean, strict=False))
        row = -gain * sum((w * r for w, r in zip(WEIGHTS, rows, strict=False)), torch.zeros(4))
        mean.append(gain * error)
        rows.append(row.double() + math.sqrt(spread) * torch.eye(4, dtype=D)[t])
    factor = torch.stack(rows)
    return MultivariateNormal(torch.stack(mean), factor @ factor.T)


def test_the_information_of_the_steps_adds_up_to_the_joint_divergence():
    x = torch.tensor([[0.9, -1.6]], dtype=D)
    pairs = zip(GAINS, SPREADS, strict=True)
    model = linear([LinearGaussianLayer(gain, spread) for gain, spread in pairs])
    unit = MultivariateNormal(torch.zeros(4, dtype=D), torch.eye(4, dtype=D))
    expected = sum(kl_divergence(joint(value), unit) for value in x[0])
    torch.manual_seed(0)
    trace = model(x, 100_000)
    assert agree(sum(level.information for level in trace.levels), expected)
    assert agree(sum(kl_normal(level.q, level.p) for level in trace.levels), expected)
    drawn = torch.stack([level.z[:, 0] for level in reversed(trace.levels)])
    torch.testing.assert_close(drawn.cov(), joint(x[0, 0]).covariance_matrix, rtol=0, atol=0.02)


# Noise of every step's own


@pytest.mark.parametrize("tied", [True, False])
def test_given_x_the_noises_of_the_steps_are_uncorrelated(tied):
    """Of 15 pairs none lies beyond five standard errors; chance fails one run in 100,000."""
    model = make(3, tied=tied)
    assert largest_correlation(model, X[:1], num_draws=20_000) < 5
    model.posterior.__class__ = OneNoise
    assert largest_correlation(model, X[:1], num_draws=20_000) > 100


def test_shared_noise_reports_more_than_the_evidence():
    """Weights of alternating sign, so that what is drawn cancels on the canvas."""
    x = torch.full((1, 2), 1.5, dtype=D)
    signs = (1.0, -1.0, 1.0, -1.0)
    heads = [LinearGaussianLayer(0.0, 1.0, 0.3 * sign) for sign in signs]
    truth = LinearGaussian((1.0,) * 4, (NOISE, 1.0, 1.0, 1.0), size=2).log_px(x)
    for kind, exceeds in ((OneNoise, True), (Recurrent, False)):
        model = linear(heads, kind, signs)
        torch.manual_seed(0)
        values = model(x, 20_000).log_weight(x)
        assert (values.mean() - 5 * values.std() / 20_000**0.5 > truth) == exceeds


# The encoder remembers for one walk


def test_held_latents_are_scored_as_they_were_drawn():
    model = make().eval()
    trace = model(X)
    choose = model.posterior.score(model.features(X), [level.z for level in trace.levels])
    for _ in range(2):  # a walk from the top starts the encoder anew
        levels, _ = model.top_down.walk(model.top_prior(), choose, len(X))
        for level, scored in zip(trace.levels, levels, strict=True):
            torch.testing.assert_close(scored.information, level.information)


def test_the_upper_steps_may_be_inferred_and_the_rest_drawn_but_not_the_other_way_round():
    model = make().eval()
    trace = model.generate(4, switch(2, model.posterior(model.features(X)), from_prior))
    assert trace.levels[0].q is trace.levels[0].p and trace.levels[1].q is not trace.levels[1].p
    held = hold({3: torch.zeros(4, 2)}, model.posterior(model.features(X)))
    with pytest.raises(ValueError, match="z_2 comes without the one before it; .* step, z_3, on"):
        model.generate(4, held)


def test_the_first_step_has_a_posterior_in_closed_form():
    model = make()
    q = model.encode_top(X)
    torch.testing.assert_close(q.mean, model(X).levels[-1].q.mean)
    assert make(prior="vamp", prior_options={"num_components": 3})(X).levels[-1].p is not None


def test_every_weight_receives_a_gradient(assert_finite_gradients):
    for settings in ({}, {"tied": False}, {"attention": 3}, {"inference_hidden": (6,)}):
        model = make(**settings)
        assert_finite_gradients(model, -elbo(model(X), X).mean())


def test_a_model_is_rebuilt_from_its_configuration():
    for settings in ({}, {"tied": False}, {"attention": 3}):
        model = make(**settings)
        again, values = build(model.config), []
        again.load_state_dict(model.state_dict())
        for one in (model, again, copy.deepcopy(model)):
            torch.manual_seed(1)
            values.append(one(X).log_weight(X))
        assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])
        assert again.config == model.config


def test_encoder_and_decoder_share_a_learned_scale():
    options = {"likelihood": "isotropic_gaussian", "likelihood_options": {"learned": True}}
    model = copy.deepcopy(make(spec=DataSpec((6, 5), None), **options))
    assert model.posterior.likelihood is model.top_down.likelihood


# Canvases


def test_the_canvas_after_every_step_ends_in_the_image():
    model = make(4).train()
    nn.init.normal_(model.top_down.initial.canvas)
    for trace in (analysis.sample(model, 5), analysis.infer(model, X)):
        images = analysis.canvases(model, trace)
        assert images.shape == (5, len(trace.levels[0].z), 30) and model.training
        torch.testing.assert_close(images[-1], trace.px.mean)
        empty = model.top_down.initial.canvas.sigmoid()
        torch.testing.assert_close(images[0], empty.expand(images.shape[1:]))
        assert (images[1] != images[2]).any()


@pytest.mark.equation("eq-draw")
def test_the_canvas_is_a_sum_of_what_is_written():
    update = DrawUpdate(nn.LSTMCell(2, 3), nn.Linear(3, 7))
    start = DrawStart(3, 7)(4)
    assert isinstance(start, DrawState) and not start.hidden.any() and not start.cell.any()
    after = update(start, torch.randn(4, 2))
    torch.testing.assert_close(after.canvas - start.canvas, update.write(after.hidden))


def test_a_model_without_a_canvas_shows_none():
    ladder = recipes.ladder_vae(BINARY, hidden=(8,), latent_sizes=(2, 2, 2))
    with pytest.raises(TypeError, match="hold no canvas, .*; give a model made by recipes.draw"):
        analysis.canvases(ladder, analysis.sample(ladder, 2))
    with pytest.raises(ValueError, match="the trace has 3 levels and the model 4"):
        analysis.canvases(make(4), analysis.sample(ladder, 2))


# What is refused

REFUSED = {
    "networks": ("convolutional", "got networks='convolutional'; leave networks out"),
    "normalisation": ("batch", "made of plain LSTM cells, got normalisation='batch'"),
    "generative_normalisation": ("layer", "leave generative_normalisation out"),
    "activation": ("relu", "got activation='relu'"),
    "dropout": (0.1, "got dropout=0.1"),
    "state": ("skip", "got state='skip'"),
    "conditional": (True, "draw is a model of x alone"),
    "hidden": ((8, 8), r"one layer of units for all steps, got hidden=\(8, 8\)"),
    "inference_hidden": (((8,), (8,)), "for all steps, got inference_hidden="),
    "latent_sizes": ((4, 3), r"tied steps have latents of one size, got latent_sizes=\(4, 3\)"),
    "attention": (1, "at least 2 x 2 filters, got attention=1"),
}


@pytest.mark.parametrize(("name", "value", "match"), [(n, *v) for n, v in REFUSED.items()])
def test_what_the_cells_do_not_have_is_refused(name, value, match):
    with pytest.raises(ValueError, match=match):
        Model(recipe="draw", **{name: value})


@pytest.mark.parametrize("name", ["tied", "attention"])
def test_only_draw_has_steps(name):
    with pytest.raises(ValueError, match=f"{name} is an option of the recipe draw, .* ladder"):
        Model(recipe="ladder", **{name: 3 if name == "attention" else False})


@pytest.mark.parametrize(
    ("spec", "settings", "match"),
    [
        (DataSpec(6, None, counts=True), {}, "compares x with its mean, and rows with counts"),
        (DataSpec((6, 5), 2, missing=True), {}, "missing values have no such difference"),
        (BINARY, {"latent_sizes": (2, 2)}, r"steps repeats one latent size, got steps=3"),
        (DataSpec(6, 2), {"attention": 3}, r"over a grey image \(H, W\), got data of the shape"),
        (DataSpec((3, 6, 5), 2), {"attention": 3}, r"shape \(3, 6, 5\); leave attention out"),
        (DataSpec((6, 5), 17), {"attention": 3}, "one number per pixel, and .* has 17; leave"),
    ],
)
def test_data_that_the_steps_cannot_draw_are_refused(spec, settings, match):
    with pytest.raises(ValueError, match=match):
        make(spec=spec, **settings)


def test_a_checkpoint_stores_tied_weights_once(tmp_path, train, tiny_data):
    sizes = []
    for steps in (1, 6):
        path = tmp_path / f"{steps}.pt"
        model = recipes.draw(tiny_data, steps=steps, latent_sizes=(2,), hidden=(32,))
        train(model, epochs=1, checkpoint=path)
        sizes.append(path.stat().st_size)
    parameters = 4 * sum(p.numel() for p in model.parameters())
    assert sizes[1] - sizes[0] < 0.2 * parameters  # names of weights, but none of their values
