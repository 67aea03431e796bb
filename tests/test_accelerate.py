"""Training through Accelerate: one fit after the other, mixed precision, two processes."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from accelerate import Accelerator
from known_terms import nats, trace_of
from torch import Tensor, nn
from torch.distributions import Normal
from torch.optim.optimizer import register_optimizer_step_pre_hook

import hvae_course
from hvae_course import Trace
from hvae_course.data import DataSet
from hvae_course.objectives import Constrained, FreeBits, elbo

SETTINGS = {"batch_size": 40, "epochs": 2, "progress": False}
PRIORS = {"standard": {}, "vhp": {"num_samples": 3, "hidden": (6,)}}


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
        history = train(model, epochs=8, learning_rate=1e-2, accelerator=accelerator)
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


# Two processes


def first_gradients(data: DataSet, accelerator: Accelerator, prior: str) -> list[Tensor]:
    """Gradients of the first step of a model without batch statistics and without noise."""
    steps = []

    def keep(optimizer: torch.optim.Optimizer, args: tuple, settings: dict) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        steps.append([p.grad.clone() for p in parameters])

    torch.manual_seed(3)
    settings = {"hidden": (16,), "normalisation": "layer"}
    settings |= {"prior": prior, "prior_options": PRIORS[prior]}
    model = hvae_course.recipes.two_level_vae(data, **settings)
    noisy = Normal.rsample
    Normal.rsample = lambda self, shape=(): self.loc.expand(self._extended_shape(shape))
    handle = register_optimizer_step_pre_hook(keep)
    try:
        hvae_course.fit(model, data, accelerator=accelerator, **SETTINGS)
    finally:
        handle.remove()
        Normal.rsample = noisy
    return steps[0]


def free_bits(share: slice) -> list[Tensor]:
    """Value and gradients of free bits for a share of four examples, an equal one per process.

    z_1 is above its floor in all four and below it in one process; z_2 the other way round.
    """
    terms = nats(
        [-1.0, -2.0, -3.0, -4.0], [0.0, 3.0, 0.5, 2.0], [1.5, 0.1, 1.6, 0.2], [1.0, 2.0, 3.0, 4.0]
    ).unbind()
    own = tuple(term[share] for term in terms)
    value = FreeBits((1.0, 1.0, 0.0))(*trace_of(*own))
    return [value.detach(), *torch.autograd.grad(value.sum(), own)]


def constrained(share: slice) -> list[Tensor]:
    """Value, state and gradients of a constrained objective for a share of four examples.

    The error of a batch is minus its mean reconstruction, 2.5 in all; every process's own would
    be on another side of the constraint.
    """
    terms = nats([-1.0, -2.0, -3.0, -4.0], [0.0, 3.0, 0.5, 2.0]).unbind()
    own = tuple(term[share] for term in terms)
    objective = Constrained(2.6**0.5, error="negative_log_likelihood", beta=0.5)
    value = objective(*trace_of(*own))
    state = torch.stack([objective.average, objective.beta, objective.released])
    return [value.detach(), state, *torch.autograd.grad(value.sum(), own)]


def constrained_run(data: DataSet, accelerator: Accelerator) -> dict[str, Tensor]:
    """Weights and state after training with a prior that is a bound itself."""
    options = {"hidden": (16,), "prior": "vhp", "prior_options": PRIORS["vhp"]}
    model = hvae_course.recipes.vae(data, **options)
    objective = Constrained(0.5, inner_steps=1, smoothing=0.5)
    settings = {"objective": objective, "accelerator": accelerator}
    hvae_course.fit(model, data, **(SETTINGS | settings))
    return model.state_dict() | objective.state_dict()


def work(rank: int, port: int, data: DataSet, folder: Path) -> None:
    """What each of the two processes does: train, and leave its results in a file."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(rank)  # the processes start from different weights
    model = hvae_course.recipes.two_level_vae(data, hidden=(16,))
    traces, batches = [], []

    def objective(trace: Trace, x: Tensor) -> Tensor:
        traces.append(trace)
        batches.append(x)
        return elbo(trace, x)

    history = hvae_course.fit(
        model, data, objective=objective, accelerator=accelerator, **SETTINGS
    )
    z1 = traces[0].levels[0]
    result = {
        "batch": batches[0],
        "noise": ((z1.z - z1.q.mean) / z1.q.stddev).detach(),
        "weights": model.state_dict(),
        "history": history.rows,
        "gradients": {p: first_gradients(data, accelerator, p) for p in PRIORS},
        "free bits": free_bits(slice(rank, None, 2)),
        "constrained": constrained(slice(rank, None, 2)),
        "constrained run": constrained_run(data, accelerator),
    }
    torch.save(result, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tiny_data, tmp_path_factory) -> list[dict]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (port, tiny_data, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_both_processes_end_with_the_same_weights(results):
    first, second = (result["weights"] for result in results)
    assert first.keys() == second.keys()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_both_processes_record_the_same_history(results):
    first, second = (result["history"] for result in results)
    assert str(first) == str(second)


def test_the_processes_share_a_batch_and_draw_noise_of_their_own(results):
    batch = torch.cat([result["batch"] for result in results])
    assert [len(result["batch"]) for result in results] == [20, 20]
    assert len(batch.unique(dim=0)) == 40
    first, second = (result["noise"] for result in results)
    assert ((first - second).abs() > 1e-3).float().mean() > 0.9


@pytest.mark.parametrize("prior", PRIORS)
def test_the_averaged_gradient_of_two_processes_is_that_of_one(
    prior, results, tiny_data, make_accelerator
):
    expected = first_gradients(tiny_data, make_accelerator(), prior)
    for result in results:
        torch.testing.assert_close(result["gradients"][prior], expected, rtol=1e-4, atol=1e-5)


def test_the_batch_of_a_floor_is_that_of_both_processes(results):
    for rank, result in enumerate(results):
        expected = [part[rank::2] for part in free_bits(slice(None))]
        torch.testing.assert_close(result["free bits"], expected, rtol=0, atol=0)
        assert (result["free bits"][2] == -1).all()  # z_1 pays what it uses in both
        assert (result["free bits"][3] == 0).all()  # z_2 pays its floor in both


def test_the_error_of_a_constraint_is_that_of_both_processes(results):
    whole = constrained(slice(None))
    value, state, *gradients = whole
    assert state[0] == 2.5 and state[1] > 0.5 and state[2] == 1
    for rank, result in enumerate(results):
        expected = [value[rank::2], state, *(part[rank::2] for part in gradients)]
        torch.testing.assert_close(result["constrained"], expected)
        alone = -torch.tensor([-1.0, -2.0, -3.0, -4.0])[rank::2].mean()
        assert (alone < 2.6) == (rank == 0)


def test_a_constrained_run_keeps_prices_and_weights_of_both_processes_together(results):
    first, second = (result["constrained run"] for result in results)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first["steps"] == 6 and first["released"] == 1 and first["beta"] > 0.01
