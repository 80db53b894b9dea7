"""What simulations say of the judge: made once, as a job of the workflow, and read by the pages."""

from pathlib import Path
from typing import Any

from trigbench.workflow.claims import simulate
from trigbench.workflow.machine.files import content_of, write_json
from trigbench.workflow.machine.provenance import provenance
from trigbench.workflow.study.freshness import MADE_FROM, simulations_from
from trigbench.workflow.study.places import SIMULATIONS

SEED = 0
MANY = range(3, 61)
"""Numbers of seeds for which it is asked what they find."""
MADE_BY = ("python", "numpy", "scipy", "pandas")


def make_simulations(path: Path = SIMULATIONS, draws: int = simulate.DRAWS) -> Path:
    """Write how often verdicts are false and how often they find what is there, with seed and versions."""
    origin = provenance()
    versions = {name: version for name in MADE_BY if (version := origin["libraries"].get(name))}
    about: dict[str, Any] = {
        "seed": SEED,
        "draws": draws,
        "false": simulate.false_rates(draws, seed=SEED).to_dict("records"),
        "power": simulate.power(draws=draws, seed=SEED).to_dict("records"),
        "found_with": {str(count): simulate.found_with(count, draws=draws, seed=SEED) for count in MANY},
        "versions": {"python": origin["python"], **versions},
        "commit": origin["commit"],
        MADE_FROM: simulations_from(),
    }
    write_json(path, about)
    return path


def simulations(path: Path = SIMULATIONS) -> dict[str, Any]:
    """What was written; empty where there is nothing yet."""
    return content_of(path)
