"""Helpers of the build exercises: the same weights, the same noise, the first wrong term."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from hvae_course import recipes
from hvae_course.checks import (
    bidirectional_build,
    building,
    delta_build,
    ladder_build,
    levels,
    nested,
)
from hvae_course.checks.verdict import Mistake
from hvae_course.data import DataSpec


@pytest.fixture
def model():
    torch.manual_seed(0)
    options = {"latent_sizes": (3, 2), "hidden": (8,), "normalisation": "none"}
    return recipes.two_level_vae(DataSpec(12, 2), **options)


@pytest.fixture
def terms():
    return dict(zip("abc", torch.randn(3, 5), strict=True))


def test_every_way_to_draw_a_gaussian_has_the_same_fixed_noise():
    ones = torch.ones(2, 3)
    with building.fixed_noise():
        noise = torch.randn(2, 3)
        others = [
            torch.randn_like(ones),
            Normal(0 * ones, ones).rsample(),
            Normal(0 * ones, 1.0).sample(),
            torch.normal(0 * ones, 1.0),
            torch.normal(0.0, 1.0, (2, 3)),
            (torch.normal(1.0, 2 * ones) - 1) / 2,
            torch.empty(2, 3).normal_(),
            torch.randn(3).expand(2, 3),
        ]
    for other in others:
        torch.testing.assert_close(other, noise)
    assert not torch.equal(torch.randn(2, 3), noise)


def test_a_plain_network_has_the_weights_of_the_package(model):
    net = building.plain(model.bottom_up.blocks[0], model.posterior.heads[0])
    assert [type(layer) for layer in net] == [nn.Linear, nn.SiLU, nn.Linear]
    x = torch.rand(4, 12)
    assert torch.equal(net(x)[:, :3], model.posterior.heads[0](model.features(x)[0]).mean)


def test_the_package_gives_its_log_weight_at_given_latents(model):
    x = torch.bernoulli(torch.full((5, 12), 0.5))
    trace = model(x)
    again = building.at(model, x, [level.z for level in trace.levels])
    torch.testing.assert_close(again.log_weight(x), trace.log_weight(x))


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda a, b, c: a + c, "b is missing"),
        (lambda a, b, c: a + b - c, "c has the wrong sign"),
        (lambda a, b, c: a + b + 2 * c, "c is counted twice"),
        (lambda a, b, c: a, "b and c are missing"),
        (lambda a, b, c: a - b - c, "b and c have the wrong sign"),
        (lambda a, b, c: -a - b - c, "the sign reversed"),
        (lambda a, b, c: (a + b + c).sum(), "sums over the batch"),
        (lambda a, b, c: (a + b + c).mean(), "averages over the batch"),
        (lambda a, b, c: a + b + c + 0.1, "should be"),
        (lambda a, b, c: None, "does your function end with return"),
    ],
)
def test_the_wrong_term_of_a_sum_is_named(change, hint, terms):
    building.compare_sum(sum(terms.values()), terms, name="the bound")
    with pytest.raises(Mistake, match=hint):
        building.compare_sum(change(*terms.values()), terms, name="the bound")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda noise: 0 * noise, "has no noise"),
        (lambda noise: 2 * noise, "yours has -?0.0. and 4"),
        (lambda noise: noise + 1, "yours has 1.0"),
    ],
)
def test_a_draw_with_wrong_noise_is_refused(change, hint):
    torch.manual_seed(0)
    noise = torch.randn(1000, 2)
    building.compare_noise(noise, name="z_1")
    with pytest.raises(Mistake, match=hint):
        building.compare_noise(change(noise), name="z_1")


class Held(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


class Hidden(Held):
    def __init__(self, net):
        nn.Module.__init__(self)
        self.nets = [net]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda net: None, "the model is None"),
        (lambda net: [net], "should be an nn.Module, got list"),
        (type("Empty", (Held,), {"forward": nn.Module.forward}), "has no method forward"),
        (Hidden, "does not register all of its networks"),
    ],
)
def test_a_class_that_is_not_a_model_is_refused(answer, hint):
    net = nn.Linear(2, 2)
    assert building.make(Held, net).net is net
    with pytest.raises(Mistake, match=hint):
        building.make(answer, net)


def test_a_seeded_answer_draws_the_same_again():
    draw = building.seeded(lambda n: torch.randn(n))
    assert torch.equal(draw(4), draw(4))


def one_level(d, noise):
    mean, log_std = d.chunk(2, dim=1)
    return [mean + log_std.exp() * noise, (mean, log_std)]


def changed(change):
    def answer(d, noise):
        z, (mean, log_std) = one_level(d, noise)
        return change(z, mean, log_std)

    return answer


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda z, m, s: [z.detach(), (m, s)], "the gradient with respect to d is not"),
        (
            lambda z, m, s: [m + s.exp() * ((z - m) / s.exp()).detach(), (m, s)],
            "reaches the noise",
        ),
        (lambda z, m, s: [z.detach(), (m.detach(), s.detach())], "no gradient passes through it"),
        (
            lambda z, m, s: [m + torch.randn_like(z), (m, s)],
            "two calls with the same noise differ",
        ),
        (lambda z, m, s: [z, (m, s), s], "the result should be 2 values"),
    ],
    ids=["draw", "noise", "everything", "fresh noise", "structure"],
)
def test_a_nested_answer_has_right_gradients_and_the_given_noise(change, hint):
    torch.manual_seed(0)
    case = {
        "inputs": (torch.randn(5, 6), torch.randn(5, 3)),
        "names": ("z", "the mean", "the log std"),
        "gradients": {0: "d", 1: "the noise"},
    }
    nested.compare_nested(changed(lambda z, m, s: (z, [m, s])), one_level, **case)
    with pytest.raises(Mistake, match=hint):
        nested.compare_nested(changed(change), one_level, **case)


class Summed(nn.Module):
    def __init__(self, nets):
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x, noise):
        return sum(net(x).sum(dim=1) for net in self.nets) + noise[0].sum(dim=1)


class Emptied(Summed):
    def forward(self, x, noise):
        total = noise[0].sum(dim=1)
        while self.nets:
            total = total + self.nets.pop(0)(x).sum(dim=1)
        return total


def test_a_model_that_gives_its_networks_away_is_refused():
    parts = ([nn.Linear(3, 2), nn.Linear(3, 2)],)
    inputs = (torch.randn(5, 3), [torch.randn(5, 2)])
    nested.compare_models(Summed, Summed, parts, inputs, name="the sum")
    with pytest.raises(Mistake, match="a pass takes networks out of the model"):
        nested.compare_models(Emptied, Summed, parts, inputs, name="the sum")


def test_a_build_refuses_an_answer_for_the_sizes_of_one_example():
    def log_weight(x, logits, found):
        terms = [levels.log_ratio(*level) for level in found]
        return levels.log_px(x, logits) + torch.stack(terms).sum(dim=0)

    def delta(outputs, prior):
        return prior[0] + outputs[:, :3], prior[1] + 7 * torch.tanh(outputs[:, 3:] / 7)

    def features(up, x):
        found = [x]
        for network in up:
            found.append(network(found[-1]) + torch.zeros(8, 6))
        return found[1:]

    assert not ladder_build.log_weight(log_weight)
    assert not delta_build.delta(delta)
    assert not bidirectional_build.features(features)
