"""Other right answers to the exercises on depth."""

from bisect import bisect_right
from itertools import product

import numpy as np
import pandas as pd
import torch


def halves_with_a_floor(total, levels):
    least = -(-total // (4 * levels))
    sizes = []
    for below_top in range(levels - 1, 0, -1):
        sizes.append(max(-(-total // (below_top + 1)), min(total // 2, total - least * below_top)))
        total -= sizes[-1]
    return sorted(sizes + [total], reverse=True)


def a_tensor_of_sizes(total, levels):
    sizes = torch.full((levels,), total // levels)
    sizes[0] += total - sizes.sum()
    return sizes


def numpy_integers_in_a_tuple(total, levels):
    return tuple(len(part) + np.int64(0) for part in np.array_split(np.arange(total), levels))


def an_interval_up_to_the_budget(count, budget):
    low, high = 1, budget
    while low <= high:
        middle = (low + high) // 2
        if count(middle) > budget:
            high = middle - 1
        else:
            low = middle + 1
    if high < 1:
        raise ValueError("no width fits")
    return high


def bit_by_bit(count, budget):
    width = 0
    for bit in reversed(range(24)):
        if count(width + 2**bit) <= budget:
            width += 2**bit
    if width == 0:
        raise ValueError("no width fits")
    return width


def with_bisect(count, budget):
    width = bisect_right(range(1, 2**24), budget, key=count)
    if not width:
        raise ValueError
    return width


def seeds_outside_in_a_tuple(settings, seeds, build, train, measure):
    rows = []
    for seed, setting in product(seeds, settings):
        torch.manual_seed(seed)
        model = build(dict(setting))
        train(model, seed)
        row = {"seed": seed}
        row.update(setting)
        row.update(measure(model))
        rows.append(row)
    return tuple(rows)


def a_function_for_one_run_in_a_frame(settings, seeds, build, train, measure):
    def run(setting, seed):
        torch.manual_seed(seed)
        model = build(setting)
        train(model, seed=seed)
        return dict(seed=seed) | setting | measure(model)

    return pd.DataFrame([run(setting, seed) for setting in settings for seed in seeds])


def all_built_first_and_measured_twice(settings, seeds, build, train, measure):
    models = []
    for setting in settings:
        for seed in seeds:
            torch.manual_seed(seed)
            models.append((setting, seed, build(setting)))
    for _, seed, model in models:
        measure(model)
        train(model, seed)
    return [{**setting, **measure(model), "seed": seed} for setting, seed, model in models]


def rows_sorted_by_seed_in_a_tensor(table, quantity, deeper, shallower):
    table = table.sort_values("seed")
    rows = (table[table.levels == levels] for levels in (deeper, shallower))
    a, b = (torch.tensor(row[quantity].to_numpy()) for row in rows)
    gap = a - b
    return torch.stack([gap.mean(), gap.std() / len(gap) ** 0.5])


def a_join_and_numpy(table, quantity, deeper, shallower):
    both = table[table.levels == deeper].merge(table[table.levels == shallower], on="seed")
    gap = (both[quantity + "_x"] - both[quantity + "_y"]).to_numpy()
    return np.array([gap.mean(), gap.std(ddof=1) / np.sqrt(len(gap))])


def the_seed_as_index(table, quantity, deeper, shallower):
    by_seed = table.set_index("seed")
    a, b = (by_seed[by_seed.levels == levels] for levels in (deeper, shallower))
    gap = a[quantity] - b[quantity]
    return [gap.mean(), gap.sem()]


def the_smallest_fine_depth(table):
    wide = table.set_index(["levels", "seed"]).validation.unstack("levels")
    fine = []
    for depth in wide.columns:
        gains = wide.sub(wide[depth], axis=0).loc[:, wide.columns > depth]
        if not (gains.mean() > 2 * gains.std() / len(wide) ** 0.5).any():
            fine.append(depth)
    return min(fine)


def loops_and_a_tensor(table):
    depths = sorted(table.levels.unique())
    column = {d: table[table.levels == d].set_index("seed").validation for d in depths}
    for i, depth in enumerate(depths):
        for deeper in depths[i + 1 :]:
            gap = column[deeper] - column[depth]
            if gap.mean() - 2 * gap.sem() > 0:
                break
        else:
            return torch.tensor(float(depth))


def sets_by_numpy(table, threshold):
    used = {}
    for depth in table.levels.unique():
        part = table[table.levels == depth].filter(like="information_").to_numpy()
        used[depth] = set(np.flatnonzero(part.mean(axis=0) > threshold) + 1)
    return used


def tuples_from_the_top(table, threshold):
    mean = table.groupby("levels").mean()
    return {
        depth: tuple(l for l in (5, 4, 3, 2, 1) if mean.loc[depth, f"information_{l}"] > threshold)
        for depth in mean.index
    }


def a_series_of_lists(table, threshold):
    mean = table.drop(columns="seed").groupby("levels").mean().rename(columns=lambda c: int(c[-1]))
    return mean.apply(lambda row: list(row[row > threshold].index), axis=1)


OTHERS = {
    "split_latents": [halves_with_a_floor, a_tensor_of_sizes, numpy_integers_in_a_tuple],
    "matching_width": [an_interval_up_to_the_budget, bit_by_bit, with_bisect],
    "experiment": [
        seeds_outside_in_a_tuple,
        a_function_for_one_run_in_a_frame,
        all_built_first_and_measured_twice,
    ],
    "paired_difference": [rows_sorted_by_seed_in_a_tensor, a_join_and_numpy, the_seed_as_index],
    "choose_depth": [the_smallest_fine_depth, loops_and_a_tensor],
    "levels_in_use": [sets_by_numpy, tuples_from_the_top, a_series_of_lists],
}
