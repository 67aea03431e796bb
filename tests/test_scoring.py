"""A batch is scored once per step, whoever asks for its terms."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from hvae_course.likelihoods import Likelihood
from hvae_course.objectives import Constrained, FreeBits, elbo, importance_weighted


class Counting(Likelihood):
    """A likelihood that counts how often a batch is scored."""

    measure = "probability"

    def __init__(self, inner: Likelihood) -> None:
        super().__init__(inner)
        self.count = 0

    def forward(self, h: Tensor) -> Distribution:
        px = self.net(h)
        score = px.log_prob

        def counted(x: Tensor) -> Tensor:
            self.count += 1
            return score(x)

        px.log_prob = counted
        return px


@pytest.fixture
def model(make_model):
    model = make_model("ladder_vae")
    model.top_down.likelihood = Counting(model.top_down.likelihood)
    return model


OBJECTIVES = {
    "ELBO": lambda: elbo,
    "free bits": lambda: FreeBits(0.5),
    "IWAE": lambda: importance_weighted,
    "constraint": lambda: Constrained(2.0, error="negative_log_likelihood"),
}


@pytest.mark.parametrize(
    ("name", "num_samples"), [*product(OBJECTIVES, (2, 3)), ("ELBO", 1), ("free bits", 1)]
)
def test_a_step_scores_its_batch_once(name, num_samples, model, train, tiny_data):
    batch_size, epochs = 40, 2
    train(model, objective=OBJECTIVES[name](), num_samples=num_samples, batch_size=batch_size)
    steps = len(tiny_data.train) // batch_size + 1  # and one batch of validation
    assert model.top_down.likelihood.count == epochs * steps


def test_terms_are_computed_again_for_another_batch_and_for_gradients(model, tiny_data):
    x, likelihood = tiny_data.test.batch(slice(0, 5)), model.top_down.likelihood
    trace = model(x)
    with torch.no_grad():
        first = trace.terms(x)
        assert trace.log_weight(x) is first[0] and trace.log_px(x) is first[1]
    assert likelihood.count == 1 and not first[0].requires_grad
    again = trace.terms(x)
    assert likelihood.count == 2 and all(term.requires_grad for term in again)
    with torch.no_grad():
        assert trace.terms(x) is again
        other = trace.log_px(x.flip(0))
    assert likelihood.count == 3 and not torch.equal(other, again[1])
