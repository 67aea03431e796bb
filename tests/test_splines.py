"""Flows of splines from zuko: densities, draws, and what its import must not change."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.distributions import Distribution

from hvae_course.config import Model
from hvae_course.data import DataSpec
from hvae_course.hierarchy import centre_of
from hvae_course.recipes import build
from hvae_course.splines import SplineFlow, Transformed, import_zuko

D = torch.float64


def spline(size=3, *, context=0, **options) -> SplineFlow:
    pytest.importorskip("zuko")
    torch.manual_seed(0)
    flow = SplineFlow(size, context=context, hidden=(8,), **options)
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.5)
    return flow.double()


def test_the_log_determinant_is_that_of_the_jacobian():
    p = spline(context=2)(torch.randn(1, 2, dtype=D))
    z = p.sample()
    z0, found = p.pull(z)
    jacobian = torch.autograd.functional.jacobian(lambda z: p.pull(z)[0], z).reshape(3, 3)
    torch.testing.assert_close(found[0], torch.linalg.slogdet(jacobian)[1])
    torch.testing.assert_close(p.log_prob(z), p.base.log_prob(z0) + found)
    torch.testing.assert_close(p.push(z0), z, rtol=0, atol=1e-9)


def test_the_density_of_two_dimensions_integrates_to_one():
    p, ticks = spline(2)(), torch.linspace(-9, 9, 601, dtype=D)
    grid = torch.cartesian_prod(ticks, ticks)
    with torch.no_grad():
        density = p.expand((len(grid),)).log_prob(grid).exp() * 0.03**2
    assert density.sum().item() == pytest.approx(1.0, abs=1e-3)


def test_far_away_a_spline_is_the_identity():
    p, z = spline(num_steps=1)(), torch.tensor([[-6.0, 7.0, 5.5]], dtype=D)
    z0, log_determinant = p.pull(z)
    torch.testing.assert_close(z0, z)
    torch.testing.assert_close(log_determinant, torch.zeros(1, dtype=D))


@pytest.mark.parametrize("prior", ["standard", "flow"])
def test_a_hierarchy_of_splines_trains_and_generates(prior):
    pytest.importorskip("zuko")
    options = {"transform": "spline", "hidden": (8,)}
    settings = {"flow_options": options, "prior": prior, "latent_sizes": (3, 2), "hidden": (6,)}
    settings["prior_options"] = options if prior == "flow" else {}
    model = build(Model(recipe="flow_ladder", **settings), DataSpec(5, 2))
    x = torch.rand(8, 5).round()
    trace = model(x)
    assert isinstance(trace.levels[0].p, Transformed)
    trace.log_weight(x).mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    drawn = model.eval().generate(4)
    assert drawn.px.sample().shape == (4, 5)
    assert centre_of(drawn.levels[0].p).shape == (4, 3)


def test_its_import_leaves_the_checks_of_distributions_as_they_were():
    pytest.importorskip("zuko")
    code = """
import torch
from torch.distributions import Distribution, Normal
from hvae_course.splines import import_zuko
before = Distribution._validate_args, Distribution.arg_constraints
zuko = import_zuko()
assert (Distribution._validate_args, Distribution.arg_constraints) == before
try:
    Normal(0.0, -1.0)
except ValueError:
    pass
else:
    raise AssertionError("Normal(0, -1) was accepted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_package_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    before = Distribution._validate_args
    with pytest.raises(ImportError, match=r"pip install 'hvae-course\[flows\]'"):
        import_zuko()
    assert Distribution._validate_args is before
