"""Other right answers to the build of chapter 6."""

import math

import torch
from torch.distributions import Independent, Normal


def gaussian(outputs):
    mean, raw = outputs.tensor_split(2, dim=1)
    return Independent(Normal(mean, (7 * torch.tanh(raw / 7)).exp()), 1)


def bound_draw_by_draw(inference, generative, z, noise):
    q, log_w = gaussian(inference(z)), []
    for epsilon in noise:
        zeta = q.mean + q.stddev * epsilon
        log_zeta = Independent(Normal(0 * zeta, 1.0), 1).log_prob(zeta)
        log_p = gaussian(generative(zeta)).log_prob(z)
        log_w.append(log_p + log_zeta - q.log_prob(zeta))
    log_w = torch.stack(log_w, dim=1)
    return log_w.logsumexp(1) - math.log(log_w.shape[1])


def bound_with_softmax_shift(inference, generative, z, noise):
    draws = bound_draw_by_draw
    each = torch.stack([draws(inference, generative, z, e[None]) for e in noise])
    most = each.max(dim=0).values
    return most + (each - most).exp().mean(dim=0).log()


def sample_in_place(generative, decoder, zeta, noise):
    p = gaussian(generative(zeta))
    return decoder(torch.addcmul(p.mean, p.stddev, noise))


def terms_by_formula(networks, x, noise, noise_zeta, std):
    q = gaussian(networks[0](x))
    z = q.mean + q.stddev * noise
    squares = (x - networks[1](z)).square().sum(dim=1)
    dims = x.shape[1]
    log_px = -squares / (2 * std**2) - dims * (math.log(std) + 0.5 * math.log(2 * math.pi))
    log_p = bound_draw_by_draw(networks[2], networks[3], z, noise_zeta)
    return [log_px, q.log_prob(z) - log_p, squares / dims]


def rewo_with_a_logarithm(state, error, kappa):
    beta, average, released = state
    average = error if average is None else average + 0.05 * (error - average)
    violation = average / kappa**2 - 1
    step = -0.1 * violation
    if violation < 0:
        step = -step * math.tanh(3 * (beta - 1))
    if released or violation <= 0:
        return math.exp(math.log(beta) + min(max(step, -1), 1)), average, True
    return beta, average, False


def train_with_two_optimisers(networks, batches, kappa, std, rate):
    optimisers = [
        torch.optim.SGD([p for n in half for p in n.parameters()], lr=rate)
        for half in (networks[:2], networks[2:])
    ]
    state, betas = (0.5, None, False), []
    for x, *noise in batches:
        log_px, information, error = terms_by_formula(networks, x, *noise, std)
        state = rewo_with_a_logarithm(state, float(error.detach().mean()), kappa)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss = -(log_px.mean() - state[0] * information.mean())
        loss.backward()
        for optimiser in optimisers[: 2 if state[2] else 1]:
            optimiser.step()
        betas.append(state[0])
    return networks, torch.tensor(betas)


def train_with_frozen_parameters(networks, batches, kappa, std, rate):
    every = [p for network in networks for p in network.parameters()]
    optimiser, state, betas = torch.optim.SGD(every, lr=rate), (0.5, None, False), []
    for x, *noise in batches:
        with torch.no_grad():
            error = terms_by_formula(networks, x, *noise, std)[2].mean()
        state = rewo_with_a_logarithm(state, float(error), kappa)
        for network in networks[2:]:
            network.requires_grad_(state[2])
        log_px, information, _ = terms_by_formula(networks, x, *noise, std)
        optimiser.zero_grad()
        (state[0] * information - log_px).mean().backward()
        optimiser.step()
        betas.append(state[0])
    return list(networks), betas


OTHERS = {
    "log_prior": [bound_draw_by_draw, bound_with_softmax_shift],
    "sample": [sample_in_place],
    "terms": [terms_by_formula],
    "rewo": [rewo_with_a_logarithm],
    "train": [train_with_two_optimisers, train_with_frozen_parameters],
}
