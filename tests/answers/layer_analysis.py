"""Other right ways to answer the exercises on what each level encodes."""

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hvae_course.analysis.layers import vary
from hvae_course.hierarchy import common_noise, hold, prior_mean


def by(classifier, regressor):
    """A probe of standardised codes with scikit-learn's models."""

    def probe_score(train_codes, train_factor, test_codes, test_factor):
        real = train_factor.is_floating_point()
        probe = make_pipeline(StandardScaler(), regressor if real else classifier)
        probe.fit(train_codes.numpy(), train_factor.numpy())
        score = probe.score(test_codes.numpy(), test_factor.numpy())
        base = test_factor.unique(return_counts=True)[1].max() / len(test_factor)
        return torch.tensor(score) if real else (score - base) / (1 - base)

    return probe_score


def by_hand(train_codes, train_factor, test_codes, test_factor):
    mean, std = train_codes.mean(0), train_codes.std(0)
    a, b = (train_codes - mean) / std, (test_codes - mean) / std
    if train_factor.dtype == torch.int64:
        said = torch.as_tensor(SVC().fit(a, train_factor).predict(b))
        base = test_factor.bincount().max() / len(test_factor)
        return ((said == test_factor).float().mean() - base) / (1 - base)
    said = torch.as_tensor(RidgeCV().fit(a, train_factor).predict(b))
    return 1 - (said - test_factor).square().mean() / test_factor.var(unbiased=False)


def by_the_package(model, trace, level, values, seed):
    return vary(model, values, level=level, seed=seed, above=trace).px.mean


def by_a_walk_of_its_own(model, trace, level, values, seed):
    generator = torch.Generator().manual_seed(seed)

    def choose(l, h, p):
        if l == level - 1:
            return p, values
        if l >= level:
            return p, trace.levels[l].z.repeat(len(values), 1)
        e = torch.randn(p.event_shape, generator=generator).to(values)
        return p, p.mean + p.stddev * e

    return model.generate(len(values), choose).px.mean.double()


def seeded_for_all(model, trace, level, values, seed):
    torch.manual_seed(seed)
    noise = [torch.randn(1, a.z.shape[1]) for a in trace.levels]
    held = {l: a.z.expand(len(values), -1) for l, a in enumerate(trace.levels, 1) if l > level}
    held[level] = values
    return model.generate(len(values), hold(held, common_noise(noise))).px.mean


def in_a_walk(model, trace, level):
    def choose(l, h, p):
        return p, trace.levels[l].z.double() if l + 1 >= level else p.mean

    return model.generate(len(trace.levels[-1].z), choose).px.mean


def with_conditions(model, trace, level):
    held = {}
    for l, latent in enumerate(trace.levels, start=1):
        if l >= level:
            held[l] = latent.z
    return model.generate(trace.px.mean.shape[0], hold(held, prior_mean)).px.base_dist.loc


def as_a_tensor(x, images):
    error = torch.stack([((x - image) ** 2).mean(0).sum() for image in images])
    r2 = torch.cat([1 - error / x.var(0, unbiased=False).sum(), torch.zeros(1).to(x)])
    return -r2.diff()


def as_floats_from_the_top(x, images):
    shares, above = [], 0.0
    for image in reversed(images):
        r2 = 1 - ((x - image).norm() / (x - x.mean(0)).norm()).item() ** 2
        shares.append(r2 - above)
        above = r2
    return tuple(shares[::-1])


def as_an_array(x, images):
    r2 = [r2_score(x, image, multioutput="variance_weighted") for image in images]
    return -np.diff([*r2, 0.0])


def row_by_row(scores, threshold):
    found = {}
    for factor, row in scores.iterrows():
        level = row.index[row.to_numpy().argmax()]
        found[factor] = level if row[level] > threshold else None
    return found


def in_sorted_columns(scores, threshold):
    values = torch.tensor(scores[sorted(scores.columns)].to_numpy())
    best, position = values.max(1)
    return {
        factor: p + 1 if value > threshold else None
        for factor, value, p in zip(scores.index, best.tolist(), position.tolist(), strict=True)
    }


OTHERS = {
    "probe_score": [
        by(LogisticRegression(), LinearRegression()),
        by(RandomForestClassifier(20, random_state=0), RandomForestRegressor(20, random_state=0)),
        by(KNeighborsClassifier(1), KNeighborsRegressor(1)),
        by_hand,
    ],
    "traverse": [by_the_package, by_a_walk_of_its_own, seeded_for_all],
    "images_from": [in_a_walk, with_conditions],
    "explained_shares": [as_a_tensor, as_floats_from_the_top, as_an_array],
    "levels_of": [row_by_row, in_sorted_columns],
}
