"""Check that a model fits the data, once before any work starts."""

from hvae_course.data import DataSet, DataSpec, Split
from hvae_course.hierarchy import HierarchicalVAE


def check_data(model: HierarchicalVAE, data: DataSet, *splits: Split) -> None:
    """Check that a model was built for the data.

    Reads every example, which synchronises with the device, and draws random numbers if the
    binarisation is dynamic.

    Args:
        model: the model; without a recipe's configuration only its likelihood is checked.
        data: the data set.
        *splits: its splits that will be used, on the model's device.

    Raises:
        ValueError: if the model was built for data of another size, or values lie outside the
            support of its likelihood.
    """
    if model.config:
        shape = model.config.get("shape", model.config.get("num_features"))
        expected = DataSpec(shape, model.config["num_values"])
        given = data.spec
        if len(expected.shape) == 1:  # a model of vectors takes any shape of that size
            given = DataSpec(given.num_features, given.num_values)
        if given != expected:
            raise ValueError(
                f"the model takes {expected}, got {data} with {data.spec}; load the data that it "
                "was built for, or build a model for these data"
            )
    for split in splits:
        for start in range(0, len(split), 1000):
            model.top_down.likelihood.check(split.batch(slice(start, start + 1000)))
