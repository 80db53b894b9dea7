"""The table of solvers of the probability-flow ODE: where each stands, what it costs, how it is shown.

Plain data and no import of torch, so that a study is validated, and its plan made, without one. Adding a solver is one
function in core/samplers/ and one entry here.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Solver:
    """One way along the ODE."""

    path: str
    """`module:function`: a step (field, x at t, t, u) -> x at u, which an arm's teacher may take too."""
    name: str
    line: str
    marker: str
    evaluations: int = 1
    """Of the network in a step; in the last one, down to 0, it is one."""
    whole: bool = False
    """The function is no step: it goes all the way, (field, x at the first, descending times) -> x at the last."""

    def steps(self, evaluations: int) -> int:
        """How many steps take so many evaluations.

        >>> SOLVERS["heun"].steps(35), SOLVERS["ddim"].steps(4)
        (18, 4)
        """
        return 1 + (evaluations - 1) // self.evaluations


SOLVERS: dict[str, Solver] = {
    "heun": Solver("trigbench.core.samplers.ode:heun_step", "Heun", "-", "d", evaluations=2),
    "ddim": Solver("trigbench.core.samplers.ode:ddim_step", "DDIM", ":", "<"),
    "dpm_2s": Solver("trigbench.core.samplers.ode:dpm_solver_2s_step", "DPM-Solver 2S", "--", "P", evaluations=2),
    "dpm_pp_2m": Solver("trigbench.core.samplers.ode:solve_dpm_solver_pp_2m", "DPM-Solver++ 2M", "-.", "h", whole=True),
    "ddim_even": Solver("trigbench.core.samplers.even:solve_ddim_even", "DDIM, even angles", ":", "^", whole=True),
}


def hashed(name: str) -> dict[str, Any]:
    """What the table says of a solver that decides numbers."""
    solver = SOLVERS[name]
    return {"path": solver.path, "evaluations": solver.evaluations, "whole": solver.whole}
