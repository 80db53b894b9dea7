"""The table of solvers of the probability-flow ODE: where each stands, what it costs, how it is shown.

Plain data and no import of torch, so that a study is validated, and its plan made, without one. Adding a solver is one
function in core/samplers/ and one entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trigbench.core.map_samplers import MAP_SAMPLERS
from trigbench.core.objectives import Setting


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
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """What a study may set of it, by the names of the function's parameters, which has their defaults."""
    takes: tuple[Literal["noise", "sigma_d"], ...] = ()
    """What else it is told by name: standard normal noise, an iterator of slices, one a step; the data's sigma_d."""
    usual: tuple[int, ...] = ()
    """Evaluations of the sampler of its name that every study has: the one by which velocities are sampled."""
    own_steps: bool = False
    """Its steps are an arm's segments where none are said; every study has a sampler of its name."""
    source: str = ""
    """Of its formula."""
    order: str = "1"
    """Of its error in the step."""

    def steps(self, evaluations: int) -> int:
        """How many steps take so many evaluations.

        >>> SOLVERS["heun"].steps(35), SOLVERS["ddim"].steps(4)
        (18, 4)
        """
        return 1 + (evaluations - 1) // self.evaluations


SOLVERS: dict[str, Solver] = {
    "heun": Solver(
        "trigbench.core.samplers.ode:heun_step", "Heun", "-", "d", evaluations=2, usual=(35,),
        source="arXiv 2206.00364, Alg. 1", order="2",
    ),
    "ddim": Solver(
        "trigbench.core.samplers.ode:ddim_step", "DDIM", ":", "<", source="arXiv 2010.02502; 2410.11081, Eq. 26",
    ),
    "dpm_2s": Solver(
        "trigbench.core.samplers.ode:dpm_solver_2s_step", "DPM-Solver 2S", "--", "P", evaluations=2,
        source="arXiv 2206.00927; 2410.11081, Eq. 27", order="2",
    ),
    "dpm_pp_2m": Solver(
        "trigbench.core.samplers.ode:solve_dpm_solver_pp_2m", "DPM-Solver++ 2M", "-.", "h", whole=True,
        source="arXiv 2211.01095; 2410.11081, Eq. 28", order="2",
    ),
    "dpm_3s": Solver(
        "trigbench.core.samplers.singlestep:dpm_solver_3s_step", "DPM-Solver 3S", "--", ">", evaluations=3,
        source="arXiv 2206.00927, Alg. 2", order="3",
    ),
    "dpm_pp_3m": Solver(
        "trigbench.core.samplers.multistep:solve_dpm_solver_pp_3m", "DPM-Solver++ 3M", "-.", "H", whole=True,
        settings={"lower_order_final": Setting(bool)},
        source="the authors' code (github.com/LuChengTHU/dpm-solver)", order="2, whatever its name says",
    ),
    "unipc": Solver(
        "trigbench.core.samplers.multistep:solve_unipc", "UniPC", "-.", "p", whole=True,
        settings={
            "order": Setting(int, 1, 3), "variant": Setting(("bh1", "bh2")), "corrector": Setting(bool),
            "lower_order_final": Setting(bool),
        },
        source="arXiv 2302.04867, Alg. 5 to 8", order="its setting, and 1 more with the corrector",
    ),
    "ddim_eta": Solver(
        "trigbench.core.samplers.stochastic:solve_ddim_eta", "stochastic DDIM", ":", "^", whole=True,
        settings={"eta": Setting(float, 0, 1, needed=True)}, takes=("noise",), source="arXiv 2010.02502, Eq. 16",
    ),
    "heun_churn": Solver(
        "trigbench.core.samplers.stochastic:solve_heun_churn", "stochastic Heun", "-", "X", evaluations=2, whole=True,
        settings={
            "churn": Setting(float, 0, needed=True), "churn_min": Setting(float, 0), "churn_max": Setting(float, 0),
            "churn_noise": Setting(float, 0),
        },
        takes=("noise", "sigma_d"), source="arXiv 2206.00364, Alg. 2", order="2",
    ),
    "ddim_even": Solver(
        "trigbench.core.samplers.even:solve_ddim_even", "DDIM, even angles", ":", "v", whole=True, own_steps=True,
        source="arXiv 2202.00512",
    ),
}  # fmt: skip


def sampled_by() -> list[str]:
    """All names by which a method may say how it is sampled unless told: of maps, and of the ODE."""
    alone = [sampler.alone for sampler in MAP_SAMPLERS.values() if sampler.alone]
    return [*MAP_SAMPLERS, *alone, *(name for name, solver in SOLVERS.items() if solver.usual or solver.own_steps)]


def of_velocities() -> str:
    """By which a velocity is sampled unless told."""
    return next(name for name, solver in SOLVERS.items() if solver.usual)


def hashed(name: str) -> dict[str, Any]:
    """What the table says of a solver that decides numbers."""
    solver = SOLVERS[name]
    said = {"path": solver.path, "evaluations": solver.evaluations, "whole": solver.whole}
    return said | ({"takes": solver.takes} if solver.takes else {})
