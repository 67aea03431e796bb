"""The table of chapter 2 on MNIST has the same remedies as the notebook."""

import json
from pathlib import Path

import pandas as pd

from benchmarks import remedies
from hvae_course.objectives import FreeBits, WarmUp, Weighted

NOTEBOOK = Path(__file__).parent.parent / "notebooks/02_posterior_collapse.ipynb"


def of_the_notebook(epochs: int, floor: float) -> dict:
    """What the notebook's own cells call its models, and what each of them changes."""
    cells = ["".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]]
    (source,) = [cell for cell in cells if cell.startswith("short, half, long = ")]
    (shapes,) = [
        line for cell in cells for line in cell.split("\n") if line.startswith("shapes =")
    ]
    names = {"FreeBits": FreeBits, "WarmUp": WarmUp, "Weighted": Weighted}
    names |= {"epochs": epochs, "floor": floor}
    exec(f"{shapes}\n{source}", names)
    return names["shapes"] | names["remedies"]


def test_the_remedies_are_those_of_the_notebook():
    assert remedies.remedies(40, 3.0) == of_the_notebook(40, 3.0)
    assert list(remedies.remedies()) == list(of_the_notebook(20, 4.0))
    shared = '"hidden": (256, 256), "normalisation": "layer"'
    assert shared in NOTEBOOK.read_text("utf-8").replace('\\"', '"')
    assert remedies.SHARED == {"hidden": (256, 256), "normalisation": "layer"}


def test_a_run_reports_bounds_levels_and_circumstances(tiny_binary, monkeypatch):
    monkeypatch.setattr(remedies.data, "load", lambda name: tiny_binary)
    monkeypatch.setattr(remedies, "EPOCHS", 2)
    monkeypatch.setattr(remedies, "NUM_SAMPLES", 3)
    job = {"remedy": "top-down, free bits", "seed": 1}
    row = remedies.run(job)
    assert row["iw"] >= row["elbo"] and row["best_epoch"] in (1, 2)
    assert row["explained_2"] <= 1 and row["num_samples"] == 3
    levels = ("information", "index_code", "informative_units")
    assert {f"{name}_{l}" for name in levels for l in (1, 2)} <= row.keys()
    assert row["data"] == str(tiny_binary) and row["device"] == "cpu"
    assert row == remedies.run(job)


def test_the_committed_table_is_of_one_data_set():
    committed = pd.read_csv(remedies.TABLE)
    circumstances = committed[["data", "num_samples", "device"]]
    assert len(circumstances.drop_duplicates()) == 1
    assert committed["data"][0].startswith("mnist, binarisation dynamic")
    assert (committed["best_epoch"] <= remedies.EPOCHS).all()
