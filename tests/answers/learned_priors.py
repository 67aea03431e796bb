"""Chapter 6: a KL weight under a constraint, densities of learned priors, shortest paths."""

_HEAD = """
import heapq
import math
import torch
from torch.distributions import Normal
"""

STUBS = {
    "rewo_step": """
def rewo_step(beta, violation, rate, slope):
    raise NotImplementedError
""",
    "vhp_bound": """
def vhp_bound(log_p_z_given_zeta, log_p_zeta, log_q_zeta):
    raise NotImplementedError
""",
    "vamp_log_prob": """
def vamp_log_prob(z, means, stds):
    raise NotImplementedError
""",
    "shortest_path": """
def shortest_path(neighbours, positions, start, goal):
    raise NotImplementedError
""",
}


def _change(code: str, *changes: tuple[str, str]) -> str:
    """A solution with some of its text exchanged."""
    for old, new in changes:
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    return code


_REWO = (
    _HEAD
    + """
def rewo_step(beta, violation, rate, slope):
    if violation < 0:
        direction = torch.tanh(slope * (beta - 1))
    else:
        direction = -1.0
    step = rate * violation * direction
    return beta * torch.exp(step)
"""
)
_VHP = (
    _HEAD
    + """
def vhp_bound(log_p_z_given_zeta, log_p_zeta, log_q_zeta):
    log_w = log_p_z_given_zeta + log_p_zeta - log_q_zeta
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))
"""
)
_VAMP = (
    _HEAD
    + """
def vamp_log_prob(z, means, stds):
    each = Normal(means, stds).log_prob(z[:, None])
    log_q = each.sum(dim=-1)
    return torch.logsumexp(log_q, dim=1) - math.log(len(means))
"""
)
_PATH = (
    _HEAD
    + """
def shortest_path(neighbours, positions, start, goal):
    def distance(u, v):
        return (positions[u] - positions[v]).norm().item()

    queue, cost, before, done = [(distance(start, goal), start)], {start: 0.0}, {}, set()
    while queue:
        _, u = heapq.heappop(queue)
        if u == goal:
            break
        if u in done:
            continue
        done.add(u)
        for v in neighbours[u]:
            new = cost[u] + distance(u, v)
            if v not in cost or new < cost[v]:
                cost[v], before[v] = new, u
                heapq.heappush(queue, (new + distance(v, goal), v))
    path = [goal]
    while path[-1] != start:
        path.append(before[path[-1]])
    return path[::-1]
"""
)


def _return(code: str, new: str) -> str:
    """A solution with something else in its last line."""
    return code[: code.rindex("    return ")] + f"    return {new}\n"


SOLUTIONS = {
    "rewo_step": _REWO,
    "vhp_bound": _VHP,
    "vamp_log_prob": _VAMP,
    "shortest_path": _PATH,
}

OTHERS = {
    "rewo_step": _HEAD
    + '''
def rewo_step(beta, violation, rate, slope):
    """In floats, on the logarithm of beta."""
    b, delta, t = beta.item(), violation.item(), slope.item()
    towards_one = math.tanh(t * (b - 1)) if delta < 0 else -1
    return math.exp(math.log(b) + rate.item() * delta * towards_one)
''',
    "vhp_bound": _HEAD
    + '''
def vhp_bound(log_p_z_given_zeta, log_p_zeta, log_q_zeta):
    """With the largest weight taken out by hand."""
    log_w = log_p_z_given_zeta + log_p_zeta - log_q_zeta
    largest = log_w.max(dim=0).values
    return largest + (log_w - largest).exp().mean(dim=0).log()
''',
    "vamp_log_prob": _HEAD
    + '''
from torch.distributions import Categorical, Independent, MixtureSameFamily

def vamp_log_prob(z, means, stds):
    """With the library's mixture."""
    weights = Categorical(logits=means.new_zeros(len(means)))
    return MixtureSameFamily(weights, Independent(Normal(means, stds), 1)).log_prob(z)
''',
    "shortest_path": _HEAD
    + '''
def shortest_path(neighbours, positions, start, goal):
    """By relaxing all edges until nothing changes (Bellman and Ford), as a tensor of numbers."""
    cost, before, changed = {start: 0.0}, {}, True
    while changed:
        changed = False
        for u in list(cost):
            for v in neighbours[u]:
                new = cost[u] + math.dist(positions[u].tolist(), positions[v].tolist())
                if new < cost.get(v, math.inf) - 1e-12:
                    cost[v], before[v], changed = new, u, True
    path = [goal]
    while path[0] != start:
        path.insert(0, before[path[0]])
    return torch.tensor(path)
''',
}

_HELD = "torch.tanh(slope * (beta - 1))"
_BOUND = "torch.logsumexp(log_w, dim=0) - math.log(len(log_w))"
_WEIGHTS = "log_p_z_given_zeta + log_p_zeta - log_q_zeta"
_MIXTURE = "torch.logsumexp(log_q, dim=1) - math.log(len(means))"
_PUSH = "(new + distance(v, goal), v)"
_NEW = "new = cost[u] + distance(u, v)"
_BETTER = "if v not in cost or new < cost[v]:"

WRONG = {
    "rewo_step": [
        (_change(_REWO, (_HELD, "-1.0")), "this is GECO"),
        (_change(_REWO, ("direction = -1.0", "direction = 1.0")), "raises beta"),
        (_change(_REWO, (_HELD, "torch.tanh(slope * (1 - beta))")), "moves away from 1"),
        (_return(_REWO, "beta * torch.exp(-step)"), "as for lambda"),
        (_return(_REWO, "1 / (beta * torch.exp(step))"), "this is the new lambda"),
        (_change(_REWO, (_HELD, "torch.tanh(slope * beta)")), "beta goes to 0"),
        (_change(_REWO, (_HELD, "-torch.tanh(slope * beta)")), "beta has no fixed point"),
        (_return(_REWO, "beta + step"), "the step is added to beta"),
        (_return(_REWO, "beta * (1 + step)"), "beta (1 + eta)"),
        (_change(_REWO, ("direction = -1.0", f"direction = {_HELD}")), "the tanh is in both"),
        (_change(_REWO, ("violation < 0", "violation >= 0")), "the branches are swapped"),
        (_change(_REWO, (_HELD, "torch.tanh(beta - 1)")), "the slope is not used"),
        (_change(_REWO, (_HELD, "slope * torch.tanh(beta - 1)")), "stands in front of the tanh"),
        (_change(_REWO, ("rate * violation", "violation")), "the rate is not used"),
        (_return(_REWO, "step * torch.ones(())"), "this is the step eta"),
        (_return(_REWO, "torch.exp(step)"), "the factor exp(eta)"),
        (_return(_REWO, "torch.log(beta) + step"), "the logarithm of the new beta"),
        (_change(_REWO, (_HELD, "torch.tanh(slope * beta.log())")), "has log beta inside"),
    ],
    "vhp_bound": [
        (_return(_VHP, "log_w.mean(0)"), "the mean of the log-weights"),
        (_return(_VHP, "log_w.logsumexp(0)"), "subtract log M"),
        (_change(_VHP, (" + log_p_zeta", "")), "the weights lack p(zeta); multiply"),
        (_change(_VHP, (" - log_q_zeta", "")), "the weights lack q(zeta | z); divide"),
        (_change(_VHP, ("- log_q_zeta", "+ log_q_zeta")), "log q is added"),
        (_change(_VHP, ("+ log_p_zeta", "- log_p_zeta")), "log p(zeta) is subtracted"),
        (_change(_VHP, (_WEIGHTS, "log_p_z_given_zeta")), "lack p(zeta) and q(zeta | z)"),
        (_change(_VHP, (_WEIGHTS, "log_p_zeta - log_q_zeta")), "the weights lack p(z | zeta)"),
        (_change(_VHP, ("dim=0", "dim=1")), "the draws run along the first axis"),
        (
            _return(_VHP, "log_w.logsumexp(1) - math.log(log_w.shape[1])"),
            "the draws run along the first axis",
        ),
        (_return(_VHP, "log_w.exp().mean(dim=0).log()"), "not finite at 1000 nats"),
        (_return(_VHP, "log_w.exp().mean(dim=0)"), "this is the estimate of p(z)"),
        (_return(_VHP, f"-({_BOUND})"), "this is minus the bound"),
        (_return(_VHP, f"({_BOUND}).mean()"), "the mean over the batch"),
        (_return(_VHP, "log_w.max(0).values"), "the largest log-weight"),
        (_return(_VHP, "log_w.sum(0)"), "the sum of the log-weights"),
        (_change(_VHP, ("- math.log(", "+ math.log(")), "log M is added"),
    ],
    "vamp_log_prob": [
        (_change(_VAMP, (" - math.log(len(means))", "")), "subtract log U"),
        (_change(_VAMP, ("- math.log(", "+ math.log(")), "log U is added"),
        (_return(_VAMP, "log_q.sum(dim=1)"), "this sums log-densities"),
        (_return(_VAMP, "log_q.mean(1)"), "this averages log-densities"),
        (
            _change(_VAMP, ("log_q = each.sum(dim=-1)", "log_q = each")),
            "this returns one value per dimension",
        ),
        (
            _change(_VAMP, ("each.sum(dim=-1)", "each.mean(dim=-1)")),
            "averages over the dimensions",
        ),
        (
            _return(_VAMP, "(each.logsumexp(dim=1) - math.log(len(means))).sum(dim=-1)"),
            "one mixture per dimension",
        ),
        (_return(_VAMP, "log_q.exp().mean(dim=1).log()"), "not finite for z far away"),
        (
            _return(_VAMP, "(log_q.exp().mean(dim=1) + 1e-12).log()"),
            "a small constant inside the logarithm",
        ),
        (_change(_VAMP, ("Normal(means, stds)", "Normal(means, stds.sqrt())")), "as variances"),
        (_change(_VAMP, ("Normal(means, stds)", "Normal(means, stds**2)")), "stds are squared"),
        (_change(_VAMP, ("Normal(means, stds)", "Normal(means, stds.exp())")), "as log stds"),
        (
            _change(
                _VAMP,
                (
                    "each = Normal(means, stds).log_prob(z[:, None])",
                    "each = -((z[:, None] - means) / stds)**2 / 2 - stds.log()",
                ),
            ),
            "2 log 2 pi is missing",
        ),
        (_return(_VAMP, "log_q.exp().mean(dim=1)"), "this is the density"),
        (_return(_VAMP, f"({_MIXTURE}).detach()"), "no gradient passes through it"),
        (_return(_VAMP, "log_q.max(dim=1).values"), "the largest component alone"),
        (_return(_VAMP, f"({_MIXTURE}).mean()"), "the mean over the batch"),
        (
            _return(_VAMP, "log_q.logsumexp(0) - math.log(len(z))"),
            "this averages over the examples",
        ),
    ],
    "shortest_path": [
        (
            _change(_PATH, (_PUSH, "(distance(v, goal), v)"), (_BETTER, "if v not in cost:")),
            "greedy",
        ),
        (_change(_PATH, (_NEW, "new = cost[u] + 1"), (_PUSH, "(new, v)")), "the fewest edges"),
        (
            _change(_PATH, (_NEW, "new = cost[u] + distance(u, v) ** 2"), (_PUSH, "(new, v)")),
            "shortest in squared lengths",
        ),
        (
            _change(_PATH, (_NEW, "new = cost[u] + distance(u, v) ** 2")),
            "shortest in squared lengths",
        ),
        (_return(_PATH, "path"), "the path is reversed"),
        (_return(_PATH, "path[:-1][::-1]"), "the path lacks the start"),
        (_return(_PATH, "path[:0:-1]"), "the path lacks the goal"),
        (_return(_PATH, "[start, goal]"), "an edge that does not exist"),
        (_change(_PATH, (_BETTER, "if v not in cost:")), "keeps the first path"),
        (_change(_PATH, (_BETTER, "if v not in done:")), "keeps the last path"),
        (_change(_PATH, (_PUSH, "(new + 3 * distance(v, goal), v)")), "the shortest"),
        (
            _change(
                _PATH,
                (_PUSH, "(new + distance(v, goal) ** 2, v)"),
            ),
            "the heuristic is the squared distance",
        ),
        (
            _change(
                _PATH,
                (_PUSH, "(new + (positions[v] - positions[goal]).abs().sum().item(), v)"),
            ),
            "sums coordinate differences",
        ),
        (_return(_PATH, "[]"), "the path is empty"),
        (_return(_PATH, "cost[goal]"), "should be a list of node numbers"),
        (_return(_PATH, "[0, 1]"), "the path runs from 0 to 1"),
    ],
}

OTHERS = {name: {"another way": source} for name, source in OTHERS.items()}
