"""The masked network: what each output sees, in every order and window."""

import pytest
import torch
from torch import nn

from hvae_course.masked import MaskedLinear, MaskedMLP

D = torch.float64
WINDOWS = [None, 0, 1, 2, 4, 9]
windows = pytest.mark.parametrize("window", WINDOWS)
hiddens = pytest.mark.parametrize("hidden", [(), (5,), (17, 12), (10, 10, 10)], ids=str)


def network(size=5, seed=0, **options) -> MaskedMLP:
    torch.manual_seed(seed)
    net = MaskedMLP(size, **options)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.7)
    return net.double()


def jacobian(net, size=5, context=None):
    """``(K, D, D)``: outputs, dimension of the output, input."""
    v = torch.randn(size, dtype=D, generator=torch.Generator().manual_seed(1))
    return torch.autograd.functional.jacobian(lambda v: net(v, context), v)


def allowed(size, window, places=None):
    """Pairs (output, input) where the input is one of the w before the output."""
    places = torch.arange(size) if places is None else torch.as_tensor(places)
    back = places[:, None] - places[None, :]
    return (back >= 1) & (back <= (size if window is None else window))


@windows
@hiddens
def test_an_output_sees_the_inputs_of_its_window_and_no_other(window, hidden):
    net = network(window=window, hidden=hidden, outputs=3)
    for one in jacobian(net):
        assert torch.equal(one != 0, allowed(5, window))


@windows
def test_the_hidden_layers_see_the_whole_window_too(window):
    net = network(window=window, hidden=(10, 10))
    nn.init.zeros_(net.direct.weight)
    assert torch.equal(jacobian(net)[0] != 0, allowed(5, window))


@windows
@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (2, 0, 4, 1, 3)], ids=str)
def test_the_order_says_what_comes_before(window, order):
    net = network(window=window, order=order, hidden=(11, 9))
    assert torch.equal(jacobian(net)[0] != 0, allowed(5, window, order))


@windows
@hiddens
def test_several_inputs_of_a_dimension_have_the_place_of_the_dimension(window, hidden):
    net = network(window=window, hidden=hidden, outputs=2, inputs=3)
    both = torch.autograd.functional.jacobian(net, torch.randn(15, dtype=D))  # (K, D, J D)
    reads = both.unflatten(-1, (3, 5)) != 0
    expected = allowed(5, window)[:, None, :].expand(5, 3, 5)
    assert all(torch.equal(one, expected) for one in reads)


@windows
def test_the_context_enters_every_output(window):
    net, c = network(window=window, context=2, hidden=(10,)), torch.randn(2, dtype=D)
    assert torch.equal(jacobian(net, context=c)[0] != 0, allowed(5, window))
    v = torch.randn(5, dtype=D)
    reads = torch.autograd.functional.jacobian(lambda c: net(v, c), c)
    assert (reads != 0).all()


def test_a_first_mask_that_lets_an_input_see_itself_is_noticed():
    """The usual mistake: the first mask lets a unit of output i read input i."""
    net = network(hidden=(10,))
    units = [(0, k * 5 // 10) for k in range(10)]
    inputs = [(place, place) for place in range(5)]
    wrong = MaskedLinear(inputs, [(a, b + 1) for a, b in units]).double()
    nn.init.normal_(wrong.weight)
    net.layers[0] = wrong
    assert (jacobian(net)[0].diagonal() != 0).any()


def test_without_a_window_the_masks_are_those_of_made():
    """Germain et al.: degree m reads degrees up to m, and an output those below its own."""
    net = MaskedMLP(5, hidden=(10, 15))
    inputs, outputs = torch.arange(1, 6), torch.arange(1, 6)
    first, second = (torch.arange(n) * 5 // n for n in (10, 15))
    masks = [layer.mask.bool() for layer in net.layers]
    assert torch.equal(masks[0], first[:, None] >= inputs)
    assert torch.equal(masks[1], second[:, None] >= first)
    assert torch.equal(masks[2], outputs[:, None] > second)


def test_leading_axes_and_contexts_broadcast():
    net = network(context=3, outputs=2)
    v, c = torch.randn(7, 4, 5, dtype=D), torch.randn(4, 3, dtype=D)
    found = net(v, c)
    assert found.shape == (7, 4, 2, 5)
    torch.testing.assert_close(found[6, 2], net(v[6, 2], c[2]))


def test_masks_are_no_part_of_a_checkpoint():
    assert not [name for name in MaskedMLP(3).state_dict() if "mask" in name]


@pytest.mark.parametrize("order", [(0, 1), (0, 1, 1), (1, 2, 3)], ids=str)
def test_an_order_names_every_place_once(order):
    with pytest.raises(ValueError, match="the order gives each of 3 dimensions a place from 0"):
        MaskedMLP(3, order=order)


@pytest.mark.parametrize("window", [-1, 1.5])
def test_a_window_is_a_number_of_inputs(window):
    with pytest.raises(ValueError, match=f"the number of inputs that an output sees.*{window}"):
        MaskedMLP(3, window=window)
