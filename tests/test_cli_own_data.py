"""The command line with a file of one's own: tables and images, and what becomes of them.

A file that has changed since the training is never taken for the one that was trained on.
"""

import json
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from accelerate.state import AcceleratorState

from hvae_course import data, fit, recipes
from hvae_course.cli import main
from hvae_course.run_folder import find
from hvae_course.training import Checkpoint, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("make_accelerator")  # resets Accelerate's state
WORDS = "--latent-sizes 3 2 --hidden 8 --epochs 1 --batch-size 40 --validation-samples 2 --quiet"
WORDS = f"{WORDS} --device cpu --normalisation layer".split()
NAMES = ["height", "weight", "age"]


def table(seed: int = 0, **options: object) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal((170, 60, 30), (10, 5, 20), size=(100, 3))
    return {"x": x, "feature_names": NAMES, "standardise": True, **options}


def halves() -> dict[str, np.ndarray]:
    """Images 8x32, bright on the left and dark on the right: 256 pixels, as of 16x16."""
    pixels = np.random.default_rng(0).integers(0, 100, (100, 8, 32), dtype=np.uint8)
    pixels[:, :, :16] += 156
    return {"x": pixels, "kind": "images"}


def colours(channels: int = 3) -> dict[str, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (100, channels, 6, 4), dtype=np.uint8)
    return {"x": pixels, "kind": "images", "channels_last": False}


def train(name: str, folder: Path, *words: str) -> int:
    AcceleratorState._reset_state(True)
    return main(["train", "ladder", "--data", name, "--out", str(folder), *WORDS, *words])


def refused(*words: object) -> str:
    with pytest.raises(SystemExit, match="2"):
        main([*map(str, words)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with the files and a run on each of them."""
    folder = tmp_path_factory.mktemp("own")
    for name, content in {"table": table(), "halves": halves(), "colours": colours()}.items():
        np.savez(folder / f"{name}.npz", **content)
        assert train(str(folder / f"{name}.npz"), folder / "runs" / name) == 0
    return folder


@pytest.fixture
def own(trained, tmp_path, monkeypatch) -> Path:
    """A folder with the table and its run, which the test may change, as the current folder."""
    monkeypatch.chdir(tmp_path)
    np.savez("table.npz", **table())
    assert train("table.npz", tmp_path / "run") == 0
    return tmp_path


# Training


def test_the_default_folder_is_named_after_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("table.npz", **table())
    AcceleratorState._reset_state(True)
    assert main(["train", "ladder", "--data", "table.npz", *WORDS]) == 0
    about = json.loads(Path("runs/ladder-table-3_2-0/config.json").read_text())
    assert about["settings"]["data"] == str(tmp_path / "table.npz")
    assert about["fingerprint"] == data.from_npz("table.npz").fingerprint()


def test_a_finished_run_is_recognised_by_what_the_file_holds_wherever_it_lies(own, capsys):
    assert train("table.npz", own / "run") == 0
    Path("table.npz").rename("moved.npz")
    assert train("moved.npz", own / "run") == 0
    assert capsys.readouterr().out.count("already holds the finished run") == 2


@pytest.mark.parametrize("words", [[], ["--epochs", "2"]], ids=["same command", "more epochs"])
def test_a_run_on_a_file_that_has_changed_is_neither_finished_nor_resumed(words, own, capsys):
    np.savez("table.npz", **table(seed=1))
    before = (own / "run/checkpoint.pt").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        changed = [word for word in WORDS if not words or word not in ("--epochs", "1")]
        main(["train", "ladder", "--data", "table.npz", "--out", "run", *changed, *words])
    error = capsys.readouterr().err
    assert f"run holds a run on other data than those that {own / 'table.npz'} holds now" in error
    assert (own / "run/checkpoint.pt").read_bytes() == before


def test_a_file_that_is_missing_or_damaged_is_named_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("junk.npz").write_text("junk")
    for name in ("junk.npz", "nothing.npz"):
        refused("train", "ladder", "--data", name, *WORDS)
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and name in error
    assert [path.name for path in tmp_path.iterdir()] == ["junk.npz"]


# Evaluation and diagnosis


def test_a_run_finds_its_file_again_from_another_folder(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = Path(shutil.copytree(trained / "runs/table", tmp_path / "run"))
    assert main(["evaluate", str(run), "--num-samples", "2", "--quiet"]) == 0
    assert main(["diagnose", str(run)]) == 0
    assert "table, rows of 3 features" in capsys.readouterr().out
    assert (run / "evaluation-test-2.json").exists()


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_a_file_that_has_changed_since_the_training_is_used_only_if_it_is_named(
    command, own, capsys
):
    np.savez("table.npz", **table(seed=1))
    refused(command, "run", "--num-samples", "2")
    path = own / "table.npz"
    expected = f"{path} has changed since the model was trained on it; give --data {path} for"
    assert expected in capsys.readouterr().err
    assert main([command, "run", "--num-samples", "2", "--data", "table.npz"]) == 0


def test_results_on_other_files_do_not_replace_that_on_the_file_of_the_training(own):
    for seed in (0, 1, 2):
        np.savez("table.npz", **table(seed=seed))
        words = ["--data", "table.npz", "--num-samples", "2", "--quiet"]
        assert main(["evaluate", "run", *words]) == 0
    names = sorted(path.name for path in Path("run").glob("evaluation-*.json"))
    assert len(names) == 3 and names[-1] == "evaluation-test-2.json"
    assert all(name.startswith("evaluation-table-") for name in names[:2])


@pytest.mark.parametrize("standardise", [True, False])
def test_another_file_is_scaled_as_that_of_the_training(standardise, own):
    other, first = table(standardise=standardise), Path("table.npz")
    other |= {"train_x": other.pop("x")[::-1], "validation_x": table()["x"][:20]}
    other["test_x"] = data.from_npz(first).standardisation.undo(data.from_npz(first).test.pixels)
    np.savez("other.npz", **other)
    bounds = []
    for name in ("table.npz", "other.npz"):
        words = f"--data {name} --json {name}.json --num-samples 2 --quiet".split()
        assert main(["evaluate", "run", *words]) == 0
        bounds.append(json.loads(Path(f"{name}.json").read_text())["elbo"]["mean"])
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-3)


def test_other_data_that_do_not_fit_the_model_are_refused(own, capsys):
    np.savez("images.npz", **halves())
    refused("evaluate", "run", "--data", "images.npz")
    assert "the model does not take images" in capsys.readouterr().err


def test_the_bounds_of_every_example_are_a_table(own):
    words = "--num-samples 2 --split train --quiet --per-example scores.csv".split()
    assert main(["evaluate", "run", *words]) == 0
    scores = pd.read_csv("scores.csv", index_col="example")
    assert len(scores) == 80 and {"elbo", "log_density"} <= set(scores)
    written = json.loads(Path("run/evaluation-train-2.json").read_text())
    assert scores["elbo"].mean() == pytest.approx(written["elbo"]["mean"])
    cut = data.from_npz("table.npz").train
    assert list(scores["row"]) == cut.factors["row"].tolist()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate", "--json file/a.json"),
        ("evaluate", "--per-example file/a.csv"),
        ("sample", "--out file/a.csv"),
        ("diagnose", "--json file/a.json"),
    ],
)
def test_a_result_that_cannot_be_written_is_refused_before_the_work(
    command, words, own, monkeypatch, capsys
):
    def work(*_: object, **__: object) -> None:
        raise AssertionError

    for name in ("evaluate", "sample", "diagnose"):
        monkeypatch.setattr(f"hvae_course.analysis.{name}", work)
    Path("file").write_text("")
    refused(command, "run", *words.split())
    assert "a part of the path is a file" in capsys.readouterr().err


# Samples


def test_samples_have_the_shape_of_the_images_and_not_that_of_a_square(trained, tmp_path):
    path = tmp_path / "samples.png"
    assert main(["sample", str(trained / "runs/halves"), "--count", "4", "--out", str(path)]) == 0
    height, width, _ = matplotlib.image.imread(path).shape
    assert 3 < width / height < 5  # 2x2 images of 8x32


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_with_channels_are_drawn_in_their_colours(channels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("colours.npz", **colours(channels))
    assert train("colours.npz", tmp_path / "run") == 0
    assert main(["sample", "run", "--count", "4", "--out", "a.png"]) == 0
    red, _, blue = np.moveaxis(matplotlib.image.imread("a.png")[..., :3], -1, 0)
    assert (np.abs(red - blue).max() > 0.01) == (channels == 3)
    assert main(["sample", "run", "--count", "4", "--pixels", "drawn", "--out", "a.npz"]) == 0
    x = np.load("a.npz")["x"]
    assert x.shape == ((4, 3, 6, 4) if channels == 3 else (4, 6, 4))
    assert x.dtype == np.int64 and 100 < x.max() <= 255


def test_the_picture_of_a_table_is_refused(trained, tmp_path, capsys):
    refused("sample", trained / "runs/table", "--out", tmp_path / "a.png")
    error = capsys.readouterr().err
    assert "examples of shape (3,) are not images" in error and "--out samples.csv" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.csv", "a.npz"])
def test_samples_of_a_table_are_numbers_in_its_own_units(name, trained, tmp_path):
    path = tmp_path / name
    assert main(["sample", str(trained / "runs/table"), "--count", "50", "--out", str(path)]) == 0
    if name == "a.csv":
        frame = pd.read_csv(path)
        assert list(frame) == NAMES
        x = frame.to_numpy()
    else:
        x = np.load(path)["x"]
    assert x.shape == (50, 3)
    mean = data.from_npz(trained / "table.npz").standardisation.mean
    np.testing.assert_allclose(x.mean(axis=0), mean, rtol=0.2)


@pytest.mark.parametrize("out", ["table.npz", "run/../table.npz", "link.npz"])
def test_samples_do_not_replace_the_training_data(out, own, capsys):
    before = Path("table.npz").read_bytes()
    Path("link.npz").symlink_to("table.npz")
    refused("sample", "run", "--out", out)
    assert "table.npz holds the training data" in capsys.readouterr().err.replace("link", "table")
    assert Path("table.npz").read_bytes() == before


def test_numbers_are_drawn_unless_the_mean_is_wanted(own):
    tables = []
    for words in ([], ["--pixels", "drawn"], ["--pixels", "mean"]):
        assert main(["sample", "run", "--count", "500", "--out", "a.csv", *words]) == 0
        tables.append(pd.read_csv("a.csv"))
    usual, drawn, mean = tables
    assert usual.equals(drawn)
    assert (mean.std() < 0.9 * drawn.std()).all()


def test_a_run_that_is_not_finished_is_named(own):
    Path("run/result.json").unlink()
    with pytest.warns(UserWarning, match="the training in .*run is not finished: 1 of 1 epochs"):
        find("run")


def test_a_finished_run_without_its_checkpoint_is_trained_again(own, capsys):
    Path("run/checkpoint.pt").unlink()
    assert train("table.npz", Path("run")) == 0
    assert "training in run" in capsys.readouterr().out
    assert Path("run/checkpoint.pt").exists()


def test_samples_are_data_again(trained, tmp_path):
    path = tmp_path / "samples.npz"
    words = ["--pixels", "drawn", "--count", "100", "--out", str(path)]
    assert main(["sample", str(trained / "runs/colours"), *words]) == 0
    with np.load(path) as file:
        again = data.from_arrays(file["x"].astype(np.uint8), kind="images", channels_last=False)
    assert again.spec == data.from_npz(trained / "colours.npz").spec


def test_a_temperature_and_a_label_reach_the_samples(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("table.npz", **table(y=np.arange(100) % 2))
    assert train("table.npz", tmp_path / "run", "--conditional") == 0
    words = ["sample", "run", "--count", "5", "--out", "a.npz", "--temperature", "0"]
    words += ["--pixels", "mean"]
    samples = []
    for label in (0, 1):
        assert main([*words, "--label", str(label)]) == 0
        with np.load("a.npz") as file:
            assert (file["y"] == label).all()
            assert np.ptp(file["x"], axis=0).max() < 1e-5  # without noise they are all the same
            samples.append(file["x"])
    assert not np.allclose(*samples)
    capsys.readouterr()
    refused(*words)
    assert "give --label, a number from 0 to 1" in capsys.readouterr().err
    refused(*words, "--label", "2")
    assert "label must be one of 0 to 1" in capsys.readouterr().err


def test_values_outside_of_a_picture_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).normal(5, 1, (100, 4, 4))
    np.savez("real.npz", x=images, kind="real", shape=(4, 4))
    assert train("real.npz", tmp_path / "run") == 0
    assert main(["sample", "run", "--pixels", "drawn", "--out", "a.png"]) == 0
    assert "of the pixels lie outside [0, 1] and are drawn as 0 or 1" in capsys.readouterr().out


# Checkpoints that know less


def earlier(folder: Path) -> Path:
    """The checkpoint as an earlier version wrote it, which knew the number of features alone."""
    path = folder / "checkpoint.pt"
    checkpoint = load_checkpoint(path)
    config = {name: value for name, value in checkpoint.config.items() if name != "shape"}
    config["num_features"] = 256
    save_checkpoint(Checkpoint(config, checkpoint.weights, checkpoint.run), path)
    return path


def test_an_earlier_checkpoint_has_the_shape_of_its_data_and_never_that_of_a_square(
    trained, tmp_path, capsys
):
    folder = Path(shutil.copytree(trained / "runs/halves", tmp_path / "run"))
    alone = str(shutil.copy(earlier(folder), tmp_path / "alone.pt"))
    assert find(folder).image_shape() == (8, 32)
    refused("sample", alone, "--out", tmp_path / "a.png")
    assert "the checkpoint is of an earlier version" in capsys.readouterr().err
    assert main(["sample", alone, "--out", str(tmp_path / "a.npz")]) == 0
    assert np.load(tmp_path / "a.npz")["x"].shape == (64, 256)


def test_a_checkpoint_of_fit_draws_images_of_the_shape_that_was_trained(
    trained, tmp_path, make_accelerator
):
    halves = data.from_npz(trained / "halves.npz")
    model = recipes.ladder_vae(halves, hidden=(8,))
    path = tmp_path / "halves.pt"
    settings = {"epochs": 1, "batch_size": 40, "progress": False}
    fit(model, halves, checkpoint=path, accelerator=make_accelerator(), **settings)
    assert find(path).image_shape() == (8, 32)


def test_the_checkpoint_of_a_model_that_no_recipe_built_is_refused(tmp_path, capsys):
    path = tmp_path / "own.pt"
    save_checkpoint(Checkpoint({}, {}), path)
    refused("evaluate", path)
    assert "holds the weights of a model that no recipe built" in capsys.readouterr().err
