"""One level at a time, with every prior; and levels that are not there."""

import pytest
import torch

from hvae_course import analysis
from hvae_course.hierarchy import hold
from hvae_course.recipes import PRIORS


@pytest.mark.parametrize("prior", PRIORS)
def test_levels_are_counted_and_varied_under_every_prior(prior, make_model, tiny_data):
    model = make_model("ladder_vae", prior=prior, normalisation="layer").eval()
    before = torch.get_rng_state()
    assert analysis.latent_sizes(model) == [4, 3]
    assert torch.equal(torch.get_rng_state(), before)
    values = torch.linspace(-2, 2, 5)[:, None].expand(5, 3)
    trace = analysis.vary(model, values, level=2)
    assert torch.equal(trace.levels[1].z, values)
    given = analysis.infer(model, tiny_data.test.batch(slice(0, 2)))
    trace = analysis.vary(model, torch.zeros(3, 4), level=1, above=given)
    assert torch.equal(trace.levels[1].z, given.levels[1].z[:1].expand(3, -1))


def test_a_level_that_is_not_there_is_not_held_in_silence(make_model):
    model = make_model().eval()
    with pytest.raises(ValueError, match="the model has no level 3 to hold; levels"):
        model.generate(3, hold({3: torch.zeros(3, 3)}))
    with pytest.raises(ValueError, match="the model has no level 0, 5 to hold"):
        model.generate(3, hold({5: torch.zeros(3, 3), 1: torch.zeros(3, 4), 0: torch.zeros(3)}))
