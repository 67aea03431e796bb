"""Several trainings side by side, in processes that do not outlive the one that started them."""

import os
import threading
import time
from typing import Any

import joblib


def end_with_parent(seconds: float = 1.0) -> None:
    """End this process soon after its parent has ended, even in the middle of a training.

    Args:
        seconds: time between two looks at the parent.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Parallel(joblib.Parallel):
    """``joblib.Parallel`` whose workers end with the process that started them.

    A worker of a notebook whose kernel was killed would otherwise go on with its training.

    Args:
        n_jobs: number of processes; -1 for one per core.
        **options: other arguments of ``joblib.Parallel``.

    Example:
        >>> Parallel(n_jobs=1)(joblib.delayed(abs)(number) for number in (-1, -2))
        [1, 2]
    """

    def __init__(self, n_jobs: int = -1, **options: Any) -> None:  # noqa: ANN401
        several = joblib.effective_n_jobs(n_jobs) > 1
        watched = {"initializer": end_with_parent} if several else {}
        super().__init__(n_jobs=n_jobs, **watched | options)
