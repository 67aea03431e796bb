"""Whether a model can take some data, asked once before any work starts."""

from hvae_course.data import DataSet, DataSpec, Split
from hvae_course.hierarchy import HierarchicalVAE


def check_data(model: HierarchicalVAE, data: DataSet, *splits: Split) -> None:
    """Refuse data that a model was not built for.

    Looks at every example, which waits for the device; and draws random numbers where binary
    pixels are drawn anew in every batch.

    Args:
        model: the model; one that no recipe made is asked for its likelihood alone.
        data: the data set.
        *splits: the parts of it that are going to be used, on the model's device.

    Raises:
        ValueError: if the model was built for other sizes, or values lie outside the support of
            its likelihood.
    """
    config = model.config
    if "num_features" in config and "num_values" in config:
        expected = DataSpec(config["num_features"], config["num_values"])
        if data.spec != expected:
            raise ValueError(
                f"the model takes {expected}, and {data} is {data.spec}; load the data that it "
                "was built for, or build a model for these"
            )
    for split in splits:
        for start in range(0, len(split), 1000):
            model.top_down.likelihood.check(split.batch(slice(start, start + 1000)))
