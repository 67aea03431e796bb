"""Time of a training step of the models of chapters 6 and 7: ``benchmarks/pendulum_steps.csv``.

Run it with ``python -m benchmarks.pendulum_steps``. Models take turns, and what counts is
processor time of one thread, so that other programs disturb the ratios little.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from benchmarks.pendulum import BUDGET, MODELS
from hvae_course import data

TABLE = Path(__file__).with_suffix(".csv")
"""One row per model and round."""
ROUNDS, STEPS = 15, 20
"""How often each model has its turn, and steps in each turn."""


def _stepper(name: str, pendulum: data.DataSet) -> Callable[[], float]:
    setting, x = MODELS[name], pendulum.train.batch(slice(BUDGET["batch_size"]))
    model, objective = setting.build(pendulum, seed=0), setting.objective()
    optimizer = torch.optim.Adam(model.parameters())

    def turn() -> float:
        start = time.process_time()
        for _ in range(STEPS):
            optimizer.zero_grad()
            (-objective(model(x, setting.num_samples), x).mean()).backward()
            optimizer.step()
        return 1000 * (time.process_time() - start) / STEPS

    return turn


def measure(rounds: int = ROUNDS) -> pd.DataFrame:
    """Time the training steps of every model in turns, after a round that does not count.

    Returns milliseconds of processor time per step, one row per model and round.
    """
    torch.set_num_threads(1)
    pendulum = data.load("pendulum")
    turns = {name: _stepper(name, pendulum) for name in MODELS}
    rows = [
        {"model": name, "round": number, "milliseconds": round(turn(), 4)}
        for number in range(rounds + 1)
        for name, turn in turns.items()
    ]
    table = pd.DataFrame(rows).query("round > 0")
    return table.assign(machine=platform.machine(), torch=torch.__version__)


if __name__ == "__main__":
    measure().to_csv(TABLE, index=False)
