"""Checks of the build of chapter 1: a two-level VAE in six stages, from plain networks to a bound.

The stages draw, so their values are not known in advance. A check takes the latents that an answer
returns, or those that it passes to its networks, and asks whether they have the right distribution
and whether the densities are right at these latents. The last stage is held to the package's model
with the same weights.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from hvae_course.checks.building import (
    at,
    compare_noise,
    compare_sum,
    fixed_noise,
    inputs_of,
    make,
    not_none,
    plain,
    seeded,
    used,
)
from hvae_course.checks.gradients import check_gradients
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    alike,
    as_sequence,
    as_tensor,
    checked,
    compare,
    compare_values,
    copies,
    hint_for,
    over_the_batch,
)
from hvae_course.data import DataSpec
from hvae_course.gaussians import diag_normal, kl_normal, split_normal, standard_normal
from hvae_course.hierarchy import HierarchicalVAE
from hvae_course.objectives import importance_weighted
from hvae_course.recipes import two_level_vae

_ROWS, _SIZE, _PIXELS = 4000, 3, 5


def _package() -> tuple[HierarchicalVAE, SimpleNamespace]:
    """A small two-level VAE of the package, and its four networks in plain layers."""
    model = two_level_vae(
        DataSpec(_PIXELS, 2), latent_sizes=(_SIZE, _SIZE), hidden=(8,), normalisation="none"
    )
    posterior, top_down = model.posterior, model.top_down
    net = SimpleNamespace(
        q1=plain(model.bottom_up.blocks[0], posterior.heads[0]),
        q2=plain(posterior.heads[1]),
        p1=plain(top_down.conditionals[0]),
        px=plain(top_down.likelihood.net),
    )
    with torch.no_grad():  # means that depend on what is read, moderate standard deviations
        for parameter in model.parameters():
            parameter.mul_(1.6)
        for gaussian_net in (net.q1, net.q2, net.p1):
            for parameter in gaussian_net[-1].parameters():
                parameter[_SIZE:].mul_(0.3)
    return model, net


def _images(rows: int) -> Tensor:
    return torch.bernoulli(torch.full((rows, _PIXELS), 0.5))


def _same_draws(mistake: Answer, values: Sequence[Tensor], inputs: Sequence[object]) -> bool:
    """Whether a mistake returns the same values with the same random numbers."""
    others = seeded(mistake)(*copies(inputs))
    return all(alike(a, b) for a, b in zip(values, others, strict=True))


def _shared(name: str) -> str:
    return (
        f"the dimensions of {name} share their noise; give every dimension noise of its own, as "
        "randn_like does"
    )


def _compare_noises(noises: Mapping[str, Tensor]) -> None:
    """Accept the noise of two latents if its numbers are standard normal and independent."""
    for name, noise in noises.items():
        compare_noise(noise, name=name)
        shared = (noise * noise.roll(1, dims=1)).mean()
        if shared.abs() > 5 / math.sqrt(noise.numel()):
            raise Mistake(_shared(name))
    compare_noise(sum(noises.values()) / math.sqrt(2), name="the pair of z_1 and z_2")


def _moments(answer: Answer) -> Answer:
    """Mean, standard deviation and log-density of the distribution that an answer returns."""

    def values(outputs: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = not_none(answer(outputs))
        if not isinstance(q, Distribution):
            raise Mistake(
                f"return a distribution of torch.distributions, got {type(q).__name__}; the later "
                "stages need its log_prob and rsample"
            )
        return q.mean, q.stddev, q.log_prob(z)

    return values


@checked
def gaussian(answer: Answer) -> str:
    r"""A diagonal Gaussian from the outputs of a network, :eq:`eq-bounded-scale`.

    Write ``gaussian(outputs) -> Distribution`` for outputs ``(B, 2 Z)``. The first Z columns are
    the means. The others, :math:`\xi`, give the standard deviations
    :math:`\exp(7 \tanh(\xi / 7))`. ``log_prob`` of the result has shape ``(B,)``.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    shapes = [(6, 3), (4, 1), (1, 5)]
    names = ("the mean", "the standard deviation", "log_prob")
    for b, z in shapes:
        outputs = torch.cat([torch.randn(b, z), 4 * torch.randn(b, z) - 1], dim=1)
        outputs[0, -1] = -12.0  # beyond the bound
        outputs.requires_grad_()
        inputs, known = (outputs, torch.randn(b, z)), used(_moments, gaussian.mistakes)
        compare(_moments(answer), _moments(split_normal), inputs, name=names, mistakes=known)
        moments = [lambda o, a=a, z=inputs[1]: _moments(a)(o, z)[:2] for a in (answer, _gaussian)]
        check_gradients(*moments, [outputs], names=["the outputs"])
    return f"mean, standard deviation and log-density agree in {len(shapes)} cases, with gradients"


def _gaussian(outputs: Tensor) -> Independent:
    return split_normal(outputs)


def _scaled(std: Callable[[Tensor], Tensor]) -> Answer:
    """A Gaussian whose standard deviations are another function of the raw log-scales."""

    def answer(outputs: Tensor) -> Independent:
        mean, raw = outputs.chunk(2, dim=-1)
        return Independent(Normal(mean, std(raw)), 1)

    return answer


for _hint, _std in {
    "the log-scale has no bound; squash it before the exponential": torch.exp,
    "the raw number is read as a log-variance; it is a log standard deviation, and bounded": (
        lambda raw: (raw / 2).exp()
    ),
    "half of the bounded log-scale is used, as for a log-variance; it is a log standard "
    "deviation": lambda raw: (3.5 * torch.tanh(raw / 7)).exp(),
    "the bound is a clamp, whose gradient is zero beyond it; use 7 tanh(raw / 7)": (
        lambda raw: raw.clamp(-7, 7).exp()
    ),
    "the factor 7 in front of tanh is missing; near zero the bound should change nothing": (
        lambda raw: torch.tanh(raw / 7).exp()
    ),
    "the division by 7 inside tanh is missing; near zero the bound should change nothing": (
        lambda raw: (7 * torch.tanh(raw)).exp()
    ),
    "both factors 7 are missing": lambda raw: torch.tanh(raw).exp(),
    "the bounded log-scale is doubled, which gives the variance; Normal takes the standard "
    "deviation": lambda raw: (14 * torch.tanh(raw / 7)).exp(),
    "the sign of the bounded log-scale is reversed; it is the log of the standard deviation, not "
    "of its inverse": lambda raw: (-7 * torch.tanh(raw / 7)).exp(),
    "the standard deviation is a softplus of the raw number; here it is an exponential": (
        F.softplus
    ),
    "the standard deviation is the size of the bounded log-scale; take its exponential": (
        lambda raw: (7 * torch.tanh(raw / 7)).abs()
    ),
}.items():
    gaussian.mistake(_hint, _scaled(_std))
gaussian.mistake(
    "log_prob is one number per dimension; make the dimensions one event, with Independent",
    lambda outputs: split_normal(outputs).base_dist,
)
gaussian.mistake(
    "the halves are swapped; the means come first",
    lambda outputs: split_normal(outputs.roll(outputs.shape[1] // 2, dims=1)),
)
gaussian.mistake(
    "means and log-scales are taken from alternate columns; they are the first and second half",
    lambda outputs: split_normal(torch.cat([outputs[:, ::2], outputs[:, 1::2]], dim=1)),
)
gaussian.mistake("no gradient passes through it", lambda outputs: split_normal(outputs.detach()))


def _generated(
    z2: Callable = lambda n, size: torch.randn(n, size),
    z1: Callable = lambda p1, z2: split_normal(p1(z2)).sample(),
    image: Callable = lambda px, z1, z2: px(z1).sigmoid(),
) -> Answer:
    """Ancestral samples, with a mistake in one of the three steps."""

    def answer(n: int, size: int, p1: nn.Module, px: nn.Module) -> tuple[Tensor, ...]:
        top = z2(n, size)
        below = z1(p1, top)
        return below, top, image(px, below, top)

    return answer


def _with_noise(q: Distribution, noise: Tensor, power: int = 1) -> Tensor:
    return q.mean + q.stddev**power * noise


@checked
def generate(answer: Answer) -> str:
    r"""Ancestral samples, :eq:`eq-generative`.

    Write ``generate(n, size, p1, px) -> (z1, z2, image)``: n draws of z_2, ``(n, size)``, from
    N(0, I), then of z_1 from :math:`p(z_1 \mid z_2)`, then the probability of every pixel to be 1,
    ``(n, D)``. ``p1`` and ``px`` are networks: ``p1(z2)`` are the outputs that ``gaussian`` reads,
    ``px(z1)`` are logits.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    _, net = _package()
    inputs = (_ROWS, _SIZE, net.p1, net.px)
    values = as_sequence(seeded(answer)(*inputs), 3, name="the result")
    shapes = {"z_1": _SIZE, "z_2": _SIZE, "the image": _PIXELS}
    values = [
        as_tensor(value, (_ROWS, size), name=name)
        for value, (name, size) in zip(values, shapes.items(), strict=True)
    ]
    z1, z2, image = (value.to(torch.get_default_dtype()) for value in values)
    try:
        with torch.no_grad():
            p = split_normal(net.p1(z2))
            noise = (z1 - p.mean) / p.stddev
            _compare_noises({"z_2": z2, "z_1": noise})
            if alike(image, net.px(p.mean).sigmoid()):
                raise Mistake("the image is decoded from the mean of p(z_1 | z_2); decode z_1")
            compare_values(image, net.px(z1).sigmoid(), name="the image of the z_1 you return")
    except Mistake:
        hint_for(generate.mistakes, lambda wrong: _same_draws(wrong, values, inputs))
        raise
    return f"{_ROWS:,} samples: both levels have the right distribution, the images belong to z_1"


for _hint, _wrong in {
    "z_1 is the mean of p(z_1 | z_2); draw from it": _generated(
        z1=lambda p1, z2: split_normal(p1(z2)).mean
    ),
    "z_1 is drawn from N(0, I); draw it from p(z_1 | z_2)": _generated(
        z1=lambda p1, z2: torch.randn_like(z2)
    ),
    "z_1 is drawn given another z_2 than the one that is returned": _generated(
        z1=lambda p1, z2: split_normal(p1(torch.randn_like(z2))).sample()
    ),
    "z_2 is zero, the mean of its prior; draw from N(0, I)": _generated(
        z2=lambda n, size: torch.zeros(n, size)
    ),
    "all samples have the same z_2; draw one for each": _generated(
        z2=lambda n, size: torch.randn(1, size).expand(n, size)
    ),
    "z_2 is uniform; draw from N(0, I), with randn": _generated(
        z2=lambda n, size: torch.rand(n, size)
    ),
    "the image holds logits; return probabilities": _generated(image=lambda px, z1, z2: px(z1)),
    "the image holds draws, 0 or 1; return the probabilities": _generated(
        image=lambda px, z1, z2: Bernoulli(logits=px(z1)).sample()
    ),
    "the image is decoded from z_2; the decoder reads z_1": _generated(
        image=lambda px, z1, z2: px(z2).sigmoid()
    ),
    "the two latents are in the wrong order; return z_1, z_2 and the image": (
        lambda *inputs: (lambda z1, z2, image: (z2, z1, image))(*_generated()(*inputs))
    ),
    _shared("z_2"): _generated(z2=lambda n, size: torch.randn(n, 1).expand(n, size)),
    _shared("z_1"): _generated(
        z1=lambda p1, z2: _with_noise(split_normal(p1(z2)), torch.randn(len(z2), 1))
    ),
    "the noise is multiplied by the variance; multiply it by the standard deviation": _generated(
        z1=lambda p1, z2: _with_noise(split_normal(p1(z2)), torch.randn_like(z2), power=2)
    ),
    "the noise is not scaled; multiply it by the standard deviation": _generated(
        z1=lambda p1, z2: _with_noise(split_normal(p1(z2)), torch.randn_like(z2), power=0)
    ),
}.items():
    generate.mistake(_hint, _wrong)


@generate.mistake("the image is decoded from the mean of p(z_1 | z_2); decode z_1")
def _(n, size, p1, px):
    z2 = torch.randn(n, size)
    p = split_normal(p1(z2))
    return p.sample(), z2, px(p.mean).sigmoid()


def _joint_terms(
    x: Tensor, z1: Tensor, z2: Tensor, p1: nn.Module, px: nn.Module
) -> dict[str, Tensor]:
    entropies = F.binary_cross_entropy_with_logits(px(z1), x, reduction="none")
    return {
        "log p(x | z_1)": -entropies.sum(-1),
        "log p(z_1 | z_2)": split_normal(p1(z2)).log_prob(z1),
        "log p(z_2)": standard_normal(z2.shape[1], like=z2).log_prob(z2),
    }


def _log_joint(x: Tensor, z1: Tensor, z2: Tensor, p1: nn.Module, px: nn.Module) -> Tensor:
    return sum(_joint_terms(x, z1, z2, p1, px).values())


@checked
def log_joint(answer: Answer) -> str:
    r"""The log-density of an image and its latents, :eq:`eq-generative`.

    Write ``log_joint(x, z1, z2, p1, px) -> (B,)``: :math:`\log p(x \mid z_1) + \log p(z_1 \mid
    z_2) + \log p(z_2)` in nats per example, for binary images ``(B, D)`` and latents ``(B, Z)``.
    Gradients must reach both latents.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    _, net = _package()
    for b in (6, 1, 9):
        x, (z1, z2) = _images(b).requires_grad_(), torch.randn(2, b, _SIZE)
        inputs = (x, z1, z2, net.p1, net.px)
        value = not_none(answer(*copies(inputs)))
        try:
            compare_sum(value, _joint_terms(*inputs), name="the log-density")
        except Mistake:
            hint_for(
                log_joint.mistakes,
                lambda wrong, value=value, given=inputs: alike(value, wrong(*copies(given))),
            )
            raise
        of_latents = [
            lambda z1, z2, f=f, x=x: f(x.clone(), z1, z2, net.p1, net.px)
            for f in (answer, _log_joint)
        ]
        check_gradients(*of_latents, [z1, z2], names=("z_1", "z_2"))
    return "agrees with the sum of three log-densities in 3 batches, gradients included"


def _joint_with(
    x: Callable = lambda x, logits: -F.binary_cross_entropy_with_logits(
        logits, x, reduction="none"
    ).sum(-1),
    z1: Callable = lambda p, z1, z2: p.log_prob(z1),
    decoded: Callable = lambda z1, z2: z1,
    above: Callable = lambda z1, z2: z2,
) -> Answer:
    """The log-density, with a mistake in one term."""

    def answer(images: Tensor, below: Tensor, top: Tensor, p1: nn.Module, px: nn.Module) -> Tensor:
        p = split_normal(p1(above(below, top)))
        prior = standard_normal(top.shape[1], like=top).log_prob(top)
        return x(images, px(decoded(below, top))) + z1(p, below, top) + prior

    return answer


for _hint, _wrong in {
    "the pixels are averaged; add up their log-probabilities": _joint_with(
        x=lambda x, logits: -F.binary_cross_entropy_with_logits(logits, x, reduction="none").mean(
            -1
        )
    ),
    'the cross-entropy is averaged over the whole batch; ask for reduction="none" and add up the '
    "pixels of every image": _joint_with(
        x=lambda x, logits: -F.binary_cross_entropy_with_logits(logits, x)
    ),
    'the cross-entropy is added up over the whole batch; ask for reduction="none" and add up the '
    "pixels of every image": _joint_with(
        x=lambda x, logits: -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    ),
    "only the white pixels are scored; a black pixel has a log-probability too": _joint_with(
        x=lambda x, logits: (x * F.logsigmoid(logits)).sum(-1)
    ),
    "the probabilities are used as logits; px(z1) holds logits, so leave the sigmoid out": (
        _joint_with(
            x=lambda x, logits: -F.binary_cross_entropy_with_logits(
                logits.sigmoid(), x, reduction="none"
            ).sum(-1)
        )
    ),
    "the reconstruction is a squared error; the pixels are binary, so score them with a Bernoulli "
    "distribution": _joint_with(x=lambda x, logits: -((logits.sigmoid() - x) ** 2).sum(-1)),
    "black and white are swapped in the reconstruction": _joint_with(
        x=lambda x, logits: -F.binary_cross_entropy_with_logits(
            logits, 1 - x, reduction="none"
        ).sum(-1)
    ),
    "z_1 is scored under N(0, I); its prior is p(z_1 | z_2)": _joint_with(
        z1=lambda p, z1, z2: standard_normal(z1.shape[1], like=z1).log_prob(z1)
    ),
    "z_2 is scored under p(z_1 | z_2); score z_1 there": _joint_with(
        z1=lambda p, z1, z2: p.log_prob(z2)
    ),
    "the dimensions of z_1 are averaged; add up their log-densities": _joint_with(
        z1=lambda p, z1, z2: p.base_dist.log_prob(z1).mean(-1)
    ),
    "the image is decoded from z_2; the decoder reads z_1": _joint_with(decoded=lambda z1, z2: z2),
    "p1 reads z_1; it should read z_2": _joint_with(above=lambda z1, z2: z1),
    "log p(x | z_1) has the wrong sign": _joint_with(
        x=lambda x, logits: F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    ),
    "log p(z_2) is missing": lambda x, z1, z2, p1, px: (
        _log_joint(x, z1, z2, p1, px) - _joint_terms(x, z1, z2, p1, px)["log p(z_2)"]
    ),
    "log p(z_2) lacks its constant, -0.5 log(2 pi) per dimension": lambda x, z1, z2, p1, px: (
        _log_joint(x, z1, z2, p1, px) + 0.5 * math.log(2 * math.pi) * z2.shape[1]
    ),
    "the dimensions of z_2 are averaged; add up their log-densities": lambda x, z1, z2, p1, px: (
        _log_joint(x, z1, z2, p1, px)
        + _joint_terms(x, z1, z2, p1, px)["log p(z_2)"] * (1 / z2.shape[1] - 1)
    ),
    "no gradient passes through it": lambda *inputs: _log_joint(*inputs).detach(),
}.items():
    log_joint.mistake(_hint, _wrong)
log_joint.mistakes += over_the_batch(_log_joint)


def _inferred(
    below: Callable = lambda q: q.rsample(),
    above: Callable = lambda q1, q2, z1: q2(z1).rsample(),
    score: Callable = lambda q1, q2, z1, z2: q1.log_prob(z1) + q2(z1).log_prob(z2),
) -> Answer:
    """The joint draw and its log-density, with a mistake in one step."""

    def answer(x: Tensor, q1: nn.Module, q2: nn.Module) -> tuple[Tensor, ...]:
        first = split_normal(q1(x))

        def second(z1: Tensor) -> Independent:
            return split_normal(q2(z1))

        z1 = below(first)
        z2 = above(first, second, z1)
        return z1, z2, score(first, second, z1, z2)

    return answer


@checked
def infer(answer: Answer) -> str:
    r"""A joint draw from the bottom-up posterior, with its log-density, :eq:`eq-chain`.

    Write ``infer(x, q1, q2) -> (z1, z2, log_q)``: z_1 from :math:`q(z_1 \mid x)`, z_2 from
    :math:`q(z_2 \mid z_1)`, both reparametrised, and :math:`\log q(z_1 \mid x) + \log q(z_2 \mid
    z_1)` at that draw, ``(B,)``. ``q1(x)`` and ``q2(z1)`` are the outputs that ``gaussian`` reads.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    _, net = _package()
    x = _images(_ROWS).requires_grad_()
    inputs = (x, net.q1, net.q2)
    result = as_sequence(seeded(answer)(*copies(inputs)), 3, name="the result")
    shapes = {"z_1": (_ROWS, _SIZE), "z_2": (_ROWS, _SIZE), "log q": (_ROWS,)}
    values = [
        as_tensor(value, shape, name=name)
        for value, (name, shape) in zip(result, shapes.items(), strict=True)
    ]
    z1, z2, _ = (value.to(x) for value in values)
    first, second = split_normal(net.q1(x)), split_normal(net.q2(z1))
    noise = [((z - q.mean) / q.stddev).detach() for z, q in ((z1, first), (z2, second))]
    terms = {"log q(z_1 | x)": first.log_prob(z1), "log q(z_2 | z_1)": second.log_prob(z2)}
    try:
        _compare_noises(dict(zip(("z_1", "z_2"), noise, strict=True)))
        compare_sum(result[2], terms, name="log q")
    except Mistake:
        hint_for(infer.mistakes, lambda wrong: _same_draws(wrong, values, inputs))
        raise
    z1 = first.mean + first.stddev * noise[0]
    second = split_normal(net.q2(z1))
    z2 = second.mean + second.stddev * noise[1]
    right = (z1, z2, first.log_prob(z1) + second.log_prob(z2))
    for name, own, expected in zip(shapes, result, right, strict=True):
        _check_gradient(own, expected, x, name=name)
    return f"{_ROWS:,} joint draws: distribution, log-density and gradients are right"


def _check_gradient(value: object, expected: Tensor, x: Tensor, *, name: str) -> None:
    """Accept a draw, or its log-density, whose gradient in x is that of a reparametrised draw."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        raise Mistake(
            f"the values are right, but no gradient passes through {name}; draw with rsample(), "
            "and detach nothing"
        )
    own, right = (
        torch.autograd.grad(
            (v.double() * torch.linspace(0.5, 1, v.shape[-1])).sum(),
            x,
            retain_graph=True,
            allow_unused=True,
        )[0]
        for v in (value, expected)
    )
    if own is None or not torch.allclose(own, right, 1e-2, 1e-2):
        raise Mistake(
            f"the values are right, but the gradient of {name} is not; draw every latent with "
            "rsample(), not with sample(), and detach nothing"
        )


for _hint, _wrong in {
    "z_1 is the mean of q(z_1 | x); draw from it": _inferred(below=lambda q: q.mean),
    "z_2 is the mean of q(z_2 | z_1); draw from it": _inferred(
        above=lambda q1, q2, z1: q2(z1).mean
    ),
    "z_2 is drawn given the mean of q(z_1 | x); give q2 the draw z_1": _inferred(
        above=lambda q1, q2, z1: q2(q1.mean).rsample()
    ),
    "z_1 is drawn twice, and z_2 belongs to the other draw; use one z_1 throughout": _inferred(
        above=lambda q1, q2, z1: q2(q1.rsample()).rsample()
    ),
    "log q is taken at new draws; take it at the z_1 and z_2 that you return": _inferred(
        score=lambda q1, q2, z1, z2: q1.log_prob(q1.rsample()) + q2(z1).log_prob(q2(z1).rsample())
    ),
    "log q(z_2 | z_1) is missing": _inferred(score=lambda q1, q2, z1, z2: q1.log_prob(z1)),
    "log q(z_1 | x) is missing": _inferred(score=lambda q1, q2, z1, z2: q2(z1).log_prob(z2)),
    "log q has the sign reversed": _inferred(
        score=lambda q1, q2, z1, z2: -q1.log_prob(z1) - q2(z1).log_prob(z2)
    ),
    "this is a density; return its logarithm, the sum of two log-densities": _inferred(
        score=lambda q1, q2, z1, z2: (q1.log_prob(z1) + q2(z1).log_prob(z2)).exp()
    ),
    "the second density is that of z_2 under q(z_1 | x); use q(z_2 | z_1)": _inferred(
        score=lambda q1, q2, z1, z2: q1.log_prob(z1) + q1.log_prob(z2)
    ),
    "the second density is that of z_2 under its prior; use q(z_2 | z_1)": _inferred(
        score=lambda q1, q2, z1, z2: (
            q1.log_prob(z1) + standard_normal(z2.shape[1], like=z2).log_prob(z2)
        )
    ),
    "log q is a mean, the negative entropy; take the two log-densities at the draw": _inferred(
        score=lambda q1, q2, z1, z2: -q1.entropy() - q2(z1).entropy()
    ),
    "the two latents are in the wrong order; return z_1, z_2 and log q": (
        lambda *inputs: (lambda z1, z2, log_q: (z2, z1, log_q))(*_inferred()(*inputs))
    ),
    _shared("z_1"): _inferred(below=lambda q: _with_noise(q, torch.randn(len(q.mean), 1))),
    _shared("z_2"): _inferred(
        above=lambda q1, q2, z1: _with_noise(q2(z1), torch.randn(len(z1), 1))
    ),
    "but the gradient of z_2 is not": _inferred(
        above=lambda q1, q2, z1: q2(z1.detach()).rsample()
    ),
    "but no gradient passes through z_1": _inferred(below=lambda q: q.sample()),
    "but no gradient passes through log q": _inferred(
        score=lambda q1, q2, z1, z2: (q1.log_prob(z1) + q2(z1).log_prob(z2)).detach()
    ),
    "but no gradient passes through z_2": _inferred(above=lambda q1, q2, z1: q2(z1).sample()),
    "but the gradient of log q is not": _inferred(
        score=lambda q1, q2, z1, z2: q1.log_prob(z1) + q2(z1).log_prob(z2).detach()
    ),
}.items():
    infer.mistake(_hint, _wrong)


class _Recorder:
    """Log-weights of random draws, which are remembered together with their rows."""

    def __init__(self, shift: float) -> None:
        self.shift, self.rows, self.values = shift, [], []

    def __call__(self, x: Tensor) -> Tensor:
        value = 2 * torch.randn(len(x)).to(x) + x.detach().sum(-1) + self.shift
        self.rows.append(x.detach().clone())
        self.values.append(value.requires_grad_())
        return value.clone()

    def per_example(self, x: Tensor) -> list[Tensor]:
        """The log-weights that each row of x received, in any order."""
        rows, values = torch.cat(self.rows), torch.cat(self.values)
        return [values[torch.isclose(rows, row).all(dim=-1)] for row in x.to(rows)]


def _log_mean(log_w: Tensor, dim: int = 0) -> Tensor:
    return log_w.logsumexp(dim) - math.log(log_w.shape[dim])


@checked
def importance_bound(answer: Answer) -> str:
    r"""The importance-weighted bound with K new draws per example, :eq:`eq-iwae`.

    Write ``importance_bound(log_weight, x, num_samples) -> (B,)``. ``log_weight(x)`` is a function
    that draws latents for every row of ``x`` and returns one log-weight per row, ``(B,)``. Every
    example needs ``num_samples`` new draws. Gradients must pass.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    for b, k, shift in ((4, 6, 0.0), (3, 5, 0.0), (2, 7, -2000.0), (3, 1, 0.0)):
        x, recorder = torch.randn(b, _PIXELS), _Recorder(shift)
        if shift:
            x[0] += 40.0  # its weights are e^200 times those of the others
        value = not_none(seeded(answer)(recorder, x.clone(), k), "the bound")
        name = f"the bound with K = {k}"
        per_example = recorder.per_example(x) if recorder.rows else []
        try:
            if not per_example:
                raise Mistake("log_weight is never called")
            counts = {len(draws) for draws in per_example}
            if counts != {k}:
                raise Mistake(
                    f"with num_samples = {k} every example should have {k} new log-weights, yours "
                    f"has {' or '.join(map(str, sorted(counts)))}"
                )
            if isinstance(value, Tensor) and value.isinf().any():
                raise Mistake(
                    "small log-weights do not give a finite number, as their exp is 0; use "
                    "logsumexp for every example"
                )
            expected = torch.stack([_log_mean(draws) for draws in per_example])
            compare_values(value, expected, name=name)
        except Mistake:
            hint_for(
                importance_bound.mistakes,
                lambda wrong, value=value, x=x, k=k, shift=shift: alike(
                    value, seeded(wrong)(_Recorder(shift), x.clone(), k)
                ),
            )
            raise
        _check_shares(value, expected, recorder.values)
    return (
        "the log of the mean weight over the K draws of each example, for K = 1, 5, 6 and 7, with "
        "its gradient"
    )


def _check_shares(value: Tensor, expected: Tensor, log_weights: Sequence[Tensor]) -> None:
    """Accept a bound whose gradient gives every log-weight its share of the weights."""
    if not value.requires_grad:
        raise Mistake("the bound is right, but no gradient passes through it; detach nothing")
    own, right = (
        torch.autograd.grad((v.double() * torch.linspace(1, 2, len(v))).sum(), log_weights)
        for v in (value, expected)
    )
    if not all(torch.allclose(a, b, 1e-3, 1e-4) for a, b in zip(own, right, strict=True)):
        raise Mistake(
            "the bound is right, but its gradient is not; if you subtract the largest log-weight, "
            "detach it in both places or in none"
        )


def _bound_of(
    summary: Callable[[Tensor], Tensor] = lambda w: _log_mean(w, 1),
    rows: Callable[[Tensor, int], Tensor] = lambda x, k: x.repeat_interleave(k, dim=0),
    arrange: Callable[[Tensor, int], Tensor] = lambda w, k: w.unflatten(0, (-1, k)),
) -> Answer:
    """The bound, with a mistake in one step."""

    def answer(log_weight: Callable[[Tensor], Tensor], x: Tensor, k: int) -> Tensor:
        return summary(arrange(log_weight(rows(x, k)), k))

    return answer


for _hint, _wrong in {
    "this is the mean of the log-weights, the ELBO; the mean belongs inside the log": _bound_of(
        lambda w: w.mean(1)
    ),
    "this is the log of the sum; subtract log K for that of the mean": _bound_of(
        lambda w: w.logsumexp(1)
    ),
    "log K is added; the mean divides by K, so subtract it": _bound_of(
        lambda w: w.logsumexp(1) + math.log(w.shape[1])
    ),
    "this is the largest log-weight, not the log of the mean weight": _bound_of(
        lambda w: w.amax(1)
    ),
    "this is the mean weight; return its logarithm": _bound_of(lambda w: w.exp().mean(1)),
    "the sign is reversed; return the bound, not a loss": _bound_of(lambda w: -_log_mean(w, 1)),
    "the draws of different examples are mixed; repeat and reshape in the same order": _bound_of(
        rows=lambda x, k: x.repeat(k, 1)
    ),
    "the log of the batch size is subtracted; subtract log K": _bound_of(
        lambda w: w.logsumexp(1) - math.log(len(w))
    ),
    "the mean is over the examples; average over the K draws of each": _bound_of(
        lambda w: _log_mean(w, 0)
    ),
    "but no gradient passes through it": _bound_of(lambda w: _log_mean(w, 1).detach()),
    "but its gradient is not": _bound_of(
        lambda w: w.amax(1).detach() + (w - w.amax(1)[:, None]).exp().mean(1).log()
    ),
    "this averages over the batch; return one number per example, (B,)": _bound_of(
        lambda w: _log_mean(w, 1).mean()
    ),
    "1 draw is repeated K times; call log_weight for every draw, or with every row repeated": (
        lambda log_weight, x, k: _log_mean(log_weight(x)[:, None].expand(-1, k), 1)
    ),
    "num_samples + 1 draws are taken of every example; take num_samples": (
        lambda log_weight, x, k: _log_mean(
            torch.stack([log_weight(x) for _ in range(k + 1)], dim=1), 1
        )
    ),
}.items():
    importance_bound.mistake(_hint, _wrong)
importance_bound.mistake(
    "the draws of different examples are mixed; repeat and reshape in the same order",
    _bound_of(lambda w: _log_mean(w, 0), arrange=lambda w, k: w.unflatten(0, (k, -1))),
)
importance_bound.mistake(
    "as their exp is 0",
    _bound_of(lambda w: w.exp().mean(1).log()),
    _bound_of(lambda w: w.max() + (w - w.max()).exp().mean(1).log()),
)


@checked
def TwoLevelVAE(answer: Answer) -> str:  # noqa: N802
    r"""The whole model, held to ``recipes.two_level_vae``.

    Write a class ``TwoLevelVAE(nn.Module)`` whose constructor takes the networks
    ``(q1, q2, p1, px)``. ``log_weight(x)`` gives the log-weight :eq:`eq-log-weight` of one joint
    draw per example, ``(B,)``. Calling the model, ``model(x, num_samples=1)``, gives the
    importance-weighted bound, ``(B,)``.

    Args:
        answer: the student's class.

    Returns:
        What was verified.
    """
    package, net = _package()
    networks = (net.q1, net.q2, net.p1, net.px)
    model = make(answer, *networks, methods=("log_weight", "forward"))
    x = _images(40).to(package.dtype)
    with fixed_noise():
        value, trace = not_none(model.log_weight(x.clone()), "log_weight(x)"), package(x)
    reconstruction, information_1, information_2 = trace.terms(x)[1:]
    terms = {"log p(x | z_1)": reconstruction}
    given = (("z_1 | z_2", "z_1 | x"), ("z_2", "z_2 | z_1"))
    for level, (in_p, in_q) in zip(trace.levels, given, strict=True):
        terms[f"log p({in_p})"] = level.p.log_prob(level.z)
        terms[f"log q({in_q})"] = -level.q.log_prob(level.z)
    try:
        compare_sum(value, terms, name="log_weight(x)")
        _check_joint(model, package, net, x)
        with fixed_noise():
            single, bound = model(x.clone()), model(x.clone(), 7)
        compare_values(bound, importance_weighted(trace, x), name="the bound with equal draws")
        compare_values(single, trace.log_weight(x), name="the bound without num_samples")
        _check_bound(model, x)
    except Mistake:

        def same(wrong: Answer) -> bool:
            pairs = zip(_outputs(model, x), _outputs(wrong(*networks), x), strict=True)
            return all(alike(a, b) for a, b in pairs)

        hint_for(TwoLevelVAE.mistakes, same)
        raise
    for name, own in (("log-weights", value), ("bounds", bound)):
        _check_parameters(own, trace.log_weight(x), networks, name=name)
    return (
        "given the same weights and noise, log-weights, bound and gradients are those of "
        "recipes.two_level_vae to 1e-4"
    )


def _outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    return seeded(model.log_weight)(x.clone()), seeded(model)(x.clone(), 3)


_TWO_DRAWS = (
    "q2 and px are given different draws of z_1; draw once, and use that z_1 and z_2 throughout"
)


def _check_joint(
    model: nn.Module, package: HierarchicalVAE, net: SimpleNamespace, x: Tensor
) -> None:
    """Accept log-weights that are those of the latents that the networks were given."""
    with inputs_of(net.q2, net.p1, net.px) as given:
        value = model.log_weight(x.clone())
    for_q2, z2, z1 = (_one_input(calls, len(x)) for calls in given)
    if z1 is None or z2 is None:
        return  # with functions of the weights
    if for_q2 is None or not alike(for_q2, z1):
        raise Mistake(_TWO_DRAWS)
    z1, z2 = (z.to(package.dtype) for z in (z1, z2))
    expected = at(package, x, [z1, z2]).log_weight(x)
    compare_values(value, expected, name="the log-weight at the latents that px and p1 read")


def _one_input(calls: Sequence[Tensor], rows: int) -> Tensor | None:
    """What a network is given for the whole batch, at once, again or row by row."""
    if calls and all(alike(call, calls[0]) for call in calls):
        return calls[0]
    return torch.cat(calls) if sum(map(len, calls)) == rows else None


def _check_bound(model: nn.Module, x: Tensor) -> None:
    """Accept a bound that rises with K as it should, over many draws of one image."""
    rows = x[:1].expand(3000, -1)
    with torch.no_grad():
        log_w = model.log_weight(rows.repeat_interleave(4, dim=0)).double().unflatten(0, (-1, 4))
        by_hand, own = _log_mean(log_w, 1), model(rows.clone(), 4)
    own = as_tensor(own, (3000,), name="the bound with K = 4")
    error = ((own.var() + by_hand.var()) / 3000).sqrt()
    if (own.mean() - by_hand.mean()).abs() > 5 * error + 1e-4:
        raise Mistake(
            f"over 3,000 calls, the bound with K = 4 should be {by_hand.mean():.2f} on average, "
            f"yours is {own.mean():.2f}; does every example have K draws of its own?"
        )


def _check_parameters(
    value: Tensor, expected: Tensor, networks: Sequence[nn.Module], *, name: str
) -> None:
    """Accept log-weights, or bounds, that have the package's gradient in every network."""
    for part, net in zip(("q1", "q2", "p1", "px"), networks, strict=True):
        right = torch.autograd.grad(expected.sum(), [*net.parameters()], retain_graph=True)
        if not value.requires_grad:
            raise Mistake(f"the {name} are right, but no gradient passes through them")
        own = torch.autograd.grad(
            value.sum(), [*net.parameters()], retain_graph=True, allow_unused=True
        )
        for a, b in zip(own, right, strict=True):
            if a is None or not torch.allclose(a, b, 1e-3, 1e-3):
                raise Mistake(
                    f"the {name} are right, but the gradient of {part} is not; draw with "
                    "rsample() and detach nothing"
                )


def _model_with(
    weight: Callable = lambda d: d.log_px + d.log_p1 + d.log_p2 - d.log_q1 - d.log_q2,
    bound: Callable = lambda log_weight, x, k: _bound_of()(log_weight, x, k),
    second: Callable = lambda q1, z1: z1,
) -> type[nn.Module]:
    """The model, with a mistake in the log-weight or in the bound."""

    class Model(nn.Module):
        def __init__(self, *networks: nn.Module) -> None:
            super().__init__()
            self.networks = nn.ModuleList(networks)

        def log_weight(self, x: Tensor) -> Tensor:
            q1, q2, p1, px = self.networks
            d = SimpleNamespace(q1=split_normal(q1(x)))
            d.z1 = d.q1.rsample()
            d.q2 = split_normal(q2(second(d.q1, d.z1)))
            d.z2 = d.q2.rsample()
            d.p1, d.p2 = split_normal(p1(d.z2)), diag_normal(0 * d.z2, 0 * d.z2)
            d.log_px, d.log_p1, d.log_p2 = _joint_terms(x, d.z1, d.z2, p1, px).values()
            d.log_q1, d.log_q2 = d.q1.log_prob(d.z1), d.q2.log_prob(d.z2)
            return weight(d)

        def forward(self, x: Tensor, num_samples: int = 1) -> Tensor:
            return bound(self.log_weight, x, num_samples)

    return Model


for _hint, _weight in {
    "this takes KL(q(z_1 | x) || p(z_1 | z_2)) in closed form, the trap of the chapter; use "
    "log-densities at the joint draw": (
        lambda d: d.log_px + d.log_p2 - d.log_q2 - kl_normal(d.q1, d.p1)
    ),
    "both KL terms are in closed form, the trap of the chapter; use log-densities at the joint "
    "draw": lambda d: d.log_px - kl_normal(d.q1, d.p1) - kl_normal(d.q2, d.p2),
    "the KL of z_2 is in closed form; right on average, but a log-weight is of one draw": (
        lambda d: d.log_px + d.log_p1 - d.log_q1 - kl_normal(d.q2, d.p2)
    ),
    "log q is added; the log-weight is log p minus log q": (
        lambda d: d.log_px + d.log_p1 + d.log_p2 + d.log_q1 + d.log_q2
    ),
    "log q is missing; the log-weight is log p minus log q": (
        lambda d: d.log_px + d.log_p1 + d.log_p2
    ),
    "log p(z_2) is missing": lambda d: d.log_px + d.log_p1 - d.log_q1 - d.log_q2,
    "log_weight(x) has the sign reversed in every term; it is log p minus log q": (
        lambda d: d.log_q1 + d.log_q2 - d.log_px - d.log_p1 - d.log_p2
    ),
    "no gradient passes": (
        lambda d: (d.log_px + d.log_p1 + d.log_p2 - d.log_q1 - d.log_q2).detach()
    ),
    "the gradient of q1 is not": (
        lambda d: d.log_px + d.log_p1 + d.log_p2 - d.log_q1.detach() - d.log_q2
    ),
}.items():
    TwoLevelVAE.mistake(_hint, _model_with(_weight))
TwoLevelVAE.mistake(_TWO_DRAWS, _model_with(second=lambda q1, z1: q1.rsample()))
TwoLevelVAE.mistake(
    "q2 reads the mean of q(z_1 | x); give it the draw z_1",
    _model_with(second=lambda q1, z1: q1.mean),
)
TwoLevelVAE.mistake(
    "the bound averages log-weights, which is the ELBO again; average the weights",
    _model_with(bound=_bound_of(lambda w: w.mean(1))),
)
TwoLevelVAE.mistake(
    "the bound is the log of the sum; subtract log K for that of the mean",
    _model_with(bound=_bound_of(lambda w: w.logsumexp(1))),
)
TwoLevelVAE.mistake(
    "the sign is reversed; return the bound, not a loss",
    _model_with(bound=_bound_of(lambda w: -_log_mean(w, 1))),
)
TwoLevelVAE.mistake(
    "the bounds are right, but no gradient passes through them",
    _model_with(bound=_bound_of(lambda w: _log_mean(w, 1).detach())),
)
TwoLevelVAE.mistake(
    "num_samples is ignored; the bound needs that many draws of every example",
    _model_with(bound=lambda log_weight, x, k: log_weight(x)),
)
