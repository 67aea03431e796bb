"""Answers to the exercises of chapter 3, as source that needs `torch` and defines the function."""

STUBS = {
    "delta_posterior": """
def delta_posterior(p_mean, p_std, shift, log_scale):
    raise NotImplementedError
""",
    "delta_kl": """
def delta_kl(shift, log_scale, p_std):
    raise NotImplementedError
""",
}

POSTERIOR = """
def delta_posterior(p_mean, p_std, shift, log_scale):
    return p_mean + shift, p_std * log_scale.exp()
"""
KL = """
def delta_kl(shift, log_scale, p_std):
    scale = log_scale.exp() ** 2
    return 0.5 * ((shift / p_std) ** 2 + scale - 1 - scale.log()).sum(-1)
"""
SOLUTIONS = {"delta_posterior": POSTERIOR, "delta_kl": KL}

OTHERS = {
    "delta_posterior": {
        "a list in float64": """
def delta_posterior(p_mean, p_std, shift, log_scale):
    std = (p_std.double().log() + log_scale.double()).exp()
    return [p_mean.double() + shift.double(), std]
""",
        "one tensor in float32": """
def delta_posterior(p_mean, p_std, shift, log_scale):
    return torch.stack([shift.float() + p_mean.float(), p_std * torch.exp(log_scale)])
""",
        "from the variance": """
def delta_posterior(p_mean, p_std, shift, log_scale):
    variance = p_std**2 * torch.exp(2 * log_scale)
    return torch.add(p_mean, shift), variance.sqrt()
""",
    },
    "delta_kl": {
        "expm1 in float64": """
def delta_kl(shift, log_scale, p_std):
    t = 2 * log_scale.double()
    return (torch.expm1(t) - t + shift.double().div(p_std).square()).sum(dim=1) / 2
""",
        "the library's in float32": """
def delta_kl(shift, log_scale, p_std):
    from torch.distributions import Normal, kl_divergence
    shift, log_scale, p_std = shift.float(), log_scale.float(), p_std.float()
    q, p = Normal(shift, p_std * log_scale.exp()), Normal(torch.zeros_like(shift), p_std)
    return kl_divergence(q, p).sum(-1)
""",
    },
}


def _mean(line: str) -> str:
    return POSTERIOR.replace("p_mean + shift", line)


def _std(line: str) -> str:
    return POSTERIOR.replace("p_std * log_scale.exp()", line)


def _kl(line: str) -> str:
    return KL.replace("0.5 * ((shift / p_std) ** 2 + scale - 1 - scale.log()).sum(-1)", line)


_PLACE = "(shift / p_std) ** 2"
_SUM = f"0.5 * ({_PLACE} + scale - 1 - scale.log())"

WRONG = {
    "delta_posterior": [
        (_std("(p_std * log_scale.exp()) ** 2"), "this is the variance"),
        (_std("p_std.log() + log_scale"), "log of the std"),
        (_std("p_std * log_scale"), "without exp"),
        (_std("log_scale.exp()"), "the std is the scale alone"),
        (_std("p_std"), "the scale is missing"),
        (_std("p_std * (0.5 * log_scale).exp()"), "log-scale is halved"),
        (_std("p_std * (2 * log_scale).exp()"), "log-scale is doubled"),
        (_std("p_std + log_scale.exp()"), "scales are added"),
        (_std("p_std + log_scale"), "log-scale is added to the std"),
        (_std("p_std / log_scale.exp()"), "p_std is divided by the scale"),
        (_std("p_std.detach() * log_scale.exp()"), "no gradient reaches p_std"),
        (_mean("shift"), "the mean is the shift alone"),
        (_mean("p_mean"), "the shift is missing"),
        (_mean("p_mean + p_std * shift"), "multiplied by p_std"),
        (_mean("p_mean + p_std * log_scale.exp() * shift"), "multiplied by the std of q"),
        (_mean("p_mean - shift"), "shift is subtracted"),
        (_mean("p_mean * shift"), "the mean is multiplied by the shift"),
        (_mean("p_mean.detach() + shift"), "no gradient reaches p_mean"),
        (_mean("p_std * log_scale.exp()"), "the std comes first"),
        (
            "\ndef delta_posterior(p_mean, p_std, shift, log_scale):\n    return p_mean + shift\n",
            "should be 2 values",
        ),
    ],
    "delta_kl": [
        (_kl("0.5 * (shift**2 + scale - 1 - scale.log()).sum(-1)"), "not divided by p_std"),
        (_kl("0.5 * (shift**2 / p_std + scale - 1 - scale.log()).sum(-1)"), "divided by p_std; "),
        (_kl("0.5 * (shift**2 / p_std**4 + scale - 1 - scale.log()).sum(-1)"), "squared twice"),
        (_kl(f"0.5 * ({_PLACE} + scale - 1 - log_scale).sum(-1)"), "the log of its square"),
        (_kl(f"0.5 * ({_PLACE} + scale - 1 + scale.log()).sum(-1)"), "sign of the logarithm"),
        (KL.replace(".exp() ** 2", ".exp()"), "read as a log-variance"),
        (_kl(f"-{_SUM}.sum(-1)"), "a KL divergence is never negative"),
        (_kl(f"({_PLACE} + scale - 1 - scale.log()).sum(-1)"), "factor 1/2 is missing"),
        (_kl(f"0.5 * ({_PLACE} + scale + 1 - scale.log()).sum(-1)"), "+1 stands where -1"),
        (_kl(f"0.5 * ({_PLACE} + scale - scale.log()).sum(-1)"), "-1 of every dimension"),
        (_kl(f"0.5 * (({_PLACE} + scale - scale.log()).sum(-1) - 1)"), "belongs inside the sum"),
        (_kl("0.5 * (scale - 1 - scale.log()).sum(-1)"), "term of the shift"),
        (_kl(f"0.5 * ({_PLACE}).sum(-1)"), "term of the scale"),
        (_kl(f"0.5 * ({_PLACE} / scale + 1 / scale - 1 + scale.log()).sum(-1)"), "KL(p || q)"),
        (_kl(_SUM), "one number per latent"),
        (_kl(f"{_SUM}.mean(-1)"), "averages over the dimensions"),
        (_kl(f"{_SUM}.sum()"), "sums over the batch"),
        (_kl(f"{_SUM}.sum(-1).mean()"), "averages over the batch"),
        (_kl(f"{_SUM}.sum(-1).detach()"), "no gradient passes through"),
    ],
}
