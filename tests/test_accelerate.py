"""Training through Accelerate: fit after fit, and mixed precision that ends with the fit."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hvae_course import Trace


def test_a_second_fit_goes_on_with_the_same_or_another_accelerator(
    make_model, train, make_accelerator
):
    accelerator = make_accelerator()
    results = []
    for second in (accelerator, None):
        train(model := make_model(), accelerator=accelerator)
        train(model, accelerator=second or make_accelerator())
        results.append(model.state_dict())
    torch.testing.assert_close(*results, rtol=0, atol=0)


# Mixed precision


def computes_in_float32(model: nn.Module, x: Tensor, make_model: Callable) -> bool:
    """Whether the model computes as a fresh one with the same weights does."""
    fresh = make_model().eval()
    fresh.load_state_dict(model.state_dict())
    return torch.equal(fresh(x).levels[0].q.mean, model.eval()(x).levels[0].q.mean)


def test_mixed_precision_improves_the_bound_and_ends_with_the_fit(
    make_model, train, make_accelerator, tiny_data
):
    model, x, precisions = make_model(), tiny_data.test.batch(slice(0, 5)), []
    model.bottom_up.blocks[0][0].register_forward_hook(lambda *args: precisions.append(args[-1]))
    for _ in range(2):  # a second fit is in mixed precision too
        accelerator = make_accelerator(mixed_precision="bf16")
        history = train(model, epochs=4, learning_rate=1e-2, accelerator=accelerator)
        bound = history.frame.query("quantity == 'elbo' and split == 'train'")["value"]
        assert bound.iloc[-1] > bound.iloc[0] + 1
        assert {output.dtype for output in precisions} == {torch.bfloat16}
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        assert computes_in_float32(model, x, make_model)
        precisions.clear()


def test_mixed_precision_ends_with_an_interrupted_fit_too(
    make_model, train, make_accelerator, tiny_data
):
    def interrupted(trace: Trace, x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    model, x = make_model(), tiny_data.test.batch(slice(0, 5))
    with pytest.raises(KeyboardInterrupt):
        train(model, objective=interrupted, accelerator=make_accelerator(mixed_precision="bf16"))
    assert computes_in_float32(model, x, make_model)
