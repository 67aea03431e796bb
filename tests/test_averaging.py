"""The moving average of the weights: its sum, what validates, what is kept, and resumption."""

import copy

import pytest
import torch
from steps import interrupted_after, moving_average, same, weights_at_every_step
from torch import nn

from hvae_course.objectives import elbo
from hvae_course.training.averaging import MovingAverage


@pytest.mark.parametrize("decay", [0.3, 0.5, 0.999])
def test_the_average_is_a_weighted_sum_of_all_weights(decay):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
    average, seen = MovingAverage(model, decay), [copy.deepcopy(model.state_dict())]
    for _ in range(12):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(1 if value.dtype == torch.int64 else torch.randn_like(value))
        average.update(model)
        seen.append(copy.deepcopy(model.state_dict()))
    for name, value in average.model.state_dict().items():
        history = [state[name] for state in seen]
        counter = value.dtype == torch.int64
        expected = history[-1] if counter else moving_average(history, decay)
        torch.testing.assert_close(value, expected)


def test_it_takes_part_in_no_gradient_and_leaves_the_model_alone():
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    average = MovingAverage(model, 0.9)
    average.update(model)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    torch.testing.assert_close(average.model.state_dict(), before)


@pytest.mark.parametrize("normalisation", ["batch", "layer"])
def test_a_model_keeps_the_average_over_its_steps(normalisation, make_model, train):
    model = make_model(normalisation=normalisation)
    seen, history = weights_at_every_step(train, model, averaging=0.6, epochs=2)
    upto = 1 + 3 * history.best_epoch  # three steps per epoch
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            states = [state[name] for state in seen[:upto]]
            torch.testing.assert_close(value, moving_average(states, 0.6))
    assert not same(model.state_dict(), seen[upto - 1])


def test_the_history_validates_the_average(make_model, train, tiny_data):
    model = make_model(normalisation="layer")
    history = train(model, averaging=0.9, epochs=4)
    with torch.no_grad():
        x = tiny_data.validation.batch(slice(None))
        bounds = torch.stack([elbo(model(x), x).mean() for _ in range(400)])
    error = bounds.std() + 1e-6  # of one draw per image, as in the history
    assert abs(history.best("elbo") - bounds.mean()) < 5 * error


def test_a_resumed_run_ends_with_the_same_average(make_model, train, tmp_path):
    settings = {"averaging": 0.8, "epochs": 4}
    train(whole := make_model(), **settings)
    settings["checkpoint"] = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(make_model(), after_epoch=interrupted_after(2), **settings)
    train(resumed := make_model(), **settings)
    assert same(resumed.state_dict(), whole.state_dict())
