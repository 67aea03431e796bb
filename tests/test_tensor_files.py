"""Files of tensors hold nothing that a safe reader would refuse."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from hvae_course.tensor_files import read_tensors, write_tensors
from hvae_course.training import load_checkpoint


def test_numbers_of_numpy_become_those_of_python(tmp_path):
    rates = np.logspace(-4, -2, 3)
    content = {
        "a": [rates[1], (np.int64(3), np.bool_(True))],
        np.str_("b"): {"c": np.float32(0.5)},
    }
    write_tensors(content, tmp_path / "a.pt")
    found = read_tensors(tmp_path / "a.pt", kind="file")
    assert found == {"a": [rates[1], (3, True)], "b": {"c": 0.5}}
    assert [type(v) for v in (found["a"][0], *found["a"][1])] == [float, int, bool]


def test_weights_stay_as_they_are(tmp_path):
    state = torch.nn.BatchNorm1d(3).state_dict()
    write_tensors({"weights": state}, tmp_path / "a.pt")
    found = read_tensors(tmp_path / "a.pt", kind="file")["weights"]
    assert isinstance(found, OrderedDict) and found._metadata == state._metadata
    torch.testing.assert_close(dict(found), dict(state), rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"", b"junk\n", b"PK\x03\x04"])
def test_what_is_no_such_file_is_named(content, tmp_path):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt is not a checkpoint, or is damaged: "):
        read_tensors(tmp_path / "a.pt", kind="checkpoint")


def test_a_run_with_settings_of_numpy_goes_on(make_model, train, tmp_path):
    path = tmp_path / "run.pt"
    settings = {
        "learning_rate": np.logspace(-4, -2, 3)[1],
        "seed": np.arange(3)[1],
        "decay": np.float64(0.5),
        "averaging": np.float64(0.9),
        "batch_size": np.int64(30),
    }
    model = make_model(dropout=np.float64(0.1))
    expected = train(model, epochs=2, **settings).frame
    train(make_model(dropout=np.float64(0.1)), epochs=2, checkpoint=path, **settings)
    assert load_checkpoint(path).config["dropout"] == 0.1
    again = train(make_model(dropout=0.1), epochs=2, checkpoint=path, **settings).frame
    assert again.equals(expected)
    assert train(make_model(dropout=0.1), epochs=2, **settings).frame.equals(expected)
