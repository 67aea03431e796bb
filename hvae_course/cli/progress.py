"""A progress bar for work that runs data through a model."""

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from hvae_course.hierarchy import HierarchicalVAE, Trace


@contextmanager
def counting_draws(
    model: HierarchicalVAE, total: int, *, done: int = 0, quiet: bool
) -> Iterator[None]:
    """Show how many draws of the latents a model has made, and the time left.

    Args:
        model: the model; every pass of data through it is counted while the block runs.
        total: number of draws over all examples.
        done: number of draws made earlier.
        quiet: whether to hide the bar.

    Yields:
        None: nothing.
    """
    bar = tqdm(total=total, initial=done, unit="draw", unit_scale=True, leave=False, disable=quiet)

    def count(_: HierarchicalVAE, __: tuple, trace: Trace) -> None:
        bar.update(len(trace.levels[0].z))

    hook = model.register_forward_hook(count)
    try:
        yield
    finally:
        hook.remove()
        bar.close()
