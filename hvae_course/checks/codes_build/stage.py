"""Check of the second stage, in which the prior is fitted and nothing else moves."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from hvae_course.checks.building import weights
from hvae_course.checks.codes_build.moving import reference_quantiser
from hvae_course.checks.codes_build.prior import Below, reference_prior
from hvae_course.checks.verdict import (
    Answer,
    Mistake,
    alike,
    as_tensor,
    checked,
    compare_values,
    hint_for,
)

_TOP, _BOTTOM, _SIZE = 4, 6, 3
_EPOCHS, _RATE = 4, 0.1


class _Grids(nn.Module):
    """A small model of two grids, with batch statistics and moving codes, in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.quantise1, self.quantise2 = (
            reference_quantiser(torch.randn(n, _SIZE), 0.25, 0.8, 0.05) for n in (_BOTTOM, _TOP)
        )
        self.up = nn.Sequential(nn.Conv2d(1, _SIZE, 2, stride=2), nn.BatchNorm2d(_SIZE))
        self.top = nn.AvgPool2d(2)
        self.pixels = nn.ConvTranspose2d(_SIZE, 4, 2, stride=2)

    def decode(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Logits ``(B, 4, 8, 8)`` of the maps of both grids."""
        return self.pixels(z1 + nn.functional.interpolate(z2, scale_factor=2))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Map images ``(B, 1, 8, 8)`` to logits, index maps and penalty."""
        d = self.up(x)
        z2, index2, penalty2 = self.quantise2(self.top(d))
        z1, index1, penalty1 = self.quantise1(d + nn.functional.interpolate(z2, scale_factor=2))
        return self.decode(z1, z2), (index1, index2), penalty1 + penalty2


def _case() -> tuple[nn.Module, nn.Module, list[Tensor]]:
    """A model, a prior and batches, the same in every call."""
    torch.random.default_generator.manual_seed(5)
    model = _Grids()
    shade = torch.rand(46, 1, 1, 1) * torch.linspace(-1, 1, 8)
    images = 2 * shade + 0.5 * torch.randn(46, 1, 8, 8)
    for x in images.split(16):  # so that batch statistics and codes have moved
        model(x.requires_grad_())
    images = images.detach().to(torch.get_default_dtype())
    prior = reference_prior(_TOP, (2, 2), Below(_TOP, _BOTTOM, 0.3))
    return model.train(), prior, list(images.split(16))


@checked
def fit_prior(answer: Answer) -> str:
    r"""The second stage: the prior is fitted to the codes, and all else is as it was.

    Write ``fit_prior(model, prior, batches, epochs, learning_rate) -> rates``, with one number per
    epoch. ``model`` gives logits, index maps and penalty of images, as ``TwoGrids`` does, and is
    in training mode; ``prior`` is a ``CodePrior``. In every epoch, take one step of Adam per batch
    ``(B, 1, H, W)``, in the given order, on the mean of -log p of its codes. The rate of an epoch
    is the mean of -log p over all of its examples, in nats, each measured before the step with its
    batch. No parameter and no buffer of the model changes by a bit.

    Args:
        answer: the student's function.

    Returns:
        What was verified.
    """
    rates, model, prior, before = _fitted(answer)
    rates = as_tensor(rates, (_EPOCHS,), name="the rates")
    kinds = {name: "the parameter" for name, _ in model.named_parameters()}
    for name, value in model.state_dict().items():
        if torch.equal(value, before[name]):
            continue
        kind = kinds.get(name, "the buffer")
        raise Mistake(
            f"{kind} {name} of the model has changed: "
            + (
                "the second stage gives the optimiser the prior's parameters alone"
                if name in kinds
                else "batch statistics and moving codes move in training mode; use model.eval()"
            )
        )
    right, _, fitted, _ = _fitted(_fit())
    if alike(rates, right, 1e-3) and alike(weights(prior), weights(fitted), 1e-2):
        fall = 1 - rates[-1] / rates[0]
        return (
            f"the rate falls by {100 * fall:.0f} %, the prior ends where it should, and the model "
            "is the same bit for bit"
        )

    def same(wrong: Answer) -> bool:
        other, _, ended, _ = _fitted(wrong)
        return alike(rates, other, 1e-3) and alike(weights(prior), weights(ended), 1e-2)

    hint_for(fit_prior.mistakes, same)
    compare_values(rates, right, name="the rate", tolerance=1e-3)
    raise Mistake("the rates are right, but the prior does not end with the right weights")


def _fitted(
    answer: Answer,
) -> tuple[object, nn.Module, nn.Module, dict[str, Tensor]]:
    """What an answer returns and leaves behind, and the state of the model before."""
    model, prior, batches = _case()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rates = answer(model, prior, batches, _EPOCHS, _RATE)
    return rates, model, prior, before


def _loss(prior: nn.Module, index: Sequence[Tensor]) -> Tensor:
    return -sum(prior(*index))


def _of_the_prior(model: nn.Module, prior: nn.Module) -> Iterator[nn.Parameter]:
    return prior.parameters()


def _fit(
    loss: Callable[[nn.Module, Sequence[Tensor]], Tensor] = _loss,
    parameters: Callable[..., Iterator[nn.Parameter]] = _of_the_prior,
    whole: Callable[[Tensor, Tensor], Tensor] = lambda rate, logits: rate.mean(),
    prepare: Callable[[nn.Module], object] = nn.Module.eval,
    codes: Callable[..., Sequence[Tensor]] = lambda model, prior, x: model(x)[1],
    zero: bool = True,
    record: Callable[[Tensor], Tensor] = lambda rate: rate.detach(),
    report: Callable[[list[Tensor]], object] = lambda epoch: torch.cat(epoch).mean().item(),
    measure: Callable[..., object] | None = None,
    make_optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    last: bool = False,
) -> Answer:
    """The second stage, or a mistake in it."""

    def answer(
        model: nn.Module,
        prior: nn.Module,
        batches: Sequence[Tensor],
        epochs: int,
        learning_rate: float,
    ) -> list[object]:
        prepare(model)
        optimiser = make_optimiser(parameters(model, prior), lr=learning_rate)
        rates = []
        for _ in range(epochs):
            epoch = []
            for x in batches:
                rate = loss(prior, codes(model, prior, x))
                logits = model(x)[0] if parameters is not _of_the_prior else rate
                if zero:
                    optimiser.zero_grad()
                whole(rate, logits).backward()
                optimiser.step()
                epoch.append(record(rate))
            rates.append(measure(model, prior, batches) if measure else report(epoch))
        return rates[-1] if last else rates

    return answer


def _everything(model: nn.Module, prior: nn.Module) -> Iterator[nn.Parameter]:
    return chain(model.parameters(), prior.parameters())


def _after(model: nn.Module, prior: nn.Module, batches: Sequence[Tensor]) -> float:
    with torch.no_grad():
        return torch.cat([_loss(prior, model(x)[1]) for x in batches]).mean().item()


for _hint, _settings in {
    "has changed: batch statistics and moving codes move in training mode": {
        "prepare": nn.Module.train
    },
    "has changed: the second stage gives the optimiser the prior's parameters alone": {
        "parameters": _everything,
        "whole": lambda rate, logits: rate.mean() + logits.square().mean(),
    },
    "the gradients of all batches add up; set them to zero before each step": {"zero": False},
    "the rate rises: minimise -log p": {"whole": lambda rate, logits: -rate.mean()},
    "the prior never moves; take a step for every batch": {
        "whole": lambda rate, logits: 0 * rate.mean()
    },
    "the conditional of the bottom alone is fitted; the rate has both terms": {
        "loss": lambda prior, index: -prior(*index)[0]
    },
    "the prior of the top alone is fitted; the rate has both terms": {
        "loss": lambda prior, index: -prior(*index)[1]
    },
    "the prior is fitted to its own draws; fit it to the codes of images": {
        "codes": lambda model, prior, x: prior.sample(len(x))
    },
    "the rate is that of the last batch; average over the examples of the epoch": {
        "report": lambda epoch: epoch[-1].mean().item()
    },
    "the rates of batches are averaged, so that examples of a small batch count more; average "
    "over examples": {
        "report": lambda epoch: torch.stack([rate.mean() for rate in epoch]).mean().item()
    },
    "the rates of an epoch are added up; average over examples": {
        "report": lambda epoch: torch.cat(epoch).sum().item()
    },
    "these are log-probabilities; the rate is -log p": {"record": lambda rate: -rate.detach()},
    "these are the rates after each epoch; measure each example before the step with its batch": {
        "measure": _after
    },
    "the optimiser is SGD; use Adam": {"make_optimiser": torch.optim.SGD},
    "the rates should have shape (4,), yours has ()": {"last": True},
}.items():
    fit_prior.mistake(_hint, _fit(**_settings))


@fit_prior.mistake("a new optimiser in every epoch forgets its moments; make one before the loop")
def _(model, prior, batches, epochs, learning_rate):
    return [_fit()(model, prior, batches, 1, learning_rate)[0] for _ in range(epochs)]
