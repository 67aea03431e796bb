"""Answers to the exercises on depth, as source that needs `torch` and defines the function."""

STUBS = {
    "split_latents": """
def split_latents(total, levels):
    raise NotImplementedError
""",
    "matching_width": """
def matching_width(count, budget):
    raise NotImplementedError
""",
    "experiment": """
def experiment(settings, seeds, build, train, measure):
    raise NotImplementedError
""",
    "paired_difference": """
def paired_difference(table, quantity, deeper, shallower):
    raise NotImplementedError
""",
    "choose_depth": """
def choose_depth(table):
    raise NotImplementedError
""",
    "levels_in_use": """
def levels_in_use(table, threshold):
    raise NotImplementedError
""",
}

SPLIT = """
def split_latents(total, levels):
    share, rest = divmod(total, levels)
    return [share + 1] * rest + [share] * (levels - rest)
"""
WIDTH = """
def matching_width(count, budget):
    if count(1) > budget:
        raise ValueError(f"even width 1 has more than {budget} parameters")
    fits, too_wide = 1, 2
    while count(too_wide) <= budget:
        fits, too_wide = too_wide, 2 * too_wide
    while too_wide - fits > 1:
        middle = (fits + too_wide) // 2
        if count(middle) <= budget:
            fits = middle
        else:
            too_wide = middle
    return fits
"""
EXPERIMENT = """
def experiment(settings, seeds, build, train, measure):
    rows = []
    for setting in settings:
        for seed in seeds:
            torch.manual_seed(seed)
            model = build(setting)
            train(model, seed)
            rows.append({**setting, "seed": seed, **measure(model)})
    return rows
"""
DIFFERENCE = """
def paired_difference(table, quantity, deeper, shallower):
    values = table.pivot(index="seed", columns="levels", values=quantity)
    difference = values[deeper] - values[shallower]
    error = difference.std(ddof=1) / len(difference) ** 0.5
    return float(difference.mean()), float(error)
"""
CHOOSE = """
def choose_depth(table):
    values = table.pivot(index="seed", columns="levels", values="validation")
    depths = sorted(values.columns)
    for depth in depths:
        gains = [values[deeper] - values[depth] for deeper in depths if deeper > depth]
        if all(gain.mean() <= 2 * gain.sem() for gain in gains):
            return int(depth)
"""
USE = """
def levels_in_use(table, threshold):
    used = {}
    for depth, mean in table.groupby("levels").mean().iterrows():
        levels = range(1, int(depth) + 1)
        used[int(depth)] = [level for level in levels if mean[f"information_{level}"] > threshold]
    return used
"""
SOLUTIONS = {
    "split_latents": SPLIT,
    "matching_width": WIDTH,
    "experiment": EXPERIMENT,
    "paired_difference": DIFFERENCE,
    "choose_depth": CHOOSE,
    "levels_in_use": USE,
}

OTHERS = {
    "split_latents": {
        "halves, with a floor": """
def split_latents(total, levels):
    least = -(-total // (4 * levels))
    sizes = []
    for below_top in range(levels - 1, 0, -1):
        sizes.append(max(-(-total // (below_top + 1)), min(total // 2, total - least * below_top)))
        total -= sizes[-1]
    return sorted(sizes + [total], reverse=True)
""",
        "a tensor": """
def split_latents(total, levels):
    sizes = torch.full((levels,), total // levels)
    sizes[0] += total - sizes.sum()
    return sizes
""",
        "numpy integers in a tuple": """
def split_latents(total, levels):
    import numpy as np
    return tuple(len(part) + np.int64(0) for part in np.array_split(np.arange(total), levels))
""",
    },
    "matching_width": {
        "an interval up to the budget": """
def matching_width(count, budget):
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
""",
        "powers of two, bit by bit": """
def matching_width(count, budget):
    width = 0
    for bit in reversed(range(24)):
        if count(width + 2**bit) <= budget:
            width += 2**bit
    if width == 0:
        raise ValueError("no width fits")
    return width
""",
        "bisect": """
def matching_width(count, budget):
    from bisect import bisect_right
    width = bisect_right(range(1, 2**24), budget, key=count)
    if not width:
        raise ValueError
    return width
""",
    },
    "experiment": {
        "seeds outside, a product": """
def experiment(settings, seeds, build, train, measure):
    from itertools import product
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
""",
        "a function for one run, a DataFrame": """
def experiment(settings, seeds, build, train, measure):
    import pandas as pd

    def run(setting, seed):
        torch.manual_seed(seed)
        model = build(setting)
        train(model, seed=seed)
        return dict(seed=seed) | setting | measure(model)

    return pd.DataFrame([run(setting, seed) for setting in settings for seed in seeds])
""",
        "everything built first, measured twice": """
def experiment(settings, seeds, build, train, measure):
    models = []
    for setting in settings:
        for seed in seeds:
            torch.manual_seed(seed)
            models.append((setting, seed, build(setting)))
    for _, seed, model in models:
        measure(model)
        train(model, seed)
    return [{**setting, **measure(model), "seed": seed} for setting, seed, model in models]
""",
    },
    "paired_difference": {
        "rows sorted by seed, with torch": """
def paired_difference(table, quantity, deeper, shallower):
    table = table.sort_values("seed")
    rows = (table[table.levels == levels] for levels in (deeper, shallower))
    a, b = (torch.tensor(row[quantity].to_numpy()) for row in rows)
    gap = a - b
    return torch.stack([gap.mean(), gap.std() / len(gap) ** 0.5])
""",
        "a join and numpy": """
def paired_difference(table, quantity, deeper, shallower):
    import numpy as np
    both = table[table.levels == deeper].merge(table[table.levels == shallower], on="seed")
    gap = (both[quantity + "_x"] - both[quantity + "_y"]).to_numpy()
    return np.array([gap.mean(), gap.std(ddof=1) / np.sqrt(len(gap))])
""",
        "seed as index, sem": """
def paired_difference(table, quantity, deeper, shallower):
    by_seed = table.set_index("seed")
    a, b = (by_seed[by_seed.levels == levels] for levels in (deeper, shallower))
    gap = a[quantity] - b[quantity]
    return [gap.mean(), gap.sem()]
""",
    },
    "choose_depth": {
        "from the top down": """
def choose_depth(table):
    wide = table.set_index(["levels", "seed"]).validation.unstack("levels")
    fine = []
    for depth in wide.columns:
        gains = wide.sub(wide[depth], axis=0).loc[:, wide.columns > depth]
        if not (gains.mean() > 2 * gains.std() / len(wide) ** 0.5).any():
            fine.append(depth)
    return min(fine)
""",
        "a tensor, loops": """
def choose_depth(table):
    depths = sorted(table.levels.unique())
    column = {d: table[table.levels == d].set_index("seed").validation for d in depths}
    for i, depth in enumerate(depths):
        for deeper in depths[i + 1 :]:
            gap = column[deeper] - column[depth]
            if gap.mean() - 2 * gap.sem() > 0:
                break
        else:
            return torch.tensor(float(depth))
""",
    },
    "levels_in_use": {
        "sets by numpy": """
def levels_in_use(table, threshold):
    import numpy as np
    used = {}
    for depth in table.levels.unique():
        part = table[table.levels == depth].filter(like="information_").to_numpy()
        used[depth] = set(np.flatnonzero(part.mean(axis=0) > threshold) + 1)
    return used
""",
        "tuples from the top": """
def levels_in_use(table, threshold):
    mean = table.groupby("levels").mean()
    return {
        depth: tuple(l for l in (5, 4, 3, 2, 1) if mean.loc[depth, f"information_{l}"] > threshold)
        for depth in mean.index
    }
""",
        "a Series of lists": """
def levels_in_use(table, threshold):
    mean = table.drop(columns="seed").groupby("levels").mean().rename(columns=lambda c: int(c[-1]))
    return mean.apply(lambda row: list(row[row > threshold].index), axis=1)
""",
    },
}


def _split(line: str) -> str:
    return SPLIT.replace("[share + 1] * rest + [share] * (levels - rest)", line)


def _width(old: str, new: str) -> str:
    return WIDTH.replace(old, new)


def _run(old: str, new: str) -> str:
    return EXPERIMENT.replace(old, new)


def _difference(old: str, new: str) -> str:
    return DIFFERENCE.replace(old, new)


def _choose(old: str, new: str) -> str:
    return CHOOSE.replace(old, new)


def _use(old: str, new: str) -> str:
    return USE.replace(old, new)


ONE_BY_ONE = """
def matching_width(count, budget):
    width = 0
    while count(width + 1) <= budget:
        width += 1
    return width
"""
STEPS_OF_100 = """
def matching_width(count, budget):
    if count(1) > budget:
        raise ValueError
    width = 1
    while count(width + 100) <= budget:
        width += 100
    while count(width + 1) <= budget:
        width += 1
    return width
"""
SEED_LINE = "            torch.manual_seed(seed)\n"
BUILD_LINE = "            model = build(setting)\n"
TRAIN_LINE = "            train(model, seed)\n"
LOOPS = "    for setting in settings:\n        for seed in seeds:\n"
ROW = '{**setting, "seed": seed, **measure(model)}'
SERIES = """
def paired_difference(table, quantity, deeper, shallower):
    a, b = table[table.levels == deeper][quantity], table[table.levels == shallower][quantity]
    CONVERT
    return GAP.mean(), ERROR
"""


def _series(gap: str, error: str, convert: str = "a, b = a.to_numpy(), b.to_numpy()") -> str:
    return SERIES.replace("CONVERT", convert).replace("GAP", gap).replace("ERROR", error)


WRONG = {
    "split_latents": [
        (_split("([share] * (levels - rest) + [share + 1] * rest)"), "begins with the top level"),
        (_split("[share] * levels"), "is it lost by rounding?"),
        (_split("[round(total / levels)] * levels"), "is it lost by rounding?"),
        (_split("[total] * levels"), "every level gets the whole total"),
        (_split("[share] * (levels - 1) + [share + rest]"), "the remainder goes to the top level"),
        (_split("([share + 1] * rest + [share] * (levels - rest) + [0])"), "level too many"),
        (_split("([total // (levels - 1 or 1)] * (levels - 1))"), "level too few"),
        (_split("[total / levels] * levels"), "should be a whole number"),
        (_split("[total - levels + 1] + [1] * (levels - 1)"), "a level is too small"),
        (
            """
def split_latents(total, levels):
    sizes = []
    for _ in range(levels - 1):
        sizes.append(total - total // 2)
        total //= 2
    return sizes + [total]
""",
            "one level is empty",
        ),
        (_split("[total // 2 ** (level + 1) for level in range(levels)]"), "with the sum"),
        (_split("total // levels"), "should be a list of sizes"),
        (
            """
def split_latents(total, levels):
    share, rest = divmod(total, levels)
    sizes = [share] * levels
    sizes[levels // 2] += rest
    return sizes
""",
            "a size grows towards the top",
        ),
    ],
    "matching_width": [
        (_width("return fits", "return too_wide"), "one too wide"),
        (_width("return fits", "return max(1, fits - 1)"), "so does"),
        (_width("return fits", "return fits - 1"), "one below the largest width"),
        (_width("return fits", "return count(fits)"), "this is the number of parameters"),
        (_width("<= budget", "< budget"), "the count may equal the budget"),
        (_width("> budget", ">= budget"), "the count may equal the budget"),
        (
            _width(
                "return fits",
                "return min(fits, too_wide, key=lambda w: abs(count(w) - budget))",
            ),
            "rounds up where the next width is nearer",
        ),
        (
            "\ndef matching_width(count, budget):\n    return max(1, budget // count(1))\n",
            "assumes that the count is proportional",
        ),
        (
            "\ndef matching_width(count, budget):\n    return int(64 * budget / count(64))\n",
            "assumes that the count is proportional",
        ),
        (ONE_BY_ONE, "this tries width after width"),
        (STEPS_OF_100, "in one case; at most 60 are allowed"),
        (_width("while too_wide - fits > 1", "while too_wide > fits"), "the search does not end"),
        (
            _width("if count(1) > budget:\n        raise", "if False:\n        raise"),
            "raise ValueError",
        ),
        (_width("// 2\n", "/ 2\n"), "should be a whole number"),
        (
            _width("fits, too_wide = 1, 2", "fits, too_wide = 0, 0"),
            "the smallest model has width 1",
        ),
        (
            """
def matching_width(count, budget):
    if count(1) > budget:
        raise ValueError
    low, high = 1, 4096
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(middle) <= budget else (low, middle - 1)
    return low
""",
            "is there a fixed upper limit?",
        ),
        (_width("return fits", "return 2 * fits"), "parameters, over"),
    ],
    "experiment": [
        (
            _run(SEED_LINE + BUILD_LINE, BUILD_LINE + SEED_LINE),
            "the seed is set after build",
        ),
        (_run(SEED_LINE, ""), "does not determine the initial weights"),
        (
            _run("    rows = []\n", "    rows = []\n    torch.manual_seed(seeds[0])\n").replace(
                SEED_LINE, ""
            ),
            "set before some models only",
        ),
        (_run("train(model, seed)", "train(model, 0)"), "train received seed 0"),
        (
            _run(LOOPS, "    model = build(settings[0])\n" + LOOPS).replace(BUILD_LINE, ""),
            "trained again and again",
        ),
        (
            _run(
                LOOPS + SEED_LINE + BUILD_LINE,
                "    for setting in settings:\n"
                "        torch.manual_seed(seeds[0])\n        model = build(setting)\n"
                "        for seed in seeds:\n",
            ),
            "trained again and again",
        ),
        (
            _run(TRAIN_LINE, "            row = " + ROW + "\n" + TRAIN_LINE).replace(
                f"rows.append({ROW})", "rows.append(row)"
            ),
            "measured before it was trained",
        ),
        (_run(TRAIN_LINE, ""), "never trained"),
        (_run(f"rows.append({ROW})", f"rows = {ROW}"), "this is one row"),
        (_run(f"rows.append({ROW})", f"rows = [{ROW}]"), "append every row"),
        (
            _run("    rows = []\n", "    rows, row = [], {}\n").replace(
                f"rows.append({ROW})", f"row.update({ROW})\n            rows.append(row)"
            ),
            "all rows are the same dict",
        ),
        (_run(", **measure(model)}", "}"), "what measure returns, elbo"),
        (_run("**measure(model)}", '"results": measure(model)}'), "what measure returns, elbo"),
        (_run("{**setting, ", "{"), "rows lack values of the setting, levels, width"),
        (_run('"seed": seed, ', ""), "rows lack the seed"),
        (
            _run(
                f"rows.append({ROW})",
                'setting["seed"] = seed\n            setting.update(measure(model))\n'
                "            rows.append(setting)",
            ),
            "a setting was changed",
        ),
        (
            _run(LOOPS, "    for setting, seed in zip(settings, seeds):\n        if True:\n"),
            "settings and seeds are paired",
        ),
        (_run("    return rows", "            return rows"), "is return inside the loop?"),
        (_run("train(model, seed)", "model = train(model, seed)"), "measure received None"),
        (_run("build(setting)", 'build(setting["levels"])'), "pass it the whole setting"),
        (
            _run(
                f"rows.append({ROW})",
                f"first = model if not rows else first\n            "
                f"rows.append({ROW.replace('measure(model)', 'measure(first)')})",
            ),
            "holds the results of another run",
        ),
    ],
    "paired_difference": [
        (
            _difference(
                "values[deeper] - values[shallower]", "values[shallower] - values[deeper]"
            ),
            "this is shallower minus deeper",
        ),
        (
            _difference(
                "difference.std(ddof=1)", "(values[deeper].var() + values[shallower].var()) ** 0.5"
            ),
            "the error is that of two separate groups",
        ),
        (
            _difference(" / len(difference) ** 0.5", ""),
            "the second number is the standard deviation",
        ),
        (_difference("ddof=1", "ddof=0"), "divides by n;"),
        (_difference("** 0.5", ""), "divided by n; divide by its root"),
        (
            _series("(a - b)", "(a - b).std(ddof=1) / len(a) ** 0.5"),
            "rows are paired by their position",
        ),
        (_series("(a - b)", "(a - b).sem()", "pass"), "not finite; pandas subtracts rows"),
        (_difference("difference.mean()", "difference.median()"), "this is the median"),
        (_difference("difference.mean()", "difference.sum()"), "this sums the differences"),
        (_difference("values=quantity", 'values="validation"'), "this uses a fixed column"),
        (_difference("values=quantity", 'values="iw"'), "this uses a fixed column"),
        (_difference("float(error)", "2 * float(error)"), "two standard errors"),
        (_difference("float(error)", "float(error) ** 2"), "the variance of the mean"),
        (
            _difference(
                "float(difference.mean()), float(error)", "float(error), float(difference.mean())"
            ),
            "the error comes first",
        ),
        (_difference(", float(error)", ""), "should be 2 values"),
        (
            _difference(
                "values[deeper] - values[shallower]",
                "values[values.columns[-1]] - values[values.columns[0]]",
            ),
            "compares the greatest depth with the smallest",
        ),
    ],
    "choose_depth": [
        (_choose('"validation"', '"test"'), "chooses by the test column"),
        (
            "\ndef choose_depth(table):\n"
            '    return table.groupby("levels").validation.mean().idxmax()\n',
            "takes the best mean",
        ),
        (_choose("2 * gain.sem()", "0"), "takes the best mean"),
        (
            "\ndef choose_depth(table):\n"
            '    return table.groupby("levels").test.mean().idxmax()\n',
            "chooses by the test column",
        ),
        (
            "\ndef choose_depth(table):\n"
            '    return table.groupby("levels").validation.mean().idxmin()\n',
            "takes the lowest bound",
        ),
        (
            "\ndef choose_depth(table):\n    return table.levels.max()\n",
            "always the greatest depth",
        ),
        ("\ndef choose_depth(table):\n    return 1\n", "always the smallest depth"),
        (
            _choose("if deeper > depth]", "if deeper > depth][:1]"),
            "compares with the next depth only",
        ),
        (
            _choose(
                "2 * gain.sem()",
                "2 * ((values[depth].var() + gain.add(values[depth]).var()) / len(gain)) ** 0.5",
            ),
            "the error is that of two separate groups",
        ),
        (_choose("2 * gain.sem()", "gain.sem()"), "with one standard error"),
        (_choose("gain.sem()", "gain.std()"), "compared with standard deviations"),
        (_choose("gain.sem()", "gain.sem(ddof=0)"), "divides by n; for n differences"),
        (
            _choose("values[deeper] - values[depth]", "values[depth] - values[deeper]"),
            "the sign is reversed",
        ),
        (
            """
def choose_depth(table):
    depths = sorted(set(table.levels))
    values = {depth: table[table.levels == depth].validation.to_numpy() for depth in depths}
    for depth in depths:
        gains = [values[deeper] - values[depth] for deeper in depths if deeper > depth]
        if all(g.mean() <= 2 * g.std(ddof=1) / len(g) ** 0.5 for g in gains):
            return depth
""",
            "rows are paired by their position",
        ),
        (
            """
def choose_depth(table):
    values = table.pivot(index="seed", columns="levels", values="validation")
    first, *deeper = values.columns
    for depth in deeper:
        gain = values[depth] - values[first]
        if gain.mean() > 2 * gain.sem():
            return depth
    return first
""",
            "first depth that is better than the smallest",
        ),
        (
            """
def choose_depth(table):
    values = table.pivot(index="seed", columns="levels", values="validation")
    best = values.mean().idxmax()
    for depth in sorted(values.columns):
        gain = values[best] - values[depth]
        if depth == best or gain.mean() <= 2 * gain.sem():
            return int(depth)
""",
            "should be 2",
        ),
        (
            """
def choose_depth(table):
    values = table.pivot(index="seed", columns="levels", values="validation")
    champion, *others = sorted(values.columns)
    for depth in others:
        gain = values[depth] - values[champion]
        if gain.mean() > 2 * gain.sem():
            champion = depth
    return int(champion)
""",
            "should be 2",
        ),
    ],
    "levels_in_use": [
        (_use("[level for", "[level - 1 for"), "counted from 0"),
        (_use("[level for", "[int(depth) + 1 - level for"), "counted from the top"),
        (_use(".mean()", ".max()"), "if any seed exceeds"),
        (_use(".mean()", ".min()"), "only if every seed exceeds"),
        (_use("> threshold", "<= threshold"), "these are the levels not in use"),
        (
            _use("> threshold", "<= threshold")
            .replace("if mean", "if not mean")
            .replace("range(1, int(depth) + 1)", "range(1, 6)"),
            "levels above the top are kept",
        ),
        (_use("> threshold", "> 0"), "the mean is compared with 0"),
        (_use(".mean()", ".sum()"), "this sums over seeds"),
        (_use(".mean()", ".median()"), "this is the median"),
        (
            _use(
                '[level for level in levels if mean[f"information_{level}"] > threshold]',
                'sum(mean[f"information_{level}"] > threshold for level in levels)',
            ),
            "this is one value",
        ),
        (
            _use(
                '[level for level in levels if mean[f"information_{level}"] > threshold]',
                '[mean[f"information_{level}"] > threshold for level in levels]',
            ),
            "True and False",
        ),
        (_use("[level for", '[f"information_{level}" for'), "list levels by number"),
        (_use("used[int(depth)]", "used[str(depth)]"), "the keys should be the depths"),
        (_use("return used", "return list(used.values())"), "return a dict"),
        (_use("> threshold", "== mean.max()"), "are in use where yours are"),
        (
            _use(
                '[level for level in levels if mean[f"information_{level}"] > threshold]',
                "list(levels)",
            ),
            "these are all levels",
        ),
    ],
}
