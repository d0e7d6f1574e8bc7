"""Processes that train together, on one machine: a lost one ends the others with one line."""

import os
import signal
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")

PROGRAM = """
import os, signal, sys
import torch
from dfq_deploy.errors import DfqError
from dfq_deploy.qat.distributed import join_processes

torch.set_num_threads(1)
try:
    with join_processes("cpu") as processes:
        assert processes.made_once(lambda: processes.rank + 7) == 7
        weight = torch.nn.Parameter(torch.zeros(3))
        for step in range(4):
            weight.grad = torch.full((3,), float(processes.rank))
            if step == 3 and processes.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            processes.average([weight])
            print(weight.grad.tolist(), flush=True)
except DfqError as problem:
    print(problem, flush=True)
"""


def test_a_lost_process_ends_the_others_with_one_line() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **together, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (said, complained), _ = (process.communicate(timeout=120) for process in processes)
    assert processes[1].returncode == -signal.SIGKILL
    assert processes[0].returncode == 0, complained
    *steps, last = said.splitlines()
    assert steps == ["[0.5, 0.5, 0.5]"] * 3
    assert last.startswith("another process of this training ended or cannot be reached (")
    assert last.endswith("--resume goes on from the last checkpoint")
    assert "remote worker" not in last  # torch's advice, behind the reason
    assert "Traceback" not in complained
