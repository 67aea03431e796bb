"""The downscaled image as a level: exact answers for images of four pixels, and the recipe."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from hvae_course import analysis, recipes
from hvae_course.codes import Codes, Downscale
from hvae_course.config import Model
from hvae_course.data import DataSpec
from hvae_course.grey_values import DiscretizedLogisticDistribution, GreyCategorical
from hvae_course.hierarchy import BottomUp, HierarchicalVAE, MarkovUpdate, TopDown, hold
from hvae_course.likelihoods import Bernoulli
from hvae_course.objectives import elbo
from hvae_course.posteriors import Direct, TopDownPosterior

D = torch.float64
IMAGES = torch.tensor([*itertools.product((0, 1), repeat=4)], dtype=D)
"""All images of 2x2 binary pixels."""
SUMS = torch.arange(5, dtype=D) / 4


class OfSums(nn.Module):
    """p(y) over the five sums."""

    num_samples = 1

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.3, -1.0, 0.8, 0.0, -0.4], dtype=D))

    def forward(self, encode: object = None) -> Codes:
        return Codes(self.logits[:, None, None], SUMS[:, None], batch_dims=0)


class Arrangements(Distribution):
    """All images of a given sum, each as probable as the others."""

    arg_constraints = {}

    def __init__(self, y: Tensor) -> None:
        super().__init__(y.shape[:1], (4,), validate_args=False)
        self.sum = (4 * y).round().flatten()

    def log_prob(self, value: Tensor) -> Tensor:
        number = torch.tensor([math.comb(4, int(n)) for n in self.sum], dtype=D)
        return torch.where(value.sum(1) == self.sum, -number.log(), -math.inf)


def model_of_sums(likelihood: nn.Module) -> HierarchicalVAE:
    down = Downscale(1, (2, 2), factor=2, num_values=2)
    return HierarchicalVAE(
        OfSums(),
        BottomUp([nn.Identity()]),
        posterior=TopDownPosterior([Direct(down)]),
        top_down=TopDown([MarkovUpdate()], [], likelihood),
    ).double()


def pixels() -> nn.Module:
    torch.manual_seed(0)
    return Bernoulli(nn.Sequential(nn.Flatten(), nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 4)))


def log_joint(model: HierarchicalVAE) -> Tensor:
    """log p(x, y) of all images and all sums, ``(16, 5)``."""
    columns = []
    for y in SUMS:
        trace = model.generate(16, hold({1: y.expand(16, 1, 1, 1)}))
        columns.append(trace.log_px(IMAGES) + trace.levels[0].p.log_prob(trace.levels[0].z))
    return torch.stack(columns, dim=1)


@pytest.mark.equation("eq-downscaled")
def test_the_gap_of_the_bound_is_what_the_model_gives_to_other_sums():
    model = model_of_sums(pixels())
    joint = log_joint(model)
    evidence = joint.logsumexp(dim=1)
    torch.testing.assert_close(evidence.exp().sum(), torch.ones((), dtype=D))
    log_posterior = joint - evidence[:, None]  # log p(y | x)
    trace = model(IMAGES)
    own = IMAGES.sum(dim=1).long()
    torch.testing.assert_close(trace.levels[0].z.flatten(), own.double() / 4)
    assert torch.equal(trace.levels[0].q.log_prob(trace.levels[0].z), torch.zeros(16, dtype=D))
    gap = -log_posterior.gather(1, own[:, None])[:, 0]
    torch.testing.assert_close(evidence - elbo(trace, IMAGES), gap)
    assert (gap > 0.01).all()


class Exact(nn.Module):
    """p(x | y), from which no image of another sum is drawn."""

    def forward(self, y: Tensor) -> Arrangements:
        return Arrangements(y)


def test_the_bound_is_tight_if_images_fit_the_sum_that_they_are_drawn_from():
    model = model_of_sums(Exact())
    trace = model(IMAGES)
    log_p = model.prior.logits.log_softmax(0)[IMAGES.sum(1).long()]
    number = torch.tensor([math.comb(4, int(n)) for n in IMAGES.sum(1)], dtype=D)
    torch.testing.assert_close(elbo(trace, IMAGES), log_p - number.log())
    torch.testing.assert_close(elbo(trace, IMAGES).exp().sum(), torch.ones((), dtype=D))


@pytest.mark.parametrize(("colours", "num_values"), [(1, 2), (3, 17), (3, 256)])
def test_a_block_is_the_sum_of_its_pixels_colour_by_colour_on_a_grid(colours, num_values):
    whole = torch.randint(num_values, (5, colours, 4, 6))
    x = whole.flatten(1) / (num_values - 1)
    down = Downscale(colours, (4, 6), factor=2, num_values=num_values)
    labelled = torch.cat([x, torch.ones(5, 3)], dim=1)
    sums = whole.unfold(2, 2, 2).unfold(3, 2, 2).sum(dim=(-2, -1))
    for given in (x, labelled):
        y = down(given).mean
        assert torch.equal((y * (down.num_values - 1)).round(), sums.float())
    assert down.num_values == 4 * (num_values - 1) + 1 and y.max() <= 1


@pytest.mark.equation("eq-downscaled")
@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (DataSpec((8, 8), 2), GreyCategorical),
        (DataSpec((8, 8), 17), DiscretizedLogisticDistribution),
        (DataSpec((3, 8, 8), 256), DiscretizedLogisticDistribution),
    ],
    ids=str,
)
def test_the_recipe_scores_the_downscaled_image_as_one_of_its_grey_values(spec, kind):
    colours = 3 if len(spec.shape) == 3 else 1
    networks = {"channels": 4}
    model = recipes.downscaled_vae(
        spec, latent_sizes=(2, colours, 2), networks_options=networks
    ).double()
    x = torch.randint(spec.num_values, (3, spec.num_features)) / (spec.num_values - 1)
    trace = model(x.double(), 2)
    y = trace.levels[1]
    assert isinstance(y.p, kind) and y.z.shape == (6, colours, 4, 4)
    pooled = nn.functional.avg_pool2d(x.double().view(3, colours, 8, 8), 2)
    torch.testing.assert_close(y.z[::2], pooled)
    torch.testing.assert_close(y.information, -y.p.log_prob(y.z))
    z, _, u = trace.levels
    px = trace.log_px(x.double())
    bound = px + y.p.log_prob(y.z) - z.information - u.information
    torch.testing.assert_close(trace.log_weight(x.double()), bound)
    assert (y.information > 0).all() and y.p.num_values == 4 * (spec.num_values - 1) + 1
    drawn = y.p.sample()
    torch.testing.assert_close(
        drawn * (y.p.num_values - 1), (drawn * (y.p.num_values - 1)).round()
    )
    elbo(trace, x.double()).mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_upper_latent_is_read_by_the_image_and_the_lower_by_neither():
    """p(u) p(y | u) p(z | y, u) p(x | z, y, u)."""
    networks = {"channels": 4, "zero_priors": False}
    model = recipes.downscaled_vae(
        DataSpec((8, 8), 2), latent_sizes=(2, 1, 2), networks_options=networks
    )
    x = torch.rand(2, 64).round()
    trace = model(x)
    latents = [level.z.detach().requires_grad_() for level in trace.levels]
    walked = model.top_down(model.top_prior(), hold(dict(enumerate(latents, start=1))), 2)
    z, y, u = (level.p for level in walked.levels)

    def read(output: Tensor) -> list[bool]:
        if not output.requires_grad:
            return [False] * 3
        grads = torch.autograd.grad(output.sum(), latents, retain_graph=True, allow_unused=True)
        return [g is not None and bool(g.any()) for g in grads]

    assert read(u.mean) == [False, False, False]
    assert read(y.base.logits.square()) == [False, False, True]
    assert read(z.mean) == [False, True, True]
    assert read(walked.px.base_dist.logits) == [True, True, True]


def test_training_raises_the_bound_and_the_analysis_reads_the_model(tiny_binary):
    model = recipes.downscaled_vae(
        tiny_binary, latent_sizes=(2, 1, 2), networks_options={"channels": 4}
    )
    x, bounds = tiny_binary.train.batch(slice(0, 50)), []
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(8):
        optimiser.zero_grad()
        bounds.append(elbo(model(x), x).mean())
        (-bounds[-1]).backward()
        optimiser.step()
    assert bounds[-1] > bounds[0]
    table = analysis.diagnose(model, tiny_binary, num_samples=2, max_examples=12)
    assert table["units"].tolist() == [32, 16, 32] and table["information"].notna().all()
    assert table["index_code"][1] > 1  # which image it is
    assert analysis.sample(model, 3).px.mean.shape == (3, 64)


@pytest.mark.parametrize(
    ("spec", "sizes", "match"),
    [
        (DataSpec((8, 8), None), (2, 1, 2), "must hold grey values, and none may be missing"),
        (DataSpec((8, 8), 2, missing=True), (2, 1, 2), "must hold grey values, and none may be"),
        (DataSpec((3, 8, 8), 2), (2, 1, 2), r"with its 3 colours, got .*\(Z_1, 3, Z_3\)"),
    ],
    ids=str,
)
def test_what_has_no_downscaled_image_is_refused(spec, sizes, match):
    with pytest.raises(ValueError, match=match):
        recipes.downscaled_vae(spec, latent_sizes=sizes)


def test_other_numbers_of_levels_are_refused():
    with pytest.raises(ValueError, match="downscaled has three levels, .* got latent_sizes"):
        Model(recipe="downscaled", latent_sizes=(4, 4))
