"""Every run of the oracle's smoke budget, by the processes that torchrun starts, in one start."""

import torch

from trigbench.workflow.run.distributed import world_of
from trigbench.workflow.run.make import make_run
from trigbench.workflow.study.reading import load

if __name__ == "__main__":
    torch.set_num_threads(1)
    study = load("oracle", "smoke")
    with world_of(torch.device("cpu"), study.resources.patience):
        for run in study.runs():
            make_run(study, run)
