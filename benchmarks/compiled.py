"""How exact compiled gradients are (core.compiled): of every objective on every network, in float32 and float64.

Against eager ones, as errors over the norm; what compiled steps cost, benchmarks/steps.py measures.

    python benchmarks/compiled.py [--publish]
"""

import argparse
import dataclasses
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import shared
import torch
from grid import NETWORKS, grid_study

from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.run.assembly import make_modules, make_network, step_function
from trigbench.workflow.run.batches import draw_batch, mapped
from trigbench.workflow.run.compiled import Compiled, distance
from trigbench.workflow.run.counts import without_data
from trigbench.workflow.run.gradients import differentiated
from trigbench.workflow.run.journal import Journal
from trigbench.workflow.run.weights import kept_of


def grid() -> pd.DataFrame:
    """Errors of compiled gradients: every objective on every network, in float32 and float64."""
    study, rows = grid_study(Path(tempfile.mkdtemp())), []
    for network in NETWORKS:
        for objective in OBJECTIVES:
            for dtype in (torch.float32, torch.float64):
                torch.manual_seed(0)
                torch.set_default_dtype(dtype)
                task = without_data(study, f"{network}-{objective}")
                modules, teacher = make_modules(task, None), study.teacher_run(task.run)
                for parameter in modules.parameters().values():
                    parameter.data.add_(0.05 * torch.randn_like(parameter))
                if teacher is not None:
                    task = dataclasses.replace(task, teacher=kept_of(make_network(task.of_arm(teacher.arm))))
                function, journal = step_function(task, modules), Journal()
                weights = list(modules.parameters().values())
                rows_of = mapped(lambda a: a.to(dtype) if a.is_floating_point() else a, draw_batch(task, 1))  # noqa: B023
                asked = (function, 1, rows_of, {}, weights, 1.0, modules)
                error = distance(Compiled(task, modules, function, journal)(*asked)[1], differentiated(*asked)[1])
                rows.append({"network": network, "objective": objective, "dtype": str(dtype)[6:], "error": error})
                rows[-1]["fell_back"] = journal.fell_back or ""
                print(*rows[-1].values(), flush=True)
                torch._dynamo.reset()
    torch.set_default_dtype(torch.float32)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, print, and with --publish write results/published/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help="write the table to results/published/benchmarks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, where it compiles
    table = grid()
    print(table.pivot(index="objective", columns=["network", "dtype"], values="error").to_string())
    if arguments.publish:
        shared.publish(table, "compiled-grid-cpu")


if __name__ == "__main__":
    main()
