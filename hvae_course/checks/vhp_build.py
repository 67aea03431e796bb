r"""Checks of the build of chapter 6: a VAE with a VHP prior, trained under a constraint.

The networks are handed to the student: encoder, decoder, :math:`q(\zeta \mid z)` and
:math:`p(z \mid \zeta)`, in this order. Encoder and the networks of the prior give means and raw
log-scales, the decoder gives the mean of the image. The reference is the package's own model with
the same weights, and the package's draws are repeated with the noise that the student is given.
"""

import math
from collections.abc import Callable, Sequence
from unittest import mock

import torch
from torch import Tensor, nn

from hvae_course.checks.building import plain, used, weights
from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.nested import log_normal, split_gaussian
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    alike,
    as_sequence,
    as_tensor,
    checked,
    compare,
    copies,
    over_the_batch,
)
from hvae_course.data import DataSpec
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import Constrained, ReWO
from hvae_course.recipes import vae
from hvae_course.seeding import isolated_random

_BATCH, _DRAWS, _SIZE, _DATA = 16, 5, 3, 6
_STD = 0.8
Networks = Sequence[nn.Module]
"""Encoder, decoder, inference and generative network of the prior."""


def _package(seed: int = 0) -> HierarchicalVAE:
    """A VAE of the package with a VHP prior, in float32, with the weights of one seed."""
    prior = {"hidden": (8,), "zeta_size": _SIZE, "num_samples": _DRAWS}
    with isolated_random(torch.device("cpu")):
        torch.random.default_generator.manual_seed(seed)
        model = vae(
            DataSpec((_DATA,), None),
            latent_size=_SIZE,
            hidden=(8,),
            normalisation="none",
            activation="tanh",
            likelihood_options={"std": _STD},
            prior="vhp",
            prior_options=prior,
        ).float()
        for parameter in model.parameters():
            parameter.data *= 1.7  # mistakes show
    return model


def _networks(model: HierarchicalVAE) -> tuple[nn.Module, ...]:
    encoder = plain(model.bottom_up.blocks[0], model.posterior.heads[0])
    prior = plain(model.prior.inference), plain(model.prior.generative)
    return encoder, plain(model.top_down.likelihood.net), *prior


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float32)


def _repeating(noise: Sequence[Tensor], function: Callable[[], object]) -> object:
    """Call a function of the package, whose draws are the given noise, one after another."""
    left = iter(noise)

    def draw(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        return next(left).reshape(shape).to(dtype)

    with mock.patch.object(torch.distributions.normal, "_standard_normal", draw):
        return function()


def _same_twice(answer: Answer, inputs: Sequence[object]) -> None:
    """Accept an answer that makes its draws from the noise it is given."""
    first, again = (answer(*copies(inputs)) for _ in range(2))
    finite = isinstance(first, Tensor) and first.isfinite().all()
    if finite and not alike(first, again):
        raise Mistake("two calls with the same noise differ; draw with the noise that is given")


@checked
def log_prior(answer: Answer) -> str:
    r"""The VHP's bound on the log-density of codes (:eq:`eq-vhp`).

    Write ``log_prior(inference, generative, z, noise) -> (B,)``, in nats. ``z`` is ``(B, Z)``, and
    ``noise``, ``(M, B, Z_zeta)``, makes the M draws of :math:`\zeta` per code. ``inference`` maps
    ``(N, Z)`` to the outputs of :math:`q(\zeta \mid z)`, ``generative`` maps ``(N, Z_zeta)`` to
    those of :math:`p(z \mid \zeta)`. Codes far from the prior must not underflow, and gradients
    must reach ``z``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for draws, scale in ((_DRAWS, 1.0), (1, 1.0), (3, 40.0)):
        model = _package()
        model.prior.num_samples = draws
        _, _, inference, generative = _networks(model)
        z, noise = scale * _normal(_BATCH, _SIZE), _normal(draws, _BATCH, _SIZE)

        def right(*inputs: object, model: HierarchicalVAE = model) -> Tensor:
            *_, z, noise = inputs
            return _repeating([noise], lambda: model.prior().expand((len(z),)).log_prob(z))

        inputs = (inference, generative, z, noise)
        hints = log_prior.mistakes if draws == _DRAWS else ()
        _same_twice(answer, inputs)
        if scale > 1 and answer(*copies(inputs)).isinf().any():
            raise Mistake("codes far from the prior do not give a finite number; use logsumexp")
        compare(answer, right, inputs, name=f"the bound, M = {draws},", mistakes=hints)
        if scale == 1:
            of_codes = [
                lambda z, noise, f=f, nets=inputs[:2]: f(*nets, z, noise)
                for f in (answer, _density())
            ]
            check_gradients(*of_codes, [z, noise], names=("z", "the noise"))
    return (
        "the bounds of 48 codes, with 5, 1 and 3 draws of zeta, are those of the package's VHP, "
        "and so are their gradients"
    )


def _density(
    terms: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda p, zeta, q: p + zeta - q,
    mean: Callable[[Tensor], Tensor] = lambda logs: logs.logsumexp(dim=0) - math.log(len(logs)),
    draw: Callable[..., Tensor] = lambda m, s, noise: m + s.exp() * noise,
    split: Callable[[Tensor], tuple[Tensor, Tensor]] = split_gaussian,
    reads: Callable[[Tensor, Tensor, Tensor], tuple] = lambda z, m, zeta: (z, zeta),
    repeat: Callable[..., Tensor] = lambda z, shape: z.expand(*shape, -1).flatten(0, 1),
    log_p: Callable[[Tensor, Tensor, Tensor], Tensor] = log_normal,
    log_q: Callable[[Tensor, Tensor, Tensor], Tensor] = log_normal,
) -> Answer:
    """The bound, or a mistake in one of its parts."""

    def answer(inference: nn.Module, generative: nn.Module, z: Tensor, noise: Tensor) -> Tensor:
        q_mean, q_log_std = split(inference(z))
        zeta = draw(q_mean, q_log_std, noise)
        scored, given = reads(z, q_mean.expand_as(zeta), zeta)
        p_mean, p_log_std = split(generative(given.flatten(0, 1)))
        zero, shape = torch.zeros_like(zeta), zeta.shape[:2]

        def of_draws(density: Callable, mean: Tensor, log_std: Tensor) -> Tensor:
            flat = [part.expand_as(zeta).flatten(0, 1) for part in (zeta, mean, log_std)]
            return density(*flat).unflatten(0, shape)

        scores = log_p(repeat(scored, shape), p_mean, p_log_std).unflatten(0, shape)
        log_zeta = of_draws(log_normal, zero, zero)
        return mean(terms(scores, log_zeta, of_draws(log_q, q_mean, q_log_std)))

    return answer


for _hint, _wrong in {
    "this is the mean log-weight; take the log of the mean weight": _density(
        mean=lambda logs: logs.mean(dim=0)
    ),
    "log M is not subtracted; the bound has the mean of the weights": _density(
        mean=lambda logs: logs.logsumexp(dim=0)
    ),
    "log M is added; subtract it": _density(
        mean=lambda logs: logs.logsumexp(dim=0) + math.log(len(logs))
    ),
    "this is the largest log-weight; take the log of the mean weight": _density(
        mean=lambda logs: logs.amax(dim=0)
    ),
    "log q(zeta | z) is missing; the weights divide by it": _density(lambda p, zeta, q: p + zeta),
    "log p(zeta) is missing": _density(lambda p, zeta, q: p - q),
    "log p(z | zeta) is missing": _density(lambda p, zeta, q: zeta - q),
    "log q(zeta | z) is added; the weights divide by it": _density(
        lambda p, zeta, q: p + zeta + q
    ),
    "zeta is the mean of q(zeta | z); use the noise": _density(
        draw=lambda m, s, noise: m + 0 * noise
    ),
    "zeta is drawn from p(zeta) and scored as a draw from q; draw it from q(zeta | z)": _density(
        draw=lambda m, s, noise: noise
    ),
    "the noise is multiplied by log_std; multiply it by the standard deviation": _density(
        draw=lambda m, s, noise: m + s * noise
    ),
    "p(z | zeta) is computed from the mean of q(zeta | z); it reads the draws": _density(
        reads=lambda z, m, zeta: (z, m)
    ),
    "the log-scales are not bounded; use the function gaussian": _density(
        split=lambda outputs: outputs.chunk(2, dim=1)
    ),
    "this is the mean weight; return its logarithm": _density(
        mean=lambda logs: logs.exp().mean(dim=0)
    ),
    "the two networks are swapped; q(zeta | z) is the inference network": (
        lambda inference, generative, z, noise: _density()(generative, inference, z, noise)
    ),
    "the noise is multiplied by the variance; multiply it by the standard deviation": _density(
        draw=lambda m, s, noise: m + (2 * s).exp() * noise
    ),
    "log_std is halved, as if it were a log-variance": _density(
        draw=lambda m, s, noise: m + (s / 2).exp() * noise
    ),
    "the log-weights have the sign reversed; they are log p - log q": _density(
        lambda p, zeta, q: q - p - zeta
    ),
    "the sign is reversed; return the bound, not a loss": _density(
        mean=lambda logs: math.log(len(logs)) - logs.logsumexp(dim=0)
    ),
    "only the first draw of zeta is used; average over all M": _density(mean=lambda logs: logs[0]),
    "log p(z | zeta) lacks the log of its standard deviations": _density(
        log_p=lambda z, mean, log_std: log_normal(z, mean, log_std) + log_std.sum(dim=1)
    ),
    "log q(zeta | z) lacks the log of its standard deviations": _density(
        log_q=lambda zeta, mean, log_std: log_normal(zeta, mean, log_std) + log_std.sum(dim=1)
    ),
    "the dimensions of z are averaged in log p(z | zeta); add up their log-densities": _density(
        log_p=lambda z, mean, log_std: log_normal(z, mean, log_std) / z.shape[1]
    ),
    "codes and draws are paired in different orders; repeat z as a whole, once per draw": _density(
        repeat=lambda z, shape: z.repeat_interleave(shape[0], dim=0)
    ),
    "two calls with the same noise differ": _density(
        draw=lambda m, s, noise: m + s.exp() * torch.randn_like(noise)
    ),
    "use logsumexp": _density(mean=lambda logs: logs.exp().mean(dim=0).log()),
    "no gradient passes through it": lambda *inputs: _density()(*inputs).detach(),
    "but the gradient with respect to z is not": _density(
        draw=lambda m, s, noise: (m + s.exp() * noise).detach()
    ),
}.items():
    log_prior.mistake(_hint)(_wrong)
log_prior.mistake("but the gradient with respect to z is not")(
    lambda inference, generative, z, noise: _density()(
        lambda z: inference(z.detach()), generative, z, noise
    )
)
log_prior.mistakes += over_the_batch(_density())


@checked
def sample(answer: Answer) -> str:
    r"""Images from the model: the direction of generation.

    Write ``sample(generative, decoder, zeta, noise) -> (N, D)``: the mean of the image at a code
    drawn from the prior. ``zeta``, ``(N, Z_zeta)``, holds draws from :math:`p(\zeta)`; ``noise``,
    ``(N, Z)``, draws z from :math:`p(z \mid \zeta)`.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    _, decoder, _, generative = _networks(_package())
    inputs = (generative, decoder, _normal(_BATCH, _SIZE), _normal(_BATCH, _SIZE))
    _same_twice(answer, inputs)
    compare(answer, _sample(), inputs, name="the image", mistakes=sample.mistakes)
    return "the images of 16 draws are right"


def _sample(
    draw: Callable[..., Tensor] = lambda m, s, noise, zeta: m + s.exp() * noise,
    split: Callable[[Tensor], tuple[Tensor, Tensor]] = split_gaussian,
    result: Callable[..., Tensor] = lambda image, noise: image,
) -> Answer:
    """The image, or a mistake."""

    def answer(generative: nn.Module, decoder: nn.Module, zeta: Tensor, noise: Tensor) -> Tensor:
        return result(decoder(draw(*split(generative(zeta)), noise, zeta)), noise)

    return answer


for _hint, _wrong in {
    "z is the mean of p(z | zeta); the noise is missing": _sample(lambda m, s, noise, zeta: m),
    "the decoder reads zeta; it reads z": _sample(lambda m, s, noise, zeta: zeta),
    "z is drawn from N(0, I), so the prior is not used": _sample(lambda m, s, noise, zeta: noise),
    "the noise is multiplied by log_std; multiply it by the standard deviation": _sample(
        lambda m, s, noise, zeta: m + s * noise
    ),
    "the noise is multiplied by the variance; multiply it by the standard deviation": _sample(
        lambda m, s, noise, zeta: m + (2 * s).exp() * noise
    ),
    "log_std is halved, as if it were a log-variance": _sample(
        lambda m, s, noise, zeta: m + (s / 2).exp() * noise
    ),
    "two calls with the same noise differ": _sample(
        lambda m, s, noise, zeta: m + s.exp() * torch.randn_like(noise)
    ),
    "zeta and the noise are swapped; the generative network reads zeta": (
        lambda generative, decoder, zeta, noise: _sample()(generative, decoder, noise, zeta)
    ),
    "the noise is not scaled; multiply it by the standard deviation": _sample(
        lambda m, s, noise, zeta: m + noise
    ),
    "the log-scale is not bounded; use the function gaussian": _sample(
        split=lambda outputs: outputs.chunk(2, dim=1)
    ),
    "the decoder gives the mean of the image; leave out the sigmoid": _sample(
        result=lambda image, noise: image.sigmoid()
    ),
    "this averages over the images; return one per row": _sample(
        result=lambda image, noise: image.mean(dim=0)
    ),
}.items():
    sample.mistake(_hint)(_wrong)


@checked
def terms(answer: Answer) -> str:
    r"""Reconstruction, information and error of a batch.

    Write ``terms(networks, x, noise, noise_zeta, std)``, which returns three tensors ``(B,)``: the
    log-density of ``x`` under :math:`N(g(z), \mathrm{std}^2)`, in nats; :math:`\log q(z \mid x) -
    \log \hat p(z)`, in nats; and the squared error per dimension, C of :eq:`eq-fixed-scale`.
    ``networks`` holds encoder, decoder, inference and generative; ``noise`` draws z, and
    ``noise_zeta`` the values of :math:`\zeta` in ``log_prior``. Gradients must pass.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    names = ("the reconstruction", "the information", "the error")
    model = _package()
    x, noise = _normal(_BATCH, _DATA), _normal(_BATCH, _SIZE)
    noise_zeta = _normal(_DRAWS, _BATCH, _SIZE)

    def right(
        networks: Networks, x: Tensor, noise: Tensor, noise_zeta: Tensor, std: float
    ) -> list:
        def run() -> list[Tensor]:
            trace = model(x)
            error = (x - trace.px.mean).square().mean(dim=1)
            return [trace.log_px(x), trace.levels[0].information, error]

        return _repeating([noise, noise_zeta], run)

    inputs = (_networks(model), x, noise, noise_zeta, _STD)
    compare(answer, right, inputs, name=names, mistakes=terms.mistakes)
    of_data = [
        lambda x, noise, noise_zeta, f=f: f(inputs[0], x, noise, noise_zeta, _STD)[:2]
        for f in (answer, _terms())
    ]
    noises = ("the noise", "the noise of zeta")
    check_gradients(*of_data, [x, noise, noise_zeta], names=("x", *noises))
    return (
        "reconstruction, information and error of 16 examples are those of the package's model, "
        "and so are the gradients"
    )


def _terms(
    reconstruction: Callable[[Tensor, Tensor, float], Tensor] = (
        lambda x, mean, std: log_normal(x, mean, torch.full_like(x, math.log(std)))
    ),
    information: Callable[[Tensor, Tensor], Tensor] = lambda log_q, log_p: log_q - log_p,
    error: Callable[[Tensor, Tensor], Tensor] = lambda x, mean: (x - mean).square().mean(dim=1),
    draw: Callable[..., Tensor] = lambda m, s, noise: m + s.exp() * noise,
    result: Callable[..., object] = lambda *three: three,
) -> Answer:
    """The three terms, or a mistake in one of them."""

    def answer(
        networks: Networks, x: Tensor, noise: Tensor, noise_zeta: Tensor, std: float
    ) -> object:
        encoder, decoder, inference, generative = networks
        mean, log_std = split_gaussian(encoder(x))
        z = draw(mean, log_std, noise)
        log_q, log_p = (
            log_normal(z, mean, log_std),
            _density()(inference, generative, z, noise_zeta),
        )
        image = decoder(z)
        return result(reconstruction(x, image, std), information(log_q, log_p), error(x, image))

    return answer


for _hint, _wrong in {
    "the information has the sign reversed; it is log q - log p": _terms(
        information=lambda log_q, log_p: log_p - log_q
    ),
    "the information lacks the prior": _terms(information=lambda log_q, log_p: log_q),
    "the information lacks log q": _terms(information=lambda log_q, log_p: -log_p),
    "the reconstruction lacks the constant and the log of std": _terms(
        lambda x, mean, std: -0.5 * ((x - mean) / std).square().sum(dim=1)
    ),
    "the reconstruction is averaged over the dimensions; sum it": _terms(
        lambda x, mean, std: log_normal(x, mean, torch.full_like(x, math.log(std))) / x.shape[1]
    ),
    "std is not used in the reconstruction": _terms(
        lambda x, mean, std: log_normal(x, mean, torch.zeros_like(x))
    ),
    "std is treated as a variance": _terms(
        lambda x, mean, std: log_normal(x, mean, torch.full_like(x, 0.5 * math.log(std)))
    ),
    "the reconstruction has its sign reversed; it is to be maximised": _terms(
        lambda x, mean, std: -log_normal(x, mean, torch.full_like(x, math.log(std)))
    ),
    "the error is summed over the dimensions; C is per dimension": _terms(
        error=lambda x, mean: (x - mean).square().sum(dim=1)
    ),
    "the error is the root of the mean square; C is the square": _terms(
        error=lambda x, mean: (x - mean).square().mean(dim=1).sqrt()
    ),
    "the error is divided by std; C is in squared units of the data": _terms(
        error=lambda x, mean: (x - mean).square().mean(dim=1) / _STD**2
    ),
    "the error is averaged over the batch here; return one number per example": _terms(
        result=lambda r, i, e: (r, i, e.mean() + 0 * e)
    ),
    "std is squared; it is a standard deviation already": _terms(
        lambda x, mean, std: log_normal(x, mean, torch.full_like(x, 2 * math.log(std)))
    ),
    "the constant and the log of std are there once; there is one for every dimension": _terms(
        lambda x, mean, std: (
            -0.5 * ((x - mean) / std).square().sum(dim=1)
            - math.log(std)
            - 0.5 * math.log(2 * math.pi)
        )
    ),
    "the error is the absolute one; C is the square": _terms(
        error=lambda x, mean: (x - mean).abs().mean(dim=1)
    ),
    "z is the mean of q(z | x); the noise is missing": _terms(draw=lambda m, s, noise: m),
    "the noise is multiplied by log_std; multiply it by the standard deviation": _terms(
        draw=lambda m, s, noise: m + s * noise
    ),
    "the information comes second; return reconstruction, information, error": _terms(
        result=lambda r, i, e: (i, r, e)
    ),
    "the value is right, but the gradient": _terms(
        draw=lambda m, s, noise: (m + s.exp() * noise).detach()
    ),
    "the error comes last; return reconstruction, information, error": _terms(
        result=lambda r, i, e: (e, r, i)
    ),
}.items():
    terms.mistake(_hint)(_wrong)


@terms.mistake("the information has N(0, I) for the prior; use log_prior")
def _(networks, x, noise, noise_zeta, std):
    reconstruction, _, error = _terms()(networks, x, noise, noise_zeta, std)
    mean, log_std = split_gaussian(networks[0](x))
    z = mean + log_std.exp() * noise
    log_p = log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
    return reconstruction, log_normal(z, mean, log_std) - log_p, error


@terms.mistake("the value is right, but the gradient")
def _(networks, x, noise, noise_zeta, std):
    encoder, decoder, inference, generative = networks
    detached = [encoder, decoder, lambda z: inference(z.detach()), generative]
    return _terms()(detached, x, noise, noise_zeta, std)


terms.mistake("the value is right, but the gradient")(
    _terms(information=lambda log_q, log_p: log_q - log_p.detach())
)


@checked
def rewo(answer: Answer) -> str:
    r"""One step of the constraint: moving average, phase and KL weight (:eq:`eq-rewo`).

    Write ``rewo(state, error, kappa) -> state``, where ``state`` is ``(beta, average, released)``.
    ``average`` becomes 0.95 of itself plus 0.05 of ``error``, the mean C of the batch; it is None
    before the first step and then takes ``error`` itself. The violation is ``average / kappa**2 -
    1``. ``released`` is False until the first violation that is zero or less, and True from then
    on, that step included. While it is False, ``beta`` stays. Then ``beta`` is multiplied by
    :math:`e^\eta` with :math:`\nu = 0.1`, :math:`\tau = 3`, and :math:`\eta` clamped to [-1, 1].
    All numbers are Python's.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    errors = [
        0.9,
        0.4,
        0.6,
        0.1,
        0.05,
        0.02,
        *[0.01] * 60,
        0.5,
        3.0,
        24.0,
        24.0,
        24.0,
        *[0.02] * 90,
    ]
    names = ("beta", "the average", "released")

    starts = {0.05: errors, 0.5: [0.25, 0.3], 1.5: [0.0, 0.5, 0.5, 0.3]}

    def path(function: Answer) -> Answer:
        def run(kappa: float) -> list[Tensor]:
            states = []
            for beta, errors in starts.items():
                state = (beta, None, False)
                for error in errors:
                    state = tuple(as_sequence(function(state, error, kappa), 3, name="the state"))
                    if any(part is None for part in state):
                        raise Mistake("a part of the new state is None; return three numbers")
                    states.append([float(part) for part in state])
            return list(torch.tensor(states, dtype=torch.float64).T)

        return run

    steps = sum(map(len, starts.values()))
    named = [f"{name} over {steps} steps" for name in names]
    hints = used(path, rewo.mistakes)
    compare(path(answer), path(_rewo()), [0.5], name=named, mistakes=hints)
    expected = []
    for beta, errors in starts.items():
        package = _constrained(beta, 0.5)
        for error in errors:
            package.update(torch.tensor(error))
            expected.append(package.beta.item())
    compare(
        path(answer),
        lambda kappa: [torch.tensor(expected), *path(_rewo())(kappa)[1:]],
        [0.5],
        name=named,
    )
    return f"beta, average and phase are those of the package over {steps} steps"


def _constrained(beta: float, kappa: float) -> Constrained:
    objective = Constrained(kappa, rule=ReWO(0.1, 3.0), beta=beta)
    objective.begin(torch.device("cpu"))
    return objective.train()


def _rewo(
    average_of: Callable[[float, float], float] = lambda past, error: 0.95 * past + 0.05 * error,
    first: Callable[[float], float] = lambda error: error,
    violation_of: Callable[[float, float], float] = lambda average, kappa: average / kappa**2 - 1,
    release: Callable[[bool, float], bool] = lambda before, violation: before or violation <= 0,
    held: Callable[[float], float] = lambda beta: math.tanh(3 * (beta - 1)),
    violated: Callable[[float], float] = lambda beta: -1.0,
    clamp: Callable[[float], float] = lambda step: max(-1.0, min(1.0, step)),
    move: Callable[[float, float], float] = lambda beta, step: beta * math.exp(step),
) -> Answer:
    """One step, or a mistake in one of its parts."""

    def answer(state: tuple, error: float, kappa: float) -> tuple:
        beta, average, released = state
        average = first(error) if average is None else average_of(average, error)
        violation = violation_of(average, kappa)
        released = release(released, violation)
        if released:
            direction = (held if violation < 0 else violated)(beta)
            beta = move(beta, clamp(0.1 * violation * direction))
        return beta, average, released

    return answer


for _hint, _wrong in {
    "the average forgets too fast; the past has the weight 0.95, the error 0.05": _rewo(
        lambda past, error: 0.05 * past + 0.95 * error
    ),
    "the violation is computed from the error of the batch; keep a moving average": _rewo(
        lambda past, error: error
    ),
    "the first average is not the first error; without a past, take the error itself": _rewo(
        first=lambda error: 0.05 * error
    ),
    "the average is compared with kappa; the constraint allows kappa**2": _rewo(
        violation_of=lambda average, kappa: average / kappa - 1
    ),
    "the violation is a difference here; divide by kappa**2": _rewo(
        violation_of=lambda average, kappa: average - kappa**2
    ),
    "the phase returns whenever the constraint is violated; once released is True it stays": _rewo(
        release=lambda before, violation: violation <= 0
    ),
    "the phase ends with a violation below zero; a violation of zero ends it too": _rewo(
        release=lambda before, violation: before or violation < 0
    ),
    "beta moves in the first phase; there it stays": _rewo(release=lambda before, violation: True),
    "beta is never released; the first phase ends with the first violation <= 0": _rewo(
        release=lambda before, violation: False
    ),
    "a violated constraint raises beta; it should lower it": _rewo(violated=lambda beta: 1.0),
    "this is GECO; while the constraint holds, the step of ReWO has a tanh": _rewo(
        held=lambda beta: -1.0
    ),
    "while the constraint holds, beta moves away from 1": _rewo(
        held=lambda beta: math.tanh(3 * (1 - beta))
    ),
    "tau is missing inside the tanh": _rewo(held=lambda beta: math.tanh(beta - 1)),
    "the tanh is missing while the constraint holds": _rewo(held=lambda beta: 3 * (beta - 1)),
    "the tanh has beta; it should have beta - 1": _rewo(held=lambda beta: math.tanh(3 * beta)),
    "nu is missing; eta is 0.1 times the violation": _rewo(
        clamp=lambda step: max(-1.0, min(1.0, 10 * step))
    ),
    "beta is multiplied by 1 + eta; multiply it by the exponential of eta": _rewo(
        move=lambda beta, step: beta * (1 + step)
    ),
    "beta is kept at 1 or below; it comes back to 1 by itself": _rewo(
        move=lambda beta, step: min(1.0, beta * math.exp(step))
    ),
    "an average of zero counts as none; ask whether it is None": _rewo(
        lambda past, error: 0.95 * past + 0.05 * error if past else error
    ),
    "the step is not clamped to [-1, 1]": _rewo(clamp=lambda step: step),
    "the average comes second; return beta, average, released": (
        lambda *inputs: [_rewo()(*inputs)[i] for i in (1, 0, 2)]
    ),
    "the step is added to beta; multiply beta by its exponential": _rewo(
        move=lambda beta, step: beta + step
    ),
    "beta is divided by exp(eta), as a multiplier lambda would be": _rewo(
        move=lambda beta, step: beta * math.exp(-step)
    ),
}.items():
    rewo.mistake(_hint)(_wrong)


@rewo.mistake("beta stays in the step that ends the first phase; it moves from that step on")
def _(state, error, kappa):
    beta, average, released = _rewo()(state, error, kappa)
    return beta if state[2] else state[0], average, released


@checked
def train(answer: Answer) -> str:
    r"""The training loop, with the prior held back in the first phase.

    Write ``train(networks, batches, kappa, std, rate) -> networks, betas``. Each batch is ``(x,
    noise, noise_zeta)``. Per batch: compute the terms; move the state with the mean error, from
    ``(0.5, None, False)``; maximise the mean of reconstruction - beta * information, with the new
    beta, by one step of ``torch.optim.SGD`` with the learning rate ``rate``. Until ``released``,
    the parameters of inference and generative stay as they are. ``betas`` holds the beta of every
    step, a list of numbers.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    kappa, scales = 1.05, [0.6] * 8 + [3.0] * 4  # the constraint is met, then violated
    batches = [
        (scale * _normal(_BATCH, _DATA), _normal(_BATCH, _SIZE), _normal(_DRAWS, _BATCH, _SIZE))
        for scale in scales
    ]
    parts = ("encoder", "decoder", "inference network", "generative network")

    def trained(function: Answer) -> Answer:
        def run(batches: list, kappa: float, std: float, rate: float) -> list[Tensor]:
            value = function(_networks(_package()), list(batches), kappa, std, rate)
            networks, betas = as_sequence(value, 2, name="the result")
            if isinstance(betas, list | tuple) and any(isinstance(b, nn.Module) for b in betas):
                raise Mistake(
                    "the result has the betas first; return the networks, then the betas"
                )
            betas = as_tensor(betas, (len(batches),), name="the list of betas")
            networks = as_sequence(networks, 4, name="the networks")
            return [*[weights(network) for network in networks], betas]

        return run

    hints = used(trained, train.mistakes)
    for steps in (3, len(batches)):  # a training that goes wrong is still finite after 3
        names = [*[f"the weights of the {part} after {steps} steps" for part in parts], "beta"]
        inputs = (batches[:steps], kappa, _STD, 0.01)
        compare(trained(answer), _package_trained, inputs, name=names, mistakes=hints)
    return "the weights and beta after 12 steps are those of the package, in both phases"


def _package_trained(batches: list, kappa: float, std: float, rate: float) -> list[Tensor]:
    """What `train` should give, with the package's model and objective."""
    model, objective, betas = _package(), _constrained(0.5, kappa), []
    prior = list(model.prior.parameters())
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    with objective.holding_back(optimiser, prior):
        for x, noise, noise_zeta in batches:
            value = _repeating([noise, noise_zeta], lambda x=x: objective(model(x), x))
            optimiser.zero_grad()
            (-value.mean()).backward()
            optimiser.step()
            betas.append(objective.beta.item())
    return [*[weights(network) for network in _networks(model)], torch.tensor(betas)]


def _train(
    objective: Callable[..., Tensor] = lambda r, i, beta: r - beta * i,
    step: Answer = _rewo(),  # noqa: B008
    frozen: Callable[[bool], bool] = lambda released: not released,
    sign: float = -1.0,
    late: bool = False,
    clears: bool = True,
    reduce: Callable[[Tensor], Tensor] = torch.mean,
    start: float = 0.5,
    held: tuple[int, int] = (2, 4),
    optimise: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    measured: Callable[[Tensor], Tensor] = torch.mean,
) -> Answer:
    """The loop, or a mistake in it."""

    def answer(
        networks: list[nn.Module], batches: list, kappa: float, std: float, rate: float
    ) -> tuple:
        every = [p for network in networks for p in network.parameters()]
        prior = [p for network in networks[slice(*held)] for p in network.parameters()]
        optimiser, state, betas = optimise(every, lr=rate), (start, None, False), []
        for x, noise, noise_zeta in batches:
            reconstruction, information, error = _terms()(networks, x, noise, noise_zeta, std)
            before = state
            state = step(state, measured(error).item(), kappa)
            beta = (before if late else state)[0]
            if clears:
                optimiser.zero_grad()
            (sign * reduce(objective(reconstruction, information, beta))).backward()
            if frozen(state[2]):
                for parameter in prior:
                    parameter.grad = None
            optimiser.step()
            betas.append(state[0])
        return networks, betas

    return answer


for _hint, _wrong in {
    "the prior is trained in the first phase; hold it back until released": _train(
        frozen=lambda released: False
    ),
    "the prior is never trained; it is held back in the first phase only": _train(
        frozen=lambda released: True
    ),
    "the objective is minimised; maximise reconstruction - beta * information": _train(sign=1.0),
    "the information has the weight 1; multiply it by beta": _train(lambda r, i, beta: r - i),
    "beta multiplies the reconstruction; it multiplies the information": _train(
        lambda r, i, beta: beta * r - i
    ),
    "the information is added; subtract it": _train(lambda r, i, beta: r + beta * i),
    "the objective has the beta of the step before; move the state first": _train(late=True),
    "the gradients of all steps add up; set them to zero before each backward": _train(
        clears=False
    ),
    "the objective is summed over the batch; take its mean": _train(reduce=torch.sum),
    "the first beta is not 0.5": _train(start=1.0),
    "the inference network is held back, the generative one is not; hold back both": _train(
        held=(2, 3)
    ),
    "the generative network is held back, the inference network is not; hold back both": _train(
        held=(3, 4)
    ),
    "all networks are held back in the first phase; encoder and decoder are trained": _train(
        held=(0, 4)
    ),
    "encoder and decoder are held back in the first phase; hold back the prior": _train(
        held=(0, 2)
    ),
    "the optimiser is Adam; use SGD": _train(optimise=torch.optim.Adam),
    "the error is summed over the batch; give rewo its mean": _train(measured=torch.sum),
    "the information is detached, so that beta has no effect; detach nothing": _train(
        lambda r, i, beta: r - beta * i.detach()
    ),
}.items():
    train.mistake(_hint)(_wrong)


@train.mistake("the result has the betas first; return the networks, then the betas")
def _(networks, batches, kappa, std, rate):
    return _train()(networks, batches, kappa, std, rate)[::-1]
