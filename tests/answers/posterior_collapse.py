"""Answers to the exercises of chapter 2, as source that needs `torch` and defines the function."""

STUBS = {
    "kl_weights": """
def kl_weights(epoch, epochs):
    raise NotImplementedError
""",
    "free_bits": """
def free_bits(information, floor):
    raise NotImplementedError
""",
    "active_units": """
def active_units(means, threshold=0.01):
    raise NotImplementedError
""",
}

WEIGHTS = """
def kl_weights(epoch, epochs):
    if not isinstance(epochs, (list, tuple)):
        epochs = [epochs]
    return [min(1.0, epoch / t) if t > 0 else 1.0 for t in epochs]
"""
FREE = """
def free_bits(information, floor):
    return information.mean(0).clamp(min=floor).sum()
"""
UNITS = """
def active_units(means, threshold=0.01):
    return int((means.var(0) > threshold).sum())
"""
SOLUTIONS = {"kl_weights": WEIGHTS, "free_bits": FREE, "active_units": UNITS}

OTHERS = {
    "kl_weights": {
        "a tensor in float64": """
def kl_weights(epoch, epochs):
    t = torch.tensor(epochs, dtype=torch.float64)
    return (epoch / t).clamp(max=1)
""",
        "a tuple of tensors in float32": """
def kl_weights(epoch, epochs):
    many = epochs if hasattr(epochs, "__len__") else (epochs,)
    return tuple(torch.tensor(1.0 if epoch >= t else epoch / t) for t in many)
""",
        "lists only": """
def kl_weights(epoch, epochs):
    return [1.0 if t == 0 else min(epoch, t) / t for t in epochs]
""",
        "a number for one T": """
def kl_weights(epoch, epochs):
    if isinstance(epochs, int):
        return 1 if epoch >= epochs else epoch / epochs
    return list(map(lambda t: kl_weights(epoch, t), epochs))
""",
    },
    "free_bits": {
        "in float64, level by level": """
def free_bits(information, floor):
    total = 0.0
    for level in information.double().unbind(dim=1):
        used = level.mean()
        total = total + (used if used > floor else floor)
    return torch.as_tensor(total)
""",
        "in float32, with a maximum": """
def free_bits(information, floor):
    used = information.float().sum(dim=0) / len(information)
    return torch.maximum(used, torch.full_like(used, floor)).sum()
""",
        "gradients of each example": """
def free_bits(information, floor):
    above = information.detach().mean(0) > floor
    return torch.where(above, information, torch.full_like(information, floor)).mean(0).sum()
""",
    },
    "active_units": {
        "a tensor in float64": """
def active_units(means, threshold=0.01):
    means = means.double()
    return (((means - means.mean(0)) ** 2).mean(0) > threshold).sum()
""",
        "a loop in float32": """
def active_units(means, threshold=0.01):
    n = 0
    for unit in means.float().T:
        n += bool(unit.std() > threshold**0.5)
    return n
""",
        "with numpy": """
def active_units(means, threshold=0.01):
    return (means.numpy().var(axis=0) > threshold).sum()
""",
    },
}


def _weights(line: str, zero: str = "1.0") -> str:
    return WEIGHTS.replace("min(1.0, epoch / t) if t > 0 else 1.0", f"{line} if t > 0 else {zero}")


def _free(line: str) -> str:
    return FREE.replace("information.mean(0).clamp(min=floor).sum()", line)


def _units(line: str) -> str:
    return UNITS.replace("int((means.var(0) > threshold).sum())", line)


WRONG = {
    "kl_weights": [
        (WEIGHTS.replace("for t in epochs]", "for t in epochs][::-1]"), "in the wrong order"),
        (_weights("min(1.0, (epoch - 1) / t)"), "one epoch late"),
        (_weights("min(1.0, (epoch + 1) / t)"), "one epoch early"),
        (_weights("epoch / t"), "keeps rising"),
        (_weights("min(1.0, epoch / t)", "0.0"), "T = 0 gives the weight 0"),
        (WEIGHTS.replace(" if t > 0 else 1.0", ""), "T = 0 divides by zero"),
        (_weights("1.0"), "1 from the start; it should rise"),
        (_weights("max(0.0, 1 - epoch / t)"), "the weight falls"),
        (_weights("min(1, epoch // t)"), "jumps from 0 to 1"),
        (_weights("min(1.0, epoch / max(epochs))"), "one T for all levels"),
        (WEIGHTS.replace("epochs = [epochs]", "return [1.0]"), "kl_weights(7, 20)"),
        (WEIGHTS.replace("for t in epochs]", "for t in epochs][0]"), "should have shape (2,)"),
    ],
    "free_bits": [
        (_free("information.clamp(min=floor).mean(0).sum()"), "the floor is under every example"),
        (_free("information.mean(0).sum().clamp(min=floor)"), "under the sum of the levels"),
        (_free("information.sum(1).clamp(min=floor).mean()"), "under the sum of the levels"),
        (_free("information.mean(0).clamp(max=floor).sum()"), "takes the smaller"),
        (_free("information.mean(0).clamp(min=floor).mean()"), "averages over the levels"),
        (_free("(information.mean(0) - floor).clamp(min=0).sum()"), "the floor is subtracted"),
        (_free("(information.mean(0) - floor).sum()"), "the floor is subtracted"),
        (_free("information.mean(0).sum()"), "means without a floor"),
        (_free("information.sum(0).clamp(min=floor).sum()"), "sums over the batch"),
        (_free("information.mean(1).clamp(min=floor).sum()"), "averages over the levels, axis 1"),
        (_free("information.mean(0).clamp(min=floor / 4).sum()"), "divided by the number of"),
        (_free("-information.mean(0).clamp(min=floor).sum()"), "the sign is reversed"),
        (_free("information.mean(0).clamp(min=floor)"), "one number per level"),
        (_free("information.clamp(min=floor).sum(1)"), "one number per example"),
        (_free("information.mean(0).clamp(min=floor).sum().item()"), "no gradient passes"),
        (
            _free(
                "information.mean(0).sum() + (information.mean(0).clamp(min=floor).sum()"
                " - information.mean(0).sum()).detach()"
            ),
            "the gradient with respect to the information is not",
        ),
    ],
    "active_units": [
        (_units("int((means.std(0) > threshold).sum())"), "standard deviation is compared"),
        (_units("int((means.amax(0) - means.amin(0) > threshold).sum())"), "the range of the"),
        (_units("int((means.var(1) > threshold).sum())"), "variance over the dimensions"),
        (_units("int(((means**2).mean(0) > threshold).sum())"), "mean square"),
        (_units("int((means.mean(0).abs() > threshold).sum())"), "the size of a mean"),
        (_units("int((means.var(0) <= threshold).sum())"), "inactive units"),
        (
            _units("float((means.var(0) > threshold).float().mean())"),
            "the fraction of active units",
        ),
        (_units("means.var(0).mean()"), "mean of the variances"),
        (_units("int(means.var(0).mean() > threshold)"), "for all dimensions together"),
        (_units("int(means.var() > threshold)"), "for all dimensions together"),
        (_units("int((means.var(0) > 0.01).sum())"), "the threshold is fixed at 0.01"),
        (_units("means.shape[1]"), "counts every dimension"),
        (_units("means.var(0) > threshold"), "one value per dimension"),
    ],
}
