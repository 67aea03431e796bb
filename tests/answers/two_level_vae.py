"""Answers to the exercises of chapter 1, as source that needs `torch` and defines the function."""

STUBS = {
    "gaussian_kl": """
def gaussian_kl(q_mean, q_std, p_mean, p_std):
    raise NotImplementedError
""",
    "joint_elbo": """
def joint_elbo(x, q1, q2, p1, px):
    raise NotImplementedError
""",
    "importance_weighted": """
def importance_weighted(log_weights):
    raise NotImplementedError
""",
}

KL = """
def gaussian_kl(q_mean, q_std, p_mean, p_std):
    ratio = (q_std / p_std) ** 2
    return 0.5 * (ratio - 1 - ratio.log() + ((q_mean - p_mean) / p_std) ** 2).sum(-1)
"""
ELBO = """
def joint_elbo(x, q1, q2, p1, px):
    z1 = q1(x).rsample()
    z2 = q2(z1).rsample()
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z2).sum(-1)
    log_p = px(z1).log_prob(x) + p1(z2).log_prob(z1) + prior
    return log_p - q1(x).log_prob(z1) - q2(z1).log_prob(z2)
"""
IWAE = """
def importance_weighted(log_weights):
    log_k = torch.tensor(float(log_weights.shape[1])).log()
    return log_weights.logsumexp(1) - log_k
"""
SOLUTIONS = {"gaussian_kl": KL, "joint_elbo": ELBO, "importance_weighted": IWAE}

OTHERS = {
    "gaussian_kl": {
        "the library's": """
def gaussian_kl(q_mean, q_std, p_mean, p_std):
    from torch.distributions import Independent, Normal, kl_divergence
    q, p = (Independent(Normal(*pair), 1) for pair in ((q_mean, q_std), (p_mean, p_std)))
    return kl_divergence(q, p)
""",
        "logarithms in float64": """
def gaussian_kl(q_mean, q_std, p_mean, p_std):
    q_mean, q_std, p_mean, p_std = (v.double() for v in (q_mean, q_std, p_mean, p_std))
    total = (p_std.log() - q_std.log()).sum(dim=1) - 0.5 * q_mean.shape[1]
    return total + ((q_std**2 + (q_mean - p_mean) ** 2) / (2 * p_std**2)).sum(dim=1)
""",
        "in place": """
def gaussian_kl(q_mean, q_std, p_mean, p_std):
    q_mean -= p_mean
    q_mean /= p_std
    t = (q_std / p_std).log() * 2
    return (torch.expm1(t) - t + q_mean**2).sum(-1).div(2)
""",
    },
    "joint_elbo": {
        "other order, float64": """
def joint_elbo(x, q1, q2, p1, px):
    x = x.double()
    below = q1(x)
    z1 = below.rsample()
    above = q2(z1)
    z2 = above.rsample()
    value = px(z1).log_prob(x) - below.log_prob(z1)
    value = value + p1(z2).log_prob(z1) - above.log_prob(z2)
    log_2pi = torch.log(torch.tensor(2 * torch.pi))
    return value - 0.5 * (z2**2 + log_2pi).sum(-1)
""",
        "own reparametrisation": """
def joint_elbo(x, q1, q2, p1, px):
    a = q1(x)
    z1 = a.mean + a.stddev * torch.randn_like(a.mean)
    b = q2(z1)
    z2 = b.mean + b.stddev * torch.randn_like(b.mean)
    n = torch.distributions.Independent(torch.distributions.Normal(0 * z2, 1 + 0 * z2), 1)
    information = a.log_prob(z1) - p1(z2).log_prob(z1) + b.log_prob(z2) - n.log_prob(z2)
    return px(z1).log_prob(x) - information
""",
        "float32": ELBO.replace("q1(x).rsample()", "q1(x.float()).rsample().float()"),
    },
    "importance_weighted": {
        "largest taken out": """
def importance_weighted(log_weights):
    top = log_weights.detach().max(dim=1, keepdim=True).values
    return (log_weights - top).exp().mean(1).log() + top.squeeze(1)
""",
        "float64": IWAE.replace("log_weights.log", "log_weights.double().log"),
        "float32": IWAE.replace("log_weights.log", "log_weights.float().log"),
    },
}


def _kl(line: str) -> str:
    head = "\ndef gaussian_kl(q_mean, q_std, p_mean, p_std):\n    ratio = (q_std / p_std) ** 2\n"
    distance = "    distance = ((q_mean - p_mean) / p_std) ** 2\n"
    return f"{head}{distance}    return {line}\n"


def _iwae(line: str) -> str:
    head = "\ndef importance_weighted(log_weights):\n    b, k = log_weights.shape\n"
    return f"{head}    log = lambda k: torch.tensor(float(k)).log()\n    return {line}\n"


_REST = "px(z1).log_prob(x) + p1(z2).log_prob(z1) + prior"
_SUM = "0.5 * (ratio - 1 - ratio.log() + distance)"
_DIVERGENCE = "torch.distributions.kl_divergence"
_STANDARD = "torch.distributions.Independent(torch.distributions.Normal(0 * z2, 1 + 0 * z2), 1)"

WRONG = {
    "gaussian_kl": [
        (
            KL.replace("    ratio", "    q_std, p_std = q_std.sqrt(), p_std.sqrt()\n    ratio"),
            "treats q_std and p_std as variances",
        ),
        (
            KL.replace("    ratio", "    q_std, p_std = q_std.exp(), p_std.exp()\n    ratio", 1),
            "takes exp of q_std and p_std",
        ),
        (
            KL.replace("(q_mean, q_std, p_mean, p_std)", "(p_mean, p_std, q_mean, q_std)"),
            "this is KL(p || q)",
        ),
        (_kl(f"{_SUM}.mean(-1)"), "averages over the dimensions of the latent"),
        (_kl(_SUM), "one number per latent"),
        (_kl(f"{_SUM}.sum()"), "sums over the batch"),
        (_kl(f"{_SUM}.sum(-1).mean()"), "averages over the batch"),
        (
            _kl("0.5 * (ratio - ratio.log() + distance).sum(-1)"),
            "-1 of every dimension is missing",
        ),
        (_kl("0.5 * ((ratio - ratio.log() + distance).sum(-1) - 1)"), "belongs inside the sum"),
        (_kl("0.5 * (q_std**2 - 1 - 2 * q_std.log() + q_mean**2).sum(-1)"), "the KL from N(0, I)"),
        (_kl(f"-{_SUM}.sum(-1)"), "the sign is reversed"),
        (_kl("(ratio - 1 - ratio.log() + distance).sum(-1)"), "factor 1/2 is missing"),
        (
            _kl("0.5 * (ratio - 1 - 0.5 * ratio.log() + distance).sum(-1)"),
            "the log of the ratio of standard deviations",
        ),
        (_kl("0.5 * (ratio - 1 + ratio.log() + distance).sum(-1)"), "sign of the logarithm"),
        (
            _kl("0.5 * (ratio - 1 - ratio.log() + (q_mean - p_mean) ** 2).sum(-1)"),
            "not divided by the variance of p",
        ),
        (
            _kl("0.5 * (ratio - 1 - ratio.log() + distance * p_std).sum(-1)"),
            "divided by p_std; divide by p_std^2",
        ),
        (_kl(f"{_SUM}.sum(-1).detach()"), "no gradient passes through it"),
        (_kl(f"{_SUM}.sum(-1)").replace("- p_mean", "- p_mean.detach()"), "reaches p_mean"),
        (_kl(f"{_SUM}.sum(-1, keepdim=True)"), "should have shape (6,)"),
    ],
    "joint_elbo": [
        (
            ELBO.replace(
                "log_p - q1(x).log_prob(z1)",
                f"log_p - p1(z2).log_prob(z1) - {_DIVERGENCE}(q1(x), p1(z2))",
            ),
            "in closed form, the trap of the chapter",
        ),
        (
            ELBO.replace("p1(z2).log_prob(z1)", "p1(z2).log_prob(q1(x).rsample())"),
            "drawn a second time",
        ),
        (
            ELBO.replace("z2 = q2(z1).rsample()", "z2 = q2(q1(x).mean).rsample()"),
            "drawn from the mean of q(z_1 | x)",
        ),
        (ELBO.replace(_REST, _REST[: -len(" + prior")]), "the prior of z_2 is missing"),
        (ELBO.replace(" + p1(z2).log_prob(z1)", ""), "log p(z_1 | z_2) is missing"),
        (ELBO.replace(" - q2(z1).log_prob(z2)", ""), "log q(z_2 | z_1) is missing"),
        (ELBO.replace(" - q1(x).log_prob(z1)", ""), "log q(z_1 | x) is missing"),
        (
            ELBO.replace("px(z1).log_prob(x) + ", ""),
            "the reconstruction log p(x | z_1) is missing",
        ),
        (ELBO.replace("px(z1)", "-px(z1)"), "reconstruction has the wrong sign"),
        (ELBO.replace("px(z1)", "px(z2)"), "the decoder reads z_1"),
        (
            ELBO.replace("return log_p - q1", "return -log_p + q1").replace("- q2", "+ q2"),
            "negative bound, a loss",
        ),
        (
            ELBO.replace("+ p1", "- p1")
            .replace("+ prior", "- prior")
            .replace("- q1", "+ q1")
            .replace("- q2", "+ q2"),
            "signs of p and q are swapped",
        ),
        (
            ELBO.replace(" + prior", "").replace(
                "- q2(z1).log_prob(z2)", f"- {_DIVERGENCE}(q2(z1), {_STANDARD})"
            ),
            "right on average, but the KL of z_2 is in closed form",
        ),
        (
            ELBO.replace("log_prob(z2)\n", "log_prob(z2)\n    ").replace(
                "return log_p - q1(x).log_prob(z1) - q2(z1).log_prob(z2)\n    ",
                "return (log_p - q1(x).log_prob(z1) - q2(z1).log_prob(z2)).mean()\n",
            ),
            "averages over the batch",
        ),
        (
            ELBO.replace("z1 = q1(x).rsample()", "z1 = q1(x).sample()"),
            "the gradient of the parameters of q(z_1 | .)",
        ),
        (
            ELBO.replace("z2 = q2(z1).rsample()", "z2 = q2(z1).sample()"),
            "the gradient of the parameters of q(z_2 | .)",
        ),
        (
            ELBO.replace(
                "    return ", "    log_p = log_p.detach()\n    x = x.detach()\n    return "
            )
            .replace("q1(x).log_prob(z1)", "q1(x).log_prob(z1).detach()")
            .replace("q2(z1).log_prob(z2)", "q2(z1).log_prob(z2).detach()"),
            "but no gradient passes",
        ),
        (
            ELBO.replace("q1(x).log_prob(z1)", "q1(x).log_prob(z1).detach()").replace(
                "q2(z1).log_prob(z2)", "q2(z1).log_prob(z2).detach()"
            ),
            "the gradient of the parameters of q(z_2 | .)",
        ),
        (
            ELBO.replace("joint_elbo", "one_draw")
            + """

def joint_elbo(*parts):
    return sum(one_draw(*parts) for _ in range(10)) / 10
""",
            "are several draws averaged?",
        ),
    ],
    "importance_weighted": [
        (_iwae("log_weights.mean(1)"), "mean of the logarithms"),
        (_iwae("log_weights.logsumexp(1)"), "the log of the sum of the weights"),
        (_iwae("log_weights.logsumexp(1) + log(k)"), "log K is added"),
        (_iwae("log_weights.logsumexp(1) - log(b)"), "divides by the size of the batch"),
        (_iwae("log_weights.logsumexp(1) / k"), "1/K stands outside"),
        (_iwae("log_weights.exp().mean(1).log()"), "as logsumexp does"),
        (
            _iwae("(log_weights - log_weights.max()).exp().mean(1).log() + log_weights.max()"),
            "as logsumexp does",
        ),
        (_iwae("log_weights.logsumexp(0) - log(b)"), "reduces the batch"),
        (_iwae("log_weights.logsumexp(0) - log(k)"), "reduces the batch"),
        (_iwae("log_weights.sum(1)"), "adds up the log-weights"),
        (_iwae("log_weights.exp().mean(1)"), "return its logarithm"),
        (_iwae("log(k) - log_weights.logsumexp(1)"), "negative bound, a loss"),
        (_iwae("log_weights.max(1).values"), "largest log-weight"),
        (_iwae("(log_weights.logsumexp(1) - log(k)).sum()"), "sums over the batch"),
        (_iwae("(log_weights.logsumexp(1) - log(k)).mean()"), "averages over the batch"),
        (_iwae("(log_weights.logsumexp(1) - log(k)).detach()"), "no gradient passes through"),
    ],
}
