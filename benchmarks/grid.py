"""One training step of every objective on every network in every precision: its gradient has to be one of numbers.

The tests take few of these, in which every two stand together (tests/workflow/test_grid.py); this is the whole grid.

    python benchmarks/grid.py
"""

import itertools
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.run.assembly import PRECISIONS, make_modules, make_network, step_function
from trigbench.workflow.run.counts import without_data
from trigbench.workflow.run.weights import kept_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

U_NET = {"width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [4]}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16, "blocks": 1},
    "dit": {
        "network": "trigbench.core.networks.dit:DiT", "settings": {"width": 24, "depth": 1, "heads": 2, "patch": 4},
    },
    "ddpmpp": {"network": "trigbench.core.networks.ddpmpp:DDPMpp", "settings": U_NET},
    "edm2": {"network": "trigbench.core.networks.edm2:EDM2", "settings": U_NET},
}  # fmt: skip
"""Sizes of a study, small ones."""
NEEDED: dict[str, dict[str, Any]] = {
    "dscd": {"intervals": 4}, "dsct": {"intervals": 4}, "cd": {"intervals": 4}, "ct": {"points": [4, 8]},
    "ict": {"points": [4, 16]}, "ect": {"stages": 3}, "ms_scd": {"segments": 2},
    "pcm": {"segments": 2}, "mscm": {"segments": 2},
    "pd": {"segments": 2},
}  # fmt: skip
"""What an arm of the objective cannot do without."""
OWN_FORWARD_MODE = tuple(name for name, method in OBJECTIVES.items() if method.forward_mode)
ABOUT = {
    "title": "G", "paper": "none", "question": "Does it train?", "expectation": "It does.", "arms": ["*"],
    "figure": "training", "metric": "training_direction_norm",
}  # fmt: skip


def content() -> dict[str, Any]:
    """A study on images with an arm for each network and objective, called `network-objective`."""
    arms = {f"teacher-{network}": {"objective": "diffusion", "size": network} for network in NETWORKS}
    for network, (name, method) in itertools.product(NETWORKS, OBJECTIVES.items()):
        teacher = {"teacher": f"teacher-{network}"} if method.teacher else {}
        arms[f"{network}-{name}"] = {"objective": name, "size": network, **teacher, **NEEDED.get(name, {})}
    return {
        "study": "grid", "title": "A grid", "summary": "Every objective on every network.", "sigma_d": 0.5,
        "seeds": [0], "data": {"digits": {"kind": "digits"}}, "sizes": NETWORKS, "arms": arms,
        "defaults": {"data": "digits", "iterations": 30, "batch": 8, "rate": 1e-3, "ema_half_life": 1000},
        "evaluation": {"samples": 100}, "experiments": {"all": ABOUT},
    }  # fmt: skip


def grid_study(folder: Path) -> Study:
    """`content`, written to a folder."""
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(content(), sort_keys=False))
    return load(path)


def can_be_computed(network: str, objective: str, precision: str) -> bool:
    """All but what a study is refused for: torch's own forward mode on DDPM++ in less than float32."""
    return precision == "fp32" or network != "ddpmpp" or objective not in OWN_FORWARD_MODE


def gradient_of_a_step(study: Study, network: str, objective: str, precision: str) -> list[torch.Tensor]:
    """In all that is trained, in the first step of a student and a teacher with random weights on random images."""
    task = without_data(study, f"{network}-{objective}")
    task = replace(task, arm=task.arm.model_copy(update={"precision": precision}))
    modules, teacher = make_modules(task, start=None), study.teacher_run(task.run)
    if teacher is not None:
        task = replace(task, teacher=kept_of(make_network(task.of_arm(teacher.arm))))
    loss = step_function(task, modules)(1, {}).loss
    return list(torch.autograd.grad(loss, list(modules.parameters().values()), materialize_grads=True))


def main() -> None:
    """A line for each network and objective, with what fails; status 1 if anything does."""
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        study = grid_study(Path(folder))
        for network, objective in itertools.product(NETWORKS, OBJECTIVES):
            tried = [p for p in PRECISIONS if can_be_computed(network, objective, p)]
            found = {p: gradient_of_a_step(study, network, objective, p) for p in tried}
            bad = [p for p, parts in found.items() if not all(part.isfinite().all() for part in parts)]
            failed += len(bad)
            print(f"{network} {objective}: {'no number in ' + ', '.join(bad) if bad else 'ok'}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
