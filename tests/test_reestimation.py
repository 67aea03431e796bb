"""Statistics of batch normalisation that fit the weights: averaged ones, and estimated anew."""

import copy

import pytest
import torch
from steps import same, weights
from torch import nn

from hvae_course.data import Split
from hvae_course.nets import BatchNorm
from hvae_course.training import reestimate_batch_statistics
from hvae_course.training.averaging import MovingAverage

D = torch.float64


def norms(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm1d)}


def inputs_of(model: nn.Module) -> dict[str, list[torch.Tensor]]:
    """What every layer of batch normalisation will be given, pass by pass."""
    seen = {name: [] for name in norms(model)}
    for name, norm in norms(model).items():
        norm.register_forward_hook(lambda _, given, __, own=seen[name]: own.append(given[0]))
    return seen


# The moving average


def averaged(momentum: float = 1.0, *, spread: float = 0.5) -> tuple:
    """A linear layer whose weights move about, with running statistics of its last batch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=momentum)).to(D)
    x = torch.randn(500, 3, dtype=D) + 2
    net(x)  # statistics that belong to the first weights
    average = MovingAverage(net, 0.9)
    for _ in range(50):
        with torch.no_grad():
            net[0].weight += spread * torch.randn_like(net[0].weight)
            net[0].bias += spread * torch.randn_like(net[0].bias)
        net(x)
        average.update(net)
    return net, average.model, x


def test_averaged_means_are_those_of_the_averaged_weights():
    """Exactly, for a linear layer; the statistics of the last weights belong to other weights."""
    net, average, x = averaged()
    outputs = average[0](x)
    torch.testing.assert_close(average[1].running_mean, outputs.mean(dim=0))
    assert (net[1].running_mean - outputs.mean(dim=0)).abs().max() > 0.5


def test_averaged_variances_are_not_below_those_of_the_averaged_weights():
    """A variance is convex in the weights, so that its average is at least that of the average."""
    _, average, x = averaged()
    assert (average[1].running_var > average[0](x).var(dim=0)).all()
    _, average, x = averaged(spread=1e-4)  # weights that have settled
    torch.testing.assert_close(average[1].running_var, average[0](x).var(dim=0), rtol=1e-5, atol=0)


def test_with_averaged_statistics_the_averaged_layer_is_standardised():
    """In evaluation the output has the mean 0, which the last statistics would not give."""
    net, average, x = averaged()
    torch.testing.assert_close(average(x).mean(dim=0), torch.zeros(2, dtype=D))
    copied = copy.deepcopy(average)
    copied[1].load_state_dict(net[1].state_dict())
    assert copied(x).mean(dim=0).abs().max() > 0.1


# Estimated anew


def test_one_batch_gives_the_exact_statistics_of_every_layer(make_model, tiny_data):
    model = make_model("ladder_vae").double()
    with torch.no_grad():
        for norm in norms(model).values():
            norm.running_mean.normal_()
            norm.running_var.uniform_(1, 2)
    seen = inputs_of(model)
    reestimate_batch_statistics(model, tiny_data.train, batch_size=120)
    for name, (batch,) in seen.items():
        norm = norms(model)[name]
        torch.testing.assert_close(norm.running_mean, batch.mean(dim=0))
        torch.testing.assert_close(norm.running_var, batch.var(dim=0))
    x = tiny_data.train.batch(slice(None)).double()
    first = model.bottom_up(x)  # evaluated on the same data, up to n / (n - 1) in the variance
    torch.testing.assert_close(model.eval().bottom_up(x), first, rtol=0.01, atol=0.01)


def test_every_batch_counts_the_same(make_model, tiny_data):
    """Three batches of 40: the mean of all, and the mean of three unbiased variances."""
    model = make_model().double()
    seen = inputs_of(model)
    reestimate_batch_statistics(model, tiny_data.train, batch_size=40)
    for name, batches in seen.items():
        norm = norms(model)[name]
        assert [len(batch) for batch in batches] == [40, 40, 40]
        torch.testing.assert_close(norm.running_mean, torch.cat(batches).mean(dim=0))
        variances = torch.stack([batch.var(dim=0) for batch in batches])
        torch.testing.assert_close(norm.running_var, variances.mean(dim=0))


def test_batches_cover_the_data_once_and_then_again_in_another_order(make_model, tiny_data):
    model, seen = make_model(), []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    reestimate_batch_statistics(model, tiny_data.train, batch_size=50, num_batches=5)
    assert len(seen) == 5  # 120 examples, two batches in each pass
    rows = {tuple(row.tolist()) for row in torch.cat(seen[:2])}
    assert len(rows) == 100 and not torch.equal(seen[0], seen[2])


def test_nothing_changes_but_the_statistics(make_model, tiny_data):
    model = make_model(dropout=0.5).train()
    before = copy.deepcopy(model)
    torch.manual_seed(3)
    expected = torch.randn(3)
    torch.manual_seed(3)
    reestimate_batch_statistics(model, tiny_data.train, batch_size=40)
    assert torch.equal(torch.randn(3), expected)
    for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert all(m.training for m in model.modules())
    assert all(norm.momentum == 0.1 for norm in norms(model).values())
    changed = [n for n, b in model.named_buffers() if not torch.equal(b, before.get_buffer(n))]
    assert {n.rsplit(".", 1)[0] for n in changed} == norms(model).keys()


def test_one_seed_gives_one_result(make_model, tiny_data):
    first, second, other = make_model(), make_model(), make_model()
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        reestimate_batch_statistics(model, tiny_data.train, batch_size=40, seed=seed)
    assert same(weights(first), weights(second)) and not same(weights(first), weights(other))


def test_statistics_of_weights_that_moved_are_mended(make_model, tiny_data):
    """Weights are scaled by hand, so that the old statistics belong to others."""
    model = make_model()
    reestimate_batch_statistics(model, tiny_data.train, batch_size=120)
    kept = weights(model)
    layer = model.get_submodule(next(iter(norms(model))).rsplit(".", 1)[0])[0]
    with torch.no_grad():
        layer.weight *= 3
        layer.bias *= 3
    reestimate_batch_statistics(model, tiny_data.train, batch_size=120)
    for name, value in weights(model).items():
        if name.endswith("running_var") and name.startswith("bottom_up"):
            factor = 9 if name.startswith(next(iter(norms(model)))) else 1
            torch.testing.assert_close(value, factor * kept[name], rtol=1e-3, atol=1e-5)


def test_the_layers_of_every_part_are_reached_and_labels_are_read(make_model, tiny_data):
    options = {"hidden": (6,), "normalisation": "batch", "num_samples": 3}
    model = make_model(prior="vhp", prior_options=options, conditional=True)
    assert any(name.startswith("prior") for name in norms(model))
    reestimate_batch_statistics(model, tiny_data.train, batch_size=60)
    assert all(norm.num_batches_tracked >= 2 for norm in norms(model).values())


def test_a_layer_that_data_do_not_reach_keeps_its_statistics(make_model, tiny_data):
    model = make_model()
    model.unused = BatchNorm(3)
    model.unused.running_mean.fill_(5.0)
    reestimate_batch_statistics(model, tiny_data.train)
    assert (model.unused.running_mean == 5).all()


def test_an_error_leaves_the_statistics_as_they_were(make_model, tiny_data):
    model = make_model()
    before = weights(model)
    calls = []

    def fail(*_) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    model.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        reestimate_batch_statistics(model, tiny_data.train, batch_size=40)
    assert same(weights(model), before)
    assert all(norm.momentum == 0.1 for norm in norms(model).values())


def test_a_model_without_batch_normalisation_is_refused(make_model, tiny_data):
    with pytest.raises(ValueError, match="has no batch normalisation whose statistics could"):
        reestimate_batch_statistics(make_model(normalisation="layer"), tiny_data.train)


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"num_batches": 0}], ids=str)
def test_fewer_than_one_batch_of_two_is_refused(settings, make_model, tiny_data):
    with pytest.raises(ValueError, match=r"need one batch of two examples or more, got batch_s"):
        reestimate_batch_statistics(make_model(), tiny_data.train, **settings)
    one = Split(tiny_data.train.pixels[:1], None, tiny_data.train.max_value)
    with pytest.raises(ValueError, match="for 1 examples"):
        reestimate_batch_statistics(make_model(), one)
