"""Answers to the exercises on what each level encodes; the names they need are imported inside."""

STUBS = {
    "probe_score": """
def probe_score(train_codes, train_factor, test_codes, test_factor):
    raise NotImplementedError
""",
    "traverse": """
def traverse(model, trace, level, values, seed):
    raise NotImplementedError
""",
    "images_from": """
def images_from(model, trace, level):
    raise NotImplementedError
""",
    "explained_shares": """
def explained_shares(x, images):
    raise NotImplementedError
""",
    "levels_of": """
def levels_of(scores, threshold):
    raise NotImplementedError
""",
}

_PROBE = """
def probe_score(train_codes, train_factor, test_codes, test_factor):
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    real = train_factor.is_floating_point()
    neighbours = KNeighborsRegressor(10) if real else KNeighborsClassifier(10)
    probe = make_pipeline(StandardScaler(), neighbours)
    probe.fit(train_codes.numpy(), train_factor.numpy())
    score = probe.score(test_codes.numpy(), test_factor.numpy())  # R^2, or accuracy
    if real:
        return score
    base = (test_factor == test_factor.mode().values).double().mean().item()
    return (score - base) / (1 - base)
"""
_TRAVERSE = """
def traverse(model, trace, level, values, seed):
    from hvae_course.hierarchy import common_noise, draw_noise, hold

    held = {level: values}
    for l in range(level + 1, model.num_levels + 1):
        held[l] = trace.levels[l - 1].z.expand(len(values), -1)
    sizes = [latent.z.shape[1] for latent in trace.levels]
    noise = draw_noise(sizes, seed=seed, like=values)
    return model.generate(len(values), hold(held, common_noise(noise))).px.mean
"""
_IMAGES = """
def images_from(model, trace, level):
    from hvae_course.hierarchy import hold, prior_mean

    kept = {l: trace.levels[l - 1].z for l in range(level, model.num_levels + 1)}
    n = len(trace.levels[0].z)
    return model.generate(n, hold(kept, prior_mean)).px.mean
"""
_SHARES = """
def explained_shares(x, images):
    total = ((x - x.mean(0)) ** 2).sum()
    r2 = [1 - ((x - image) ** 2).sum() / total for image in images]
    r2.append(torch.zeros(()))  # no level at all explains nothing
    return [below - above for below, above in zip(r2[:-1], r2[1:], strict=True)]
"""
_LEVELS = """
def levels_of(scores, threshold):
    best, highest = scores.idxmax(axis=1), scores.max(axis=1)
    return {
        factor: int(best[factor]) if highest[factor] > threshold else None
        for factor in scores.index
    }
"""
SOLUTIONS = {
    "probe_score": _PROBE,
    "traverse": _TRAVERSE,
    "images_from": _IMAGES,
    "explained_shares": _SHARES,
    "levels_of": _LEVELS,
}


def _change(code: str, *changes: tuple[str, str]) -> str:
    """A solution with some of its text exchanged."""
    for old, new in changes:
        assert code.count(old) == 1, old
        code = code.replace(old, new)
    return code


_LINEAR = _change(
    _PROBE,
    (
        "from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor",
        "from sklearn.linear_model import LinearRegression, LogisticRegression",
    ),
    ("KNeighborsRegressor(10)", "LinearRegression()"),
    ("KNeighborsClassifier(10)", "LogisticRegression()"),
)
_FOREST = _change(
    _PROBE,
    (
        "from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor",
        "from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor",
    ),
    ("KNeighborsRegressor(10)", "RandomForestRegressor(20, random_state=0)"),
    ("KNeighborsClassifier(10)", "RandomForestClassifier(20, random_state=0)"),
)

OTHERS = {
    "probe_score": {
        "linear": _LINEAR,
        "a forest, as a tensor": _change(
            _FOREST, ("return score\n", "return torch.tensor(score)\n")
        ),
        "one neighbour": _PROBE.replace("(10)", "(1)"),
        "ridge and support vectors, by hand": """
def probe_score(train_codes, train_factor, test_codes, test_factor):
    from sklearn.linear_model import RidgeCV
    from sklearn.svm import SVC

    mean, std = train_codes.mean(0), train_codes.std(0)
    a, b = (train_codes - mean) / std, (test_codes - mean) / std
    if train_factor.dtype == torch.int64:
        said = torch.as_tensor(SVC().fit(a, train_factor).predict(b))
        base = test_factor.bincount().max() / len(test_factor)
        return ((said == test_factor).float().mean() - base) / (1 - base)
    said = torch.as_tensor(RidgeCV().fit(a, train_factor).predict(b))
    return 1 - (said - test_factor).square().mean() / test_factor.var(unbiased=False)
""",
    },
    "traverse": {
        "the package's own": """
def traverse(model, trace, level, values, seed):
    from hvae_course.analysis.layers import vary

    return vary(model, values, level=level, seed=seed, above=trace).px.mean
""",
        "a walk of its own": """
def traverse(model, trace, level, values, seed):
    generator = torch.Generator().manual_seed(seed)

    def choose(l, h, p):
        if l == level - 1:
            return p, values
        if l >= level:
            return p, trace.levels[l].z.repeat(len(values), 1)
        e = torch.randn(p.event_shape, generator=generator).to(values)
        return p, p.mean + p.stddev * e

    return model.generate(len(values), choose).px.mean.double()
""",
        "seeded for all": """
def traverse(model, trace, level, values, seed):
    from hvae_course.hierarchy import common_noise, hold

    torch.manual_seed(seed)
    noise = [torch.randn(1, a.z.shape[1]) for a in trace.levels]
    held = {l: a.z.expand(len(values), -1) for l, a in enumerate(trace.levels, 1) if l > level}
    held[level] = values
    trace = model.generate(len(values), hold(held, common_noise(noise)))
    return trace.px.mean
""",
    },
    "images_from": {
        "a walk of its own": """
def images_from(model, trace, level):
    def choose(l, h, p):
        return p, trace.levels[l].z.double() if l + 1 >= level else p.mean

    return model.generate(len(trace.levels[-1].z), choose).px.mean
""",
        "with conditions": """
def images_from(model, trace, level):
    from hvae_course.hierarchy import hold, prior_mean

    held = {}
    for l, latent in enumerate(trace.levels, start=1):
        if l >= level:
            held[l] = latent.z
    return model.generate(trace.px.mean.shape[0], hold(held, prior_mean)).px.base_dist.loc
""",
    },
    "explained_shares": {
        "a tensor": """
def explained_shares(x, images):
    error = torch.stack([((x - image) ** 2).mean(0).sum() for image in images])
    r2 = torch.cat([1 - error / x.var(0, unbiased=False).sum(), torch.zeros(1).to(x)])
    return -r2.diff()
""",
        "floats, from the top": """
def explained_shares(x, images):
    shares, above = [], 0.0
    for image in reversed(images):
        r2 = 1 - ((x - image).norm() / (x - x.mean(0)).norm()).item() ** 2
        shares.append(r2 - above)
        above = r2
    return tuple(shares[::-1])
""",
        "an array": """
def explained_shares(x, images):
    import numpy as np
    from sklearn.metrics import r2_score

    r2 = [r2_score(x, image, multioutput="variance_weighted") for image in images]
    return -np.diff([*r2, 0.0])
""",
    },
    "levels_of": {
        "row by row": """
def levels_of(scores, threshold):
    found = {}
    for factor, row in scores.iterrows():
        level = row.index[row.to_numpy().argmax()]
        found[factor] = level if row[level] > threshold else None
    return found
""",
        "in sorted columns": """
def levels_of(scores, threshold):
    values = torch.tensor(scores[sorted(scores.columns)].to_numpy())
    best, position = values.max(1)
    return {
        factor: p + 1 if value > threshold and 1 in scores.columns else None
        for factor, value, p in zip(scores.index, best.tolist(), position.tolist())
    }
""",
    },
}
_PIECES = """
def probe_score(train_codes, train_factor, test_codes, test_factor):
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.preprocessing import StandardScaler

    real = train_factor.is_floating_point()
    scale = StandardScaler().fit(train_codes)
    probe = KNeighborsRegressor(10) if real else KNeighborsClassifier(10)
    probe.fit(scale.transform(train_codes), train_factor)
    said = torch.as_tensor(probe.predict(scale.transform(test_codes)))
    if real:
        return 1 - ((said - test_factor) ** 2).mean() / test_factor.var(unbiased=False)
    accuracy = (said == test_factor).double().mean()
    base = test_factor.bincount().max() / len(test_factor)
    return (accuracy - base) / (1 - base)
"""


def _pieces(*changes: tuple[str, str]) -> str:
    return _change(_PIECES, *changes)


def _category(new: str) -> str:
    return _pieces(("return (accuracy - base) / (1 - base)", f"return {new}"))


def _base(new: str) -> str:
    return _pieces(("test_factor.bincount().max() / len(test_factor)", new))


def _real(new: str) -> str:
    old = "1 - ((said - test_factor) ** 2).mean() / test_factor.var(unbiased=False)"
    return _pieces((old, new))


def _before(first: str) -> str:
    """The probe, with a line before everything else."""
    return _pieces(("    real = train", f"    {first}\n    real = train"))


_ROUNDED = "train_factor, test_factor = train_factor.{0}(), test_factor.{0}()"
_BOTH = "train_{0} = torch.cat([train_{0}, test_{0}])"
_TRAIN = "test_codes, test_factor = train_codes, train_factor"
_FREE = _change(_TRAVERSE, ("common_noise(noise)", "lambda l, h, p: NEW"))
_LINES = _TRAVERSE[: _TRAVERSE.index("    sizes")]


def _walk(*changes: tuple[str, str]) -> str:
    return _change(_TRAVERSE, *changes)


def _below(new: str) -> str:
    return _FREE.replace("NEW", f"(p, {new})")


def _kept(new: str, *, below: str = "prior_mean", value: str = "z") -> str:
    return _change(
        _IMAGES,
        ("range(level, model.num_levels + 1)", new),
        ("hold(kept, prior_mean)", f"hold(kept, {below})"),
        ("levels[l - 1].z for", f"levels[l - 1].{value} for"),
    )


def _share(*changes: tuple[str, str]) -> str:
    return _change(_SHARES, *changes)


def _ratio(new: str) -> str:
    return _share(("1 - ((x - image) ** 2).sum() / total", new))


def _level(new: str) -> str:
    return _change(_LEVELS, ("int(best[factor]) if highest[factor] > threshold else None", new))


WRONG = {
    "probe_score": [
        (_before(_TRAIN), "score on the training part"),
        (
            _before("train_codes, train_factor = test_codes, test_factor"),
            "has seen the test part",
        ),
        (
            _before(f"{_BOTH.format('codes')}; {_BOTH.format('factor')}"),
            "has seen the test part",
        ),
        (
            _before(
                "train_codes, train_factor, test_codes, test_factor = ("
                "test_codes, test_factor, train_codes, train_factor)"
            ),
            "the parts are swapped",
        ),
        (_category("accuracy"), "raw accuracy"),
        (_category("accuracy - base"), "not divided by 1 - base"),
        (_category("(accuracy - base) / base"), "divided by the base"),
        (_category("1 - (accuracy - base) / (1 - base)"), "one minus the score"),
        (_category("((accuracy - base) / (1 - base)).clamp(min=0)"), "cut off at 0"),
        (_base("1 / len(test_factor.unique())"), "one over the number of categories"),
        (_base("train_factor.bincount().max() / len(train_factor)"), "that of the training part"),
        (
            _base("(test_factor == train_factor.mode().values).double().mean()"),
            "most frequent in training",
        ),
        (
            _pieces(
                (
                    "    accuracy =",
                    "    from sklearn.metrics import cohen_kappa_score\n\n"
                    "    return cohen_kappa_score(test_factor, said)\n    accuracy =",
                )
            ),
            "Cohen's kappa",
        ),
        (
            _pieces(
                (
                    "    accuracy =",
                    "    from sklearn.metrics import balanced_accuracy_score\n\n"
                    "    return balanced_accuracy_score(test_factor, said)\n    accuracy =",
                )
            ),
            "this averages over categories",
        ),
        (
            _pieces(
                (
                    "train_factor.is_floating_point()",
                    "True; train_factor, test_factor = 1.0 * train_factor, 1.0 * test_factor",
                )
            ),
            "R^2 of the categories' numbers",
        ),
        (
            _change(_LINEAR, ("train_factor.is_floating_point()", "True")),
            "R^2 of the categories' numbers",
        ),
        (
            _pieces(("train_factor.is_floating_point()", "False")),
            "your code raised ValueError: Unknown label type",
        ),
        (_before(_ROUNDED.format("trunc")), "rounded"),
        (_before(_ROUNDED.format("round")), "rounded"),
        (
            _change(
                _PROBE, ("    real = train", f"    {_ROUNDED.format('long')}\n    real = train")
            ),
            "rounded",
        ),
        (_real("torch.corrcoef(torch.stack([said, test_factor]))[0, 1]"), "this is the correl"),
        (
            _real("torch.corrcoef(torch.stack([said, test_factor]))[0, 1] ** 2"),
            "ignores a constant offset",
        ),
        (
            _real("1 - (said - test_factor).var() / test_factor.var()"),
            "ignores a constant offset",
        ),
        (_real("((said - test_factor) ** 2).mean()"), "this is an error"),
        (
            _real(
                "1 - ((said - test_factor) ** 2).mean()"
                " / ((test_factor - train_factor.mean()) ** 2).mean()"
            ),
            "about the mean of the training part",
        ),
        (
            _pieces(("scale.transform(test_codes)", "StandardScaler().fit_transform(test_codes)")),
            "scales the test codes by their own",
        ),
        (
            _pieces(("StandardScaler()", "StandardScaler(with_mean=False, with_std=False)")),
            "standardise them",
        ),
        (_real("said"), "should have shape ()"),
    ],
    "traverse": [
        (_below("p.sample()"), "different noise in every row"),
        (_below("p.mean"), "is at the mean of its prior"),
        (_below("trace.levels[l].z.expand(len(values), -1)"), "below z_2, keeps the value"),
        (_below("noise[l].expand(len(values), -1)"), "is the same in every row"),
        (_below("p.mean + noise[l]"), "the noise is not scaled"),
        (_below("p.mean + p.variance * noise[l]"), "scaled by the variance"),
        (_below("p.mean + p.stddev * noise[1]"), "the same noise; draw it separately"),
        (_below("p.mean + p.stddev * noise[l] ** 2"), "not standard normal"),
        (_below("p.mean + p.stddev * torch.randn(1, values.shape[1])"), "two calls with one seed"),
        (_walk(("seed=seed", "seed=0")), "the seed is not used"),
        (
            _walk(
                ("{level: values", "{level + 1: values"), ("range(level + 1,", "range(level + 2,")
            ),
            "the values for z_2 go to z_3",
        ),
        (
            _walk(("{level: values", "{level - 1: values"), ("range(level + 1,", "range(level,")),
            "the values for z_2 go to z_1",
        ),
        (_walk(("range(level + 1,", "range(level,")), "z_2 keeps the value of the trace"),
        (_walk(("range(level + 1,", "range(level + 2,")), "above z_2, comes from its prior"),
        (_walk(("range(level + 1,", "range(1,")), "z_2 keeps the value of the trace"),
        (
            _walk(("levels[l - 1].z.expand", "levels[l - 1].q.mean.expand")),
            "at the mean of its posterior",
        ),
        (
            _walk(("trace.levels[l - 1].z.expand(len(values), -1)", "values")),
            "takes the values as",
        ),
        (_walk(("px.mean", "px.sample()")), "these are drawn pixels"),
        (_walk((".px.mean", ".px")), "this is the distribution"),
        (_walk((".px.mean", "")), "this is the trace"),
        (
            _walk(("[latent.z.shape[1] for latent in trace.levels]", "[2, 2, 2]")),
            "your code raised",
        ),
        (
            _LINES + "    return model.generate(len(values), hold(held)).px.mean\n",
            "different noise",
        ),
    ],
    "images_from": [
        (_kept("range(1, level + 1)"), "this level and those below are kept"),
        (_kept("range(1, level)"), "only the levels below are kept"),
        (_kept("range(level + 1, model.num_levels + 1)"), "starts one level too high"),
        (_kept("range(max(level - 1, 1), model.num_levels + 1)"), "one level too many"),
        (_kept("range(1, model.num_levels + 1)"), "every level keeps its value"),
        (_kept("range(0)"), "no level keeps its value"),
        (_kept("range(level, level + 1)"), "only this level keeps its value"),
        (
            _kept(
                "range(level, model.num_levels + 1)",
                below="lambda l, h, p: (p, torch.zeros_like(p.mean))",
            ),
            "the levels below are zero",
        ),
        (
            _kept("range(level, model.num_levels + 1)", below="lambda l, h, p: (p, p.sample())"),
            "some latents are drawn",
        ),
        (
            _kept("range(level, model.num_levels + 1)", value="q.mean"),
            "the means of the posterior",
        ),
        (_change(_IMAGES, ("px.mean", "px.sample()")), "these are drawn pixels"),
        (_change(_IMAGES, (".px.mean", "")), "this is the trace"),
        (_change(_IMAGES, (".px.mean", ".px")), "this is the distribution"),
        (_change(_IMAGES, ("px.mean", "px.mean[0]")), "should have shape (6, 6)"),
    ],
    "explained_shares": [
        (_share(("below - above for", "below for")), "these are R^2 from each level upward"),
        (_share(("strict=True)]", "strict=True)][::-1]")), "the order is top to bottom"),
        (_share(("below - above for", "above - below for")), "reverse the sign"),
        (
            _share(
                ("    return [", "    r2 = [0, *r2[:-1]]\n    return [-1 * "),
                ("below - ab", "(below - ab"),
                ("above for", "above) for"),
            ),
            "from the level below",
        ),
        (
            _ratio("1 - ((x - image) ** 2).sum() / ((x - x.mean()) ** 2).sum()"),
            "one number for all",
        ),
        (_ratio("1 - ((x - image) ** 2).sum() / (x**2).sum()"), "this sums squares about zero"),
        (
            _ratio("1 - ((x - image) ** 2).sum() / ((x - x.mean(1, keepdim=True)) ** 2).sum()"),
            "that of each example",
        ),
        (
            _ratio("(1 - ((x - image) ** 2).sum(0) / ((x - x.mean(0)) ** 2).sum(0)).mean()"),
            "a ratio over pixels",
        ),
        (
            _ratio("(1 - ((x - image) ** 2).sum(1) / ((x - x.mean(0)) ** 2).sum(1)).mean()"),
            "a ratio over examples",
        ),
        (_ratio("image.var(0).sum() / x.var(0).sum()"), "variance of the images"),
        (_ratio("((x - image) ** 2).sum() / total"), "differences of the relative error"),
        (_ratio("-((x - image) ** 2).mean()"), "differences of squared errors"),
        (
            _share(("    return [below - above", "    return [(below - above) / r2[0]")),
            "rescaled to sum to 1",
        ),
        (
            _share(("    return [below - above", "    return [(below - above).clamp(min=0)")),
            "negative shares are cut off",
        ),
        (
            _share(("    r2.append(torch.zeros(()))  # no level at all explains nothing\n", "")),
            "the share of the top level",
        ),
        (_share(("below - above for", "(below - above) * 100 for")), "these are percentages"),
    ],
    "levels_of": [
        (
            _level("scores.loc[factor].argmax() if highest[factor] > threshold else None"),
            "position",
        ),
        (
            _level("1 + scores.loc[factor].argmax() if highest[factor] > threshold else None"),
            "assumes ordered columns",
        ),
        (_change(_LEVELS, ("idxmax", "idxmin")), "the lowest score"),
        (_level("int(best[factor])"), "this always gives a level"),
        (
            _level("int(best[factor]) if highest[factor] > 0.1 else None"),
            "the threshold is fixed at 0.1",
        ),
        (
            _level("int(best[factor]) if highest[factor] < threshold else None"),
            "None where a score exceeds the threshold",
        ),
        (
            _level("int(best[factor]) if scores.loc[factor].min() > threshold else None"),
            "one is enough",
        ),
        (_change(_LEVELS, ("scores.idx", "scores.abs().idx")), "this compares absolute values"),
        (
            _level("highest[factor] if highest[factor] > threshold else None"),
            "these are the scores",
        ),
        (_level("int(best[factor]) if highest[factor] > threshold else 0"), "has 0; give None"),
        (
            _level("int(best[factor]) if highest[factor] > threshold else float('nan')"),
            "not a finite number",
        ),
        (
            _level("[l for l in scores if scores.loc[factor, l] > threshold]"),
            "is a collection",
        ),
        (
            _level("next((l for l in scores if scores.loc[factor, l] > threshold), None)"),
            "the first level above the threshold",
        ),
        (
            _change(
                _LEVELS,
                (
                    "for factor in scores.index",
                    "for factor in scores.index if highest[factor] > threshold",
                ),
            ),
            "the keys should be",
        ),
        (
            "\ndef levels_of(scores, threshold):\n    return scores.idxmax(axis=0).to_dict()\n",
            "the keys are levels",
        ),
        (
            "\ndef levels_of(scores, threshold):\n    best = scores.idxmax(axis=1)\n"
            "    return {l: list(best.index[best == l]) for l in scores}\n",
            "the keys are levels",
        ),
        (
            "\ndef levels_of(scores, threshold):\n"
            "    return scores.idxmax(axis=1).where(scores.max(axis=1) > threshold)\n",
            "your function returned a Series",
        ),
        (
            "\ndef levels_of(scores, threshold):\n"
            "    return {factor: 'z_2' for factor in scores.index}\n",
            "the level of object should be 3",
        ),
    ],
}
