"""Workers end with the process that started them."""

import os
import signal
import subprocess
import sys
import time

import joblib
import pytest

from hvae_course.processes import Parallel

BUSY = """
import os, sys, time
from pathlib import Path
from joblib import delayed
from hvae_course.processes import Parallel

def work(folder, number):
    Path(folder, f"{number}.pid").write_text(str(os.getpid()))
    while True:
        pass

Parallel(n_jobs=2)(delayed(work)(sys.argv[1], number) for number in range(2))
"""


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks at processes in /proc")
def test_busy_workers_end_when_their_notebook_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path)], stderr=subprocess.PIPE)
    assert until(lambda: len([p for p in tmp_path.glob("*.pid") if p.read_text()]) == 2)
    workers = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert all(map(alive, workers))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert until(lambda: not any(map(alive, workers)))


def test_results_come_in_the_order_of_the_jobs():
    jobs = [joblib.delayed(divmod)(number, 3) for number in range(5)]
    assert Parallel(n_jobs=1)(jobs) == [divmod(number, 3) for number in range(5)]
