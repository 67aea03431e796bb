"""Other right answers to the exercises of chapter 2."""

import torch


def a_tensor_in_float64(epoch, epochs):
    t = torch.tensor(epochs, dtype=torch.float64)
    return (epoch / t).clamp(max=1)


def a_tuple_of_tensors_in_float32(epoch, epochs):
    many = epochs if hasattr(epochs, "__len__") else (epochs,)
    return tuple(torch.tensor(1.0 if epoch >= t else epoch / t) for t in many)


def lists_only(epoch, epochs):
    return [1.0 if t == 0 else min(epoch, t) / t for t in epochs]


def a_number_for_one_t(epoch, epochs):
    if isinstance(epochs, int):
        return 1 if epoch >= epochs else epoch / epochs
    return [a_number_for_one_t(epoch, t) for t in epochs]


def level_by_level_in_float64(information, floor):
    total = 0.0
    for level in information.double().unbind(dim=1):
        used = level.mean()
        total = total + (used if used > floor else floor)
    return torch.as_tensor(total)


def a_maximum_in_float32(information, floor):
    used = information.float().sum(dim=0) / len(information)
    return torch.maximum(used, torch.full_like(used, floor)).sum()


def gradients_of_each_example(information, floor):
    above = information.detach().mean(0) > floor
    return torch.where(above, information, torch.full_like(information, floor)).mean(0).sum()


def a_count_in_float64(means, threshold=0.01):
    means = means.double()
    return (((means - means.mean(0)) ** 2).mean(0) > threshold).sum()


def a_loop_in_float32(means, threshold=0.01):
    n = 0
    for unit in means.float().T:
        n += bool(unit.std() > threshold**0.5)
    return n


def with_numpy(means, threshold=0.01):
    return (means.numpy().var(axis=0) > threshold).sum()


OTHERS = {
    "kl_weights": [
        *(a_tensor_in_float64, a_tuple_of_tensors_in_float32),
        *(lists_only, a_number_for_one_t),
    ],
    "free_bits": [
        *(level_by_level_in_float64, a_maximum_in_float32, gradients_of_each_example),
    ],
    "active_units": [a_count_in_float64, a_loop_in_float32, with_numpy],
}
