"""Multilayer perceptrons, and batch normalisation of a single example."""

import pytest
import torch
from torch import nn

from hvae_course.nets import ACTIVATIONS, NORMALISATIONS, BatchNorm, mlp


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("sizes", [(5, 3), (5, 8, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_first_and_last_size_are_the_widths_of_input_and_output(normalisation, sizes, batch):
    net = mlp(*sizes, normalisation=normalisation)
    assert net(torch.randn(batch, sizes[0])).shape == (batch, sizes[-1])


def test_one_size_alone_is_the_identity():
    net, x = mlp(5), torch.randn(2, 5)
    assert torch.equal(net(x), x)
    assert not list(net.parameters())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_layer_is_linear_normalisation_activation_and_dropout(normalisation, activation):
    kinds = [nn.Linear, NORMALISATIONS[normalisation], ACTIVATIONS[activation]]
    settings = {"normalisation": normalisation, "activation": activation}
    assert [type(layer) for layer in mlp(4, 3, 2, **settings)] == 2 * kinds
    layers = list(mlp(4, 3, 2, **settings, dropout=0.25))
    assert [type(layer) for layer in layers] == 2 * [*kinds, nn.Dropout]
    assert layers[3].p == layers[7].p == 0.25


def test_the_usual_layer_has_batch_normalisation_and_silu():
    assert [type(layer) for layer in mlp(4, 3)] == [nn.Linear, BatchNorm, nn.SiLU]
    assert (NORMALISATIONS["layer"], NORMALISATIONS["none"]) == (nn.LayerNorm, nn.Identity)


def test_gated_units_are_products_with_gates_from_the_same_inputs():
    torch.manual_seed(0)
    network, x = mlp(4, 3, normalisation="none", activation="glu"), torch.randn(5, 4)
    weight, bias = network[0].weight, network[0].bias
    unit, gate = x @ weight[:3].T + bias[:3], x @ weight[3:].T + bias[3:]
    torch.testing.assert_close(network(x), unit * torch.sigmoid(gate))
    assert mlp(4, 3, 2, activation="glu")(x).shape == (5, 2)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"normalisation": "group"}, r"'group'; choose one of \['batch', 'layer', 'none'\]"),
        (
            {"activation": "sine"},
            r"unknown activation 'sine'; choose one of \['gelu', 'glu', 'leaky_relu', 'relu', 's",
        ),
        *[
            ({"dropout": value}, rf"probability in \[0, 1\), got {value}")
            for value in (-0.1, 1.0, 1.5, float("nan"))
        ],
    ],
    ids=str,
)
def test_what_is_not_a_layer_is_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        mlp(4, 3, **settings)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("batch", [1, 2, 6])
def test_constant_batches_give_finite_outputs_and_gradients(
    normalisation, batch, assert_finite_gradients
):
    net = mlp(4, 8, 3, normalisation=normalisation)
    assert_finite_gradients(net, net(torch.zeros(batch, 4)).square().mean())
    assert_finite_gradients(net, net(torch.full((batch, 4), 1e3)).square().mean())


@pytest.fixture
def norm() -> BatchNorm:
    """Batch normalisation after a few training batches."""
    norm = BatchNorm(3)
    for _ in range(5):
        norm(2 * torch.randn(10, 3) + 1)
    return norm


def test_one_example_is_normalised_with_the_running_statistics(norm):
    x = torch.randn(1, 3)
    expected = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(norm.train()(x), expected)
    torch.testing.assert_close(norm.train()(x), norm.eval()(x))


def test_one_example_does_not_update_the_running_statistics(norm):
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.train()(torch.randn(1, 3))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_several_examples_are_normalised_as_in_torch(training):
    ours, theirs = BatchNorm(3).train(training), nn.BatchNorm1d(3).train(training)
    for _ in range(3):
        x = torch.randn(4, 3)
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)
