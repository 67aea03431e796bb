"""Other right answers to the build of chapter 2."""

import torch


def filled_level_by_level(trace, x):
    information = torch.empty(len(x), len(trace.levels), dtype=x.dtype)
    for l, level in enumerate(trace.levels):
        information[:, l] = level.q.log_prob(level.z) - level.p.log_prob(level.z)
    return [trace.px.log_prob(x), information]


def a_loop_over_levels(reconstruction, information, weights, floor):
    value = reconstruction.sum() / len(reconstruction)
    for level, weight in zip(information.T, weights, strict=True):
        value = value - weight * torch.relu(level.mean() - floor) - weight * floor
    return value


def summed_while_it_trains(model, optimiser, batches, weights, floor):
    model.train()
    total, examples = 0.0, 0
    for x in batches:
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        reconstruction, information = filled_level_by_level(model(x), x)
        loss = -a_loop_over_levels(reconstruction, information, weights, floor)
        loss.backward()
        optimiser.step()
        total, examples = total + information.detach().sum(0), examples + len(x)
    return [float(v) for v in total / examples]


@torch.no_grad()
def with_a_decorator(model, x, floor):
    trace = model.eval()(x)
    value = a_loop_over_levels(*filled_level_by_level(trace, x), [1] * len(trace.levels), floor)
    model.train()
    return value


def weights_copied_by_name(model, optimiser, train, validation, warm_up, floor, patience, epochs):
    rows, waited, best = [], 0, None
    for t in range(epochs):
        if waited == patience:
            break
        weights = [1.0 if t + 1 >= total else (t + 1) / total for total in warm_up]
        information = summed_while_it_trains(model, optimiser, train, weights, floor)
        rows.append(torch.tensor([with_a_decorator(model, validation, floor), *information]))
        if best is None or rows[-1][0] > best:
            best, waited = rows[-1][0], 0
            kept = {name: value.clone() for name, value in model.state_dict().items()}
        elif t + 1 > max(warm_up):
            waited += 1
        if t + 1 <= max(warm_up):
            waited = 0
    for name, value in model.state_dict().items():
        value.copy_(kept[name])
    return rows


OTHERS = {
    "terms": [filled_level_by_level],
    "objective": [a_loop_over_levels],
    "train_epoch": [summed_while_it_trains],
    "validate": [with_a_decorator],
    "fit": [weights_copied_by_name],
}
IN_PLACE = {"train_epoch", "validate", "fit"}
"""Answers that change the model they are given, which a copy in another precision would hide."""
