"""The throughput benchmark: that it times what it says it times. No test looks at a clock."""

import functools
import json
import subprocess
import sys
from collections import Counter
from unittest import mock

import pandas as pd
import pytest
import torch

from benchmarks import throughput
from benchmarks.throughput import CASES, Case, PlainVDVAE, RandomImages, TextbookVAE, ratio
from hvae_course.data import Split
from hvae_course.objectives import elbo
from hvae_course.training.step import step

pytestmark = pytest.mark.slow

TINY = Case("tiny", "two_level_vae", (3, 2), 8, "textbook", (16,))
TINY_LADDER = Case("tiny ladder", "ladder_vae", (4, 3, 2), 8, "bound", (16,))
TINY_DEEP = Case(
    *("tiny deep", "vdvae", (1, 1, 2, 1, 1), 8, "textbook"),
    stages=((14, 2, 8), (7, 3, 12)),
)


@pytest.fixture
def accelerator(make_accelerator):
    return make_accelerator()


@pytest.fixture
def to_tensor():
    throughput.torchvision_datasets()
    return pytest.importorskip("torchvision.transforms").ToTensor()


@pytest.fixture
def split():
    images = RandomImages(24, None)
    return Split(images.data.flatten(1), images.targets, 255, redraw=True)


def parameters_of(model):
    """Those of the textbook's layers, cut out of the package's fused heads."""
    first, second = model.posterior.heads
    prior, decoder = model.top_down.conditionals[0], model.top_down.likelihood.net
    bodies = {"encoder_1": model.bottom_up.blocks[0], "encoder_2": second[0]}
    bodies |= {"prior": prior[0], "decoder": decoder[0]}
    found = {
        f"{name}.{k}": v for name, body in bodies.items() for k, v in body.state_dict().items()
    }
    for number, head in {"1": first, "2": second[1], "p": prior[1]}.items():
        for kind, values in head.linear.state_dict().items():
            found[f"mean_{number}.{kind}"], found[f"scale_{number}.{kind}"] = values.chunk(2)
    return found | {f"logits.{kind}": v for kind, v in decoder[1].state_dict().items()}


def test_the_textbook_loss_is_the_objective_for_the_same_weights_and_noise():
    model, textbook = TINY.build().double(), TextbookVAE(16, (3, 2)).double()
    textbook.load_state_dict(parameters_of(model))
    x = (torch.rand(8, 784, dtype=torch.float64) < 0.5).double()
    torch.manual_seed(1)
    loss, error, *information = textbook(x)
    torch.manual_seed(1)
    trace = model(x)
    expected = [-elbo(trace, x), -trace.log_px(x), *(level.information for level in trace.levels)]
    for own, ours in zip((loss, error, *information), expected, strict=True):
        torch.testing.assert_close(own, ours.mean(), rtol=1e-12, atol=1e-9)
    loss.backward()
    elbo(trace, x).mean().neg().backward()
    gradients = {name: p.grad for name, p in textbook.named_parameters()}
    weight = model.bottom_up.blocks[0][0].weight.grad
    torch.testing.assert_close(gradients["encoder_1.0.weight"], weight, rtol=1e-9, atol=1e-12)


def plain(case):
    return PlainVDVAE(case.stages, case.latent_sizes, 28)


def plain_parameters(model, case):
    """Those of the package's model, under the names of the plain loop."""
    up, down = model.bottom_up.blocks, model.top_down
    parts = {"read": up[0][1], "decoder": down.likelihood.net[0]}
    for l in range(model.num_levels):
        parts |= {f"up.{l}": up[l][-1].body, f"heads.{l}": model.posterior.rules[l].head.net}
        parts |= {
            f"latents.{l}": down.updates[l].latent,
            f"down.{l}": down.updates[l].blocks[0].body,
        }
        if l < model.num_levels - 1:
            parts[f"priors.{l}"] = down.conditionals[l].net
    first = case.stages[0][1]  # level at which the second stage begins
    reduce, enlarge = up[first][0], down.updates[first].blocks[1]
    parts |= {"pools.0.0": reduce.pool, "pools.0.1": reduce.project, "enlarge.0": enlarge.project}
    found = {f"{n}.{k}": v for n, part in parts.items() for k, v in part.state_dict().items()}
    found |= {"gains.0": enlarge.gain, "biases.0": enlarge.bias, "initial": down.initial.value}
    return found | {"top_mean": model.prior.mean, "top_scale": model.prior.log_std}


def test_the_plain_loop_of_a_deep_model_gives_the_same_loss_and_gradients():
    model, own = TINY_DEEP.build().double(), plain(TINY_DEEP).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # away from the start, where priors are standard normal
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    own.load_state_dict(plain_parameters(model, TINY_DEEP))
    x = (torch.rand(8, 784, dtype=torch.float64) < 0.5).double()
    torch.manual_seed(1)
    loss, error, *information = own(x)
    torch.manual_seed(1)
    trace = model(x)
    levels = [level.information for level in reversed(trace.levels)]
    expected = [-elbo(trace, x), -trace.log_px(x), *levels]
    for value, ours in zip((loss, error, *information), expected, strict=True):
        torch.testing.assert_close(value, ours.mean(), rtol=1e-12, atol=1e-9)
    loss.backward()
    elbo(trace, x).mean().neg().backward()
    assert len([*own.parameters()]) == len([*model.parameters()])
    pairs = (
        (own.read.weight, model.bottom_up.blocks[0][1].weight),
        (own.priors[3][7].weight, model.top_down.conditionals[3].net[7].weight),
        (own.gains[0], model.top_down.updates[2].blocks[1].gain),
    )
    for a, b in pairs:
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12)


def test_the_bound_of_a_deep_model_has_the_convolutions_that_autograd_computes():
    model, x = TINY_DEEP.build(), torch.rand(8, 784).round()
    found = throughput.convolutions(model, x)
    assert len(found) == sum(isinstance(part, torch.nn.Conv2d) for part in model.modules())
    with torch.autograd.profiler.profile(record_shapes=True) as profile:
        elbo(model(x), x).mean().backward()
    with torch.autograd.profiler.profile(record_shapes=True) as bare:
        throughput.make_convolutions(found, 2, "cpu")()

    def sizes(events, name, places):
        return Counter(
            tuple(tuple(e.input_shapes[i]) for i in places)
            for e in events.function_events
            if e.name == name
        )

    for name, places in (("aten::convolution", (0, 1)), ("aten::convolution_backward", (0, 1, 2))):
        once, twice = sizes(profile, name, places), sizes(bare, name, places)
        assert once.total() == len(found)
        assert twice == Counter({key: 2 * number for key, number in once.items()})
    assert [one.needed for one in found].count(False) == 1  # the layer that reads the data


def test_the_plain_loop_of_a_deep_model_trains(split):
    torch.manual_seed(0)
    model = plain(TINY_DEEP)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = [throughput.train_plain(model, optimizer, split, 8) for _ in range(5)]
    assert losses[-1][0] < losses[0][0] and len(losses[0]) == 2 + 5
    assert losses[-1][0] == pytest.approx(sum(losses[-1][1:]), rel=1e-5)


def test_a_deep_model_needs_no_torchvision_for_any_of_its_variants(accelerator):
    runs, missing = throughput.variants(
        TINY_DEEP, RandomImages(16, None), accelerator, compiled=False
    )
    assert set(runs) == {"textbook", "ours", "bound"} and set(missing) == {"ours, compiled"}
    assert all(torch.tensor(runs[name]()).isfinite().all() for name in ("textbook", "ours"))


def test_the_cost_per_level_accounts_for_every_parameter_and_convolution(accelerator):
    model = TINY_DEEP.build()
    costs = throughput.cost_per_level(TINY_DEEP, accelerator, steps=1, rounds=1)
    assert costs["level"].tolist() == [*range(6)]
    assert costs["height"].tolist() == [14, 14, 14, 7, 7, 7]
    assert costs["parameters"].sum() == sum(p.numel() for p in model.parameters())
    assert (costs["ms"] > 0).all()
    parts = costs.set_index("level")[["up", "posterior", "prior", "update", "likelihood"]]
    found = throughput.convolutions(model, torch.rand(8, 784).round())
    assert parts.to_numpy().sum() == pytest.approx(sum(one.products for one in found) / 1e6)
    # level 2, of 8 channels, 2 of them inside, at 14 x 14: 1x1, 3x3, 3x3 and 1x1 by hand
    assert parts.loc[2, "up"] == pytest.approx((8 * 2 + 2 * 36 + 2 * 8) * 14**2 / 1e6)
    assert parts.loc[2, "posterior"] == pytest.approx((16 * 2 + 2 * 36 + 2 * 2) * 14**2 / 1e6)
    assert parts.loc[2, "update"] == pytest.approx(parts.loc[2, "up"] + 8 * 14**2 / 1e6)
    assert parts.loc[5, "prior"] == 0 and (parts.loc[1:4, "prior"] > 0).all()
    assert parts.loc[0, "likelihood"] == pytest.approx(8 * 9 * 4 * 14**2 / 1e6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.recipe)
def test_a_case_is_a_model_with_the_sizes_that_it_names(case):
    model = case.build()
    assert model.config["latent_sizes"] == list(case.latent_sizes)
    if case.reference == "textbook":
        own = TextbookVAE(*case.hidden, case.latent_sizes) if not case.stages else plain(case)
        count = [sum(p.numel() for p in m.parameters()) for m in (own, model)]
        assert count[0] == count[1]


@pytest.mark.parametrize("case", [TINY, TINY_LADDER], ids=lambda case: case.recipe)
def test_the_bound_has_the_products_that_autograd_computes(case):
    """Autograd is asked how many products of which size a step takes."""
    model, x = case.build(), torch.rand(8, 784).round()
    shapes = throughput.matrix_products(model, x)
    with torch.autograd.profiler.profile(record_shapes=True) as profile:
        elbo(model(x), x).mean().backward()
    products = [e for e in profile.function_events if e.name in ("aten::mm", "aten::addmm")]
    factors = [[s for s in e.input_shapes if len(s) == 2] for e in products]
    done = sum(rows * inner * columns for (rows, inner), (_, columns) in factors)
    assert len(products) == sum(2 + needed for *_, needed in shapes)
    assert done == sum(n * i * o * (2 + needed) for n, i, o, needed in shapes)
    assert [needed for *_, needed in shapes].count(False) == 1  # the layer that reads the data


def test_one_epoch_of_every_variant_takes_every_image_once_and_trains(
    accelerator, split, monkeypatch
):
    seen, original = [], Split.batch

    def batch(self, index):
        seen.extend(index.tolist())
        return original(self, index)

    monkeypatch.setattr(Split, "batch", batch)
    logged = {}
    for name, one in {"ours": step, "compiled": torch.compile(step, backend="eager")}.items():
        run = throughput.make_ours(TINY, split, accelerator, step=one)
        seen.clear()
        torch.manual_seed(3)
        first = run()
        assert sorted(seen) == list(range(24))
        for _ in range(10):
            last = run()
        assert last[0] > first[0]
        logged[name] = first
    assert logged["compiled"] == pytest.approx(logged["ours"], rel=1e-4)


def test_the_mixed_precision_variant_trains_too(split, accelerator):
    run = throughput.make_ours(
        TINY, split, accelerator, wrap=lambda model: throughput.Autocast(model, "cpu")
    )
    assert all(torch.tensor(run()).isfinite())


def test_the_textbook_loop_fetches_four_numbers_and_trains(to_tensor):
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(RandomImages(24, to_tensor), 8, shuffle=True)
    model = TextbookVAE(16, (3, 2))
    settings = (model, torch.optim.Adam(model.parameters()), loader, torch.device("cpu"))
    first = throughput.train_textbook(*settings)
    for _ in range(10):
        last = throughput.train_textbook(*settings)
    assert len(last) == 4 and last[0] < first[0]
    assert last[0] == pytest.approx(sum(last[1:]), rel=1e-5)


def test_autocast_computes_networks_in_bfloat16_and_densities_in_float32():
    model, x = TINY.build(), torch.rand(8, 784).round()
    dtypes = []
    model.bottom_up.blocks[0][0].register_forward_hook(lambda *a: dtypes.append(a[-1].dtype))
    trace = throughput.Autocast(model, "cpu")(x, 1)
    assert dtypes == [torch.bfloat16]
    assert elbo(trace, x).dtype == torch.float32


def test_variants_take_turns_after_a_first_run_that_is_not_counted(monkeypatch):
    seconds = {"ours": [9.0, 1.0, 2.0, 4.0], "bound": [1.0, 1.0, 0.5, 1.0]}
    clock, order = [0.0], []

    def run(name):
        order.append(name)
        clock[0] += seconds[name].pop(0)

    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock[0])
    runs = {name: functools.partial(run, name) for name in seconds}
    timed = throughput.measure(runs, 100, rounds=3, device=torch.device("cpu"))
    assert order == ["ours", "bound"] * 4
    assert timed["ours"]["rounds"] == [100, 50, 25]
    assert timed["ours"]["images_per_second"] == 50
    assert timed["ours"]["first_run_extra_seconds"] == 7.0
    assert ratio(timed, "ours", "bound") == 0.25  # of 1, 1/4 and 1/4, round by round
    assert ratio(timed, "ours", "textbook") is None


def test_without_a_data_folder_the_images_are_random_bytes_of_mnists_shape(to_tensor, monkeypatch):
    monkeypatch.delenv("HVAE_DATA", raising=False)
    images, name = throughput.load_images(5)
    assert name == "random bytes"
    x, label = images[0]
    assert (len(images), x.shape, label) == (5, (1, 28, 28), 0)
    torch.testing.assert_close(x[0] * 255, images.data[0].float())


def test_without_torchvision_the_textbook_loop_is_left_out_and_the_table_says_why(
    accelerator, monkeypatch
):
    missing = mock.Mock(side_effect=ImportError)
    monkeypatch.setattr(throughput, "torchvision_datasets", missing)
    images, _ = throughput.load_images(16)
    runs, reasons = throughput.variants(TINY, images, accelerator, compiled=False)
    assert set(runs) == {"ours", "bound"}
    assert reasons["textbook"] == "no torchvision"


def test_without_a_compiler_the_table_says_so(accelerator, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    images = RandomImages(16, None)
    runs, reasons = throughput.variants(TINY_LADDER, images, accelerator, compiled=True)
    assert reasons == {"ours, compiled": "no compiler"}
    assert set(runs) == {"ours", "bound"}
    timed = {"ours": {"images_per_second": 1.0, "rounds": [1.0], "first_run_extra_seconds": 0.0}}
    assert "no compiler" in throughput.table(timed, reasons).splitlines()[-1]


def test_the_fastest_variant_is_one_in_full_precision():
    rounds = {"ours": 2.0, "ours, compiled": 3.0, "ours, bf16": 9.0, "textbook": 1.0}
    timed = {name: {"rounds": [value, value]} for name, value in rounds.items()}
    assert throughput.fastest(timed, "textbook") == ("ours, compiled", 3.0)
    assert throughput.fastest(timed, "bound") is None


@pytest.fixture
def tiny_program(monkeypatch, make_accelerator, to_tensor):
    monkeypatch.delenv("HVAE_DATA", raising=False)
    monkeypatch.setattr(throughput, "CASES", (TINY, TINY_LADDER, TINY_DEEP))
    monkeypatch.setattr(throughput, "make_accelerator", lambda machine: make_accelerator())
    return throughput.main


def test_the_quick_run_prints_each_ratio_and_writes_all_numbers(tiny_program, tmp_path, capsys):
    path = tmp_path / "folder/throughput.json"
    tiny_program(["--quick", "--steps", "2", "--rounds", "3", "--out", str(path)])
    printed = capsys.readouterr().out
    result = json.loads(path.read_text())
    assert {"threads", "torch", "processors"} <= result["machine"].keys()
    names = [list(case["variants"]) for case in result["cases"]]
    assert names == [["textbook", "ours", "bound"], ["ours", "bound"], names[0]]
    for case in result["cases"]:
        reference = case["case"]["reference"]
        value = ratio(case["variants"], "ours", reference)
        assert (case["fastest"], case["ratio"]) == ("ours", value)
        assert f"ours / {reference}: {value:.2f}\n" in printed
        assert case["data"] == "random bytes"
    assert [p.name for p in path.parent.iterdir()] == ["throughput.json"]


def test_scaling_writes_a_row_for_every_size(tiny_program, tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "SCALING", {"levels": (1, 2), "width": (4, 8), "batch": (4,)})
    monkeypatch.setattr(throughput, "SCALING_BASE", {"levels": 2, "width": 8, "batch": 8})
    path = tmp_path / "scaling.csv"
    tiny_program(["--steps", "1", "--rounds", "1", "--scaling", str(path)])
    frame = pd.read_csv(path)
    assert frame["varied"].tolist() == ["levels", "levels", "width", "width", "batch"]
    sizes = frame[["levels", "width", "batch"]].to_numpy().tolist()
    assert sizes == [[1, 8, 8], [2, 8, 8], [2, 4, 8], [2, 8, 8], [2, 8, 4]]
    assert (frame[["ours_ms", "bound_ms"]] > 0).all(axis=None)


def test_the_cost_per_level_is_printed_and_written(tiny_program, tmp_path, capsys):
    path = tmp_path / "levels.csv"
    tiny_program(["--steps", "1", "--rounds", "1", "--levels", str(path)])
    assert pd.read_csv(path)["level"].tolist() == [*range(6)]
    assert "likelihood" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--rounds", "-1"], ["--steps", "0"]], ids="-".join)
def test_a_run_without_steps_or_rounds_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        throughput.main(words)
    assert "--steps and --rounds must be positive" in capsys.readouterr().err


def test_the_cases_that_are_named_are_timed_alone(monkeypatch, tmp_path):
    timed = []

    def compare(cases, *others, **counts):
        timed.extend(case.name for case in cases)
        return {}

    monkeypatch.setattr(throughput, "compare", compare)
    throughput.main(["--cases", "deep of 10", "--out", str(tmp_path / "speed.json")])
    assert timed == ["deep of 10"] and (tmp_path / "speed.json").read_text().strip() == "{}"


def test_the_file_runs_as_a_script_from_any_folder(tmp_path):
    command = [sys.executable, throughput.__file__, "--help"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--quick" in shown.stdout
