"""Checks of the exercises on layers: what they are based on, and mistakes told apart."""

import pytest
import torch
from answers.layer_analysis import by
from answers.running import run_check
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hvae_course.checks.layer_analysis import probe_score, probes, walks
from hvae_course.checks.verdict import alike

CASES = {
    "category": (probes._category_cases, 0.02),
    "real": (probes._real_cases, 0.05),
}


def scores(answer, cases):
    """One score per case, or None for an answer that fails or returns something else."""
    try:
        return torch.stack([torch.as_tensor(answer(*case)).double() for case in cases])
    except (ValueError, RuntimeError):
        return None


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_no_two_mistakes_of_a_probe_have_the_same_scores(kind, seed):
    """By what the check forgives; a mistake may concern the other kind of factor alone."""
    torch.manual_seed(seed)
    make, tolerance = CASES[kind]
    cases, rows = make(), []
    right = scores(probes._probe(), cases)
    for known in probe_score.mistakes:
        found = scores(known.answer, cases)
        if known.hint == probes._SEEN or found is None or alike(found, right, tolerance):
            continue  # that a probe has seen the test part is found out in another way
        for other, hint in rows:
            assert hint == known.hint or not alike(found, other, tolerance)
        rows.append((found, known.hint))
    assert len({hint for _, hint in rows}) >= 8


@pytest.mark.parametrize("kind", CASES)
def test_the_known_score_of_a_probe_is_that_of_scikit_learn(kind):
    make, tolerance = CASES[kind]
    cases = make()
    right = scores(probes._probe(), cases)
    neighbours = scores(by(KNeighborsClassifier(10), KNeighborsRegressor(10)), cases)
    torch.testing.assert_close(neighbours, right, rtol=0, atol=1e-5)
    linear = scores(by(LogisticRegression(), LinearRegression()), cases)
    torch.testing.assert_close(linear, right, rtol=0, atol=tolerance)


@pytest.mark.parametrize("known", probe_score.mistakes, ids=lambda known: known.hint)
def test_a_mistake_hears_its_hint_with_a_probe_of_scikit_learn(known, monkeypatch, capsys):
    """The check knows the predictions from the clusters, which no student does."""

    def predict(train_codes, train_factor, test_codes):
        real = train_factor.is_floating_point()
        probe = KNeighborsRegressor(10) if real else KNeighborsClassifier(10)
        probe = make_pipeline(StandardScaler(), probe).fit(train_codes, train_factor)
        return torch.as_tensor(probe.predict(test_codes)).to(train_factor)

    def answer(*inputs):
        with monkeypatch.context() as patched:
            patched.setattr(probes, "_predict", predict)
            return known.answer(*inputs)

    verdict = run_check(probe_score, answer, capsys)
    assert not verdict
    assert known.hint in verdict.message


def test_a_visible_model_shows_its_latents():
    model = walks._visible_model(1, 3, 2)
    trace = model(torch.randn(4, 6))
    for shown, level in zip(walks._shown(model, trace.px.mean, trace), trace.levels, strict=True):
        assert torch.equal(shown.z, level.z)
        assert torch.equal(shown.p.mean, level.p.mean)
        assert torch.equal(shown.p.stddev, level.p.stddev)
