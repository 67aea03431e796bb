"""Chapter 5: one downward pass by concatenation, and the information of its levels."""

_HEAD = """
import torch
"""

STUBS = {
    "concatenated": """
def concatenated(features, heads, noise):
    raise NotImplementedError
""",
    "level_information": """
def level_information(z, q, p):
    raise NotImplementedError
""",
}

SOLUTIONS = {
    "concatenated": _HEAD
    + """
def concatenated(features, heads, noise):
    h, levels = [], []
    for d, head, e in zip(features[::-1], heads[::-1], noise[::-1], strict=True):
        mean, std = head(torch.cat([d, *h], dim=-1))
        h.append(mean + std * e)
        levels.insert(0, h[-1])
    return levels
""",
    "level_information": _HEAD
    + """
def level_information(z, q, p):
    return [b.log_prob(a) - c.log_prob(a) for a, b, c in zip(z, q, p, strict=True)]
""",
}

OTHERS = {
    "concatenated": _HEAD
    + '''
def concatenated(features, heads, noise):
    """With a tensor for the state, empty at the top, and a tuple for a result."""
    number = len(features)
    h = features[-1][:, :0]
    levels = {}
    for l in range(number, 0, -1):
        parameters = heads[l - 1](torch.cat((features[l - 1], h), -1))
        levels[l] = parameters[1] * noise[l - 1] + parameters[0]
        h = torch.cat((h, levels[l]), -1)
    return tuple(levels[l] for l in range(1, number + 1))
''',
    "level_information": _HEAD
    + '''
def level_information(z, q, p):
    """With the levels along the first axis of one tensor."""
    ratios = []
    for level in range(len(z)):
        ratios.append(-p[level].log_prob(z[level]))
        ratios[-1] = ratios[-1] + q[level].log_prob(z[level])
    return torch.stack(ratios)
''',
}


def _walk(*changes: tuple[str, str]) -> str:
    """The downward pass, with some of its text exchanged."""
    code = (
        _HEAD
        + """
def concatenated(features, heads, noise):
    number = len(features)
    above, z = [], [None] * number
    for l in range(number - 1, -1, -1):
        d, e = features[l], noise[l]
        h = above
        mean, std = heads[l](torch.cat([d, *h], dim=-1))
        z[l] = mean + std * e
        above.append(z[l])
    return z
"""
    )
    for old, new in changes:
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    return code


def _charge(body: str) -> str:
    return (
        _HEAD
        + f"""
from torch.distributions import kl_divergence

def level_information(z, q, p):
    log_q = torch.stack([b.log_prob(a) for a, b in zip(z, q)])
    log_p = torch.stack([b.log_prob(a) for a, b in zip(z, p)])
    value = log_q - log_p
{body}
"""
    )


_UP = ("range(number - 1, -1, -1)", "range(number)")

WRONG = {
    "concatenated": [
        (_walk(_UP), "the pass goes upward"),
        (_walk(_UP, ("h = above", "h = above[-1:]")), "the pass goes upward"),
        (_walk(("h = above", "h = above[-1:]")), "(Markov)"),
        (_walk(("h = above", "h = []")), "the state stays empty"),
        (_walk(("        above.append(z[l])\n", "")), "the state stays empty"),
        (_walk(("h = above", "h = above[::-1]")), "the state holds the latents in another order"),
        (_walk(("h = above", "h = above[:1]")), "the top latent alone"),
        (_walk(("[d, *h]", "[*h, d]")), "the state stands before the feature"),
        (_walk(("features[l]", "features[-1]")), "the feature of another level"),
        (_walk(("features[l]", "features[0]")), "the feature of another level"),
        (_walk(("features[l]", "features[l - 1]")), "the feature of another level"),
        (_walk(("features[l]", "features[number - 1 - l]")), "the feature of another level"),
        (_walk(("noise[l]", "noise[number - 1 - l]")), "the noise of another level"),
        (_walk(("return z", "return z[::-1]")), "in the order of drawing, z_L first"),
        (_walk(("std * e", "std.exp() * e")), "std is treated as a log std"),
        (_walk(("std * e", "std.sqrt() * e")), "std is treated as a variance"),
        (_walk(("std * e", "std**2 * e")), "the noise is scaled by the variance"),
        (_walk(("mean + std * e", "mean")), "the noise is not used"),
        (_walk(("mean + std * e", "mean + e")), "the std is not used"),
        (_walk(("above.append(z[l])", "above.append(mean)")), "the state holds means"),
        (_walk(("return z", "return z[:1]")), "should be 3 values"),
        (_walk(("return z", "return torch.cat(z, dim=-1)")), "this is one tensor"),
        (_walk(("number = len(features)", "number = 3")), "wrong for L = 1"),
        (_walk(("number = len(features)", "number = min(3, len(features))")), "wrong for L = 5"),
    ],
    "level_information": [
        (_charge("    return [*(-value)]"), "this is log p - log q"),
        (_charge("    return [*value.detach()]"), "no gradient passes through it"),
        (_charge("    return [kl_divergence(*pair) for pair in zip(q, p)]"), "closed-form KL"),
        (
            _charge(
                "    return [b.log_prob(a) - c.log_prob(a) for a, b, c in zip(z, q, p[-1:] + p)]"
            ),
            "from the level below",
        ),
        (
            _charge(
                "    return [b.log_prob(a) - c.log_prob(a) for a, b, c in zip(z, q, p[1:] + p)]"
            ),
            "from the level above",
        ),
        (
            _charge(
                "    return [b.log_prob(a) - c.log_prob(a) for a, b, c in zip(z, q, p[::-1])]"
            ),
            "p is read from the top",
        ),
        (_charge("    return [*value.mean(dim=1)]"), "the mean over the batch"),
        (_charge("    return [*value.sum(dim=1)]"), "sums over the batch"),
        (_charge("    return value.sum(dim=0)"), "sums over the levels"),
        (_charge("    return value.T"), "along the second axis"),
        (_charge("    return value.sum(dim=0).mean()"), "this is one number"),
        (_charge("    return [*value.abs()]"), "absolute value"),
        (_charge("    return [*value.clamp(min=0)]"), "cut off at zero"),
        (_charge("    return [*log_q]"), "log q alone"),
        (_charge("    return [*-log_p]"), "-log p alone"),
        (_charge("    return [*(log_q + log_p)]"), "the log-densities are added"),
        (_charge("    return [*(log_q / log_p)]"), "divides log-densities"),
        (_charge("    return [*value.exp()]"), "this is q / p"),
        (_charge("    return [*value.flip(0)]"), "begins with z_L"),
        (_charge("    return [*(value / z[0].shape[-1])]"), "divided by the number of dimensions"),
    ],
}

OTHERS = {name: {"another way": source} for name, source in OTHERS.items()}
