"""How runs are sampled and judged, as a study says it."""

import itertools
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from trigbench.core.map_samplers import MAP_SAMPLERS
from trigbench.core.solvers import SOLVERS
from trigbench.workflow.errors import Mistake
from trigbench.workflow.study.models import Model, Settings, check_known, unfit


class Sampler(Model):
    """A way to draw samples from a trained run."""

    solver: str
    """`few` is multistep consistency sampling, `segments` goes through the edges of multi-step sCD, `jumps` is CTM's
    way of a map of two times, `halves` jumps of one length in flow time, a power of two of them; those of core.solvers
    solve the probability-flow ODE of a diffusion arm on EDM's grid."""
    times: tuple[tuple[PositiveFloat, ...], ...] | None = None
    """`few` and `jumps`: one list of middle angles per sampling, so [[], [1.1]] is one step, and two."""
    gamma: Annotated[float, Field(ge=0, le=1)] | None = None
    """`jumps`: from 0, where nothing is re-noised, to 1, which is `few`; empty for 0."""
    evaluations: tuple[PositiveInt, ...] | None = None
    """ODE solvers and `halves`: one number of network evaluations per sampling; of `ddim_even` empty for the arm's
    `segments`."""
    guidance: tuple[PositiveFloat, ...] | None = None
    """Scales, each with every sampling; 1 is no guidance. Empty for arms without guidance."""
    metrics: tuple[str, ...] | None = None
    """What is measured of these samples; empty for all that the data's judge knows."""
    settings: Settings | None = None
    """Of its solver alone (core.solvers), which a study writes beside the others; the function's own where none is."""

    @model_validator(mode="before")
    @classmethod
    def _of_its_solver(cls, given: Any) -> Any:
        """Settings of a solver's own stand beside the others."""
        if not isinstance(given, dict):
            return given
        own, solver = settings_of_solvers(), SOLVERS.get(str(given.get("solver")))
        said = {key: given[key] for key in own if given.get(key) is not None}
        if said and given.get("settings") is not None:
            raise Mistake(f"{', '.join(said)}: settings of a solver stand in two places", "write all beside 'solver'")
        for key, setting in solver.settings.items() if solver else ():
            if setting.kind is float and type(said.get(key)) is int:  # 1 is 1.0, as elsewhere in a study
                said[key] = float(said[key])
        return {key: given[key] for key in given if key not in own} | ({"settings": said} if said else {})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_known("solver", self.solver, (*MAP_SAMPLERS, *SOLVERS))
        way = MAP_SAMPLERS.get(self.solver)
        for key, used in (("times", bool(way and way.times)), ("evaluations", way is None or bool(way.evaluations))):
            may_lack = key == "evaluations" and way is None and SOLVERS[self.solver].own_steps
            if used != bool(getattr(self, key)) and not may_lack:
                raise unfit(f"solver {self.solver!r}", used, key)
        if self.gamma is not None and not (way and "gamma" in way.takes):
            raise unfit(f"solver {self.solver!r}", False, "gamma")
        self._check_settings()
        for key in ("times", "evaluations", "guidance"):
            given = getattr(self, key) or ()
            if len(set(given)) != len(given):
                raise Mistake(f"{key!r}: each may stand once", "take the repeated one out: its samples are drawn once")
        for times in self.times or ():
            if any(a <= b for a, b in itertools.pairwise((1.57, *times))):
                remedy = "write angles so, as [1.3, 0.8]: arctan(sigma / sigma_d) of EDM's noise level sigma"
                raise Mistake("middle times must descend and stay below pi/2", remedy)
        if way is not None:
            if way.finest is not None:
                self._check_halves(way.finest)
            return self
        for count in self.evaluations or ():
            each = SOLVERS[self.solver].evaluations
            if left := (count - 1) % each:
                wanted = "an odd number of evaluations" if each == 2 else "a number of evaluations of its own"
                problem = f"{self.solver} needs {wanted} ({each} a step, 1 in the last), got {count}"
                raise Mistake(problem, f"write {count - left} or {count - left + each}")
        return self

    def _check_halves(self, finest: int) -> None:
        """Refuse what is no power of two, or too fine."""
        for count in self.evaluations or ():
            if count & (count - 1) or count > finest:
                below = min(finest, 1 << (count.bit_length() - 1))
                problem = f"{self.solver} are a power of two in number, {finest} at most, got {count}"
                raise Mistake(f"evaluations: {problem}", f"write {below}" + f" or {2 * below}" * (count < finest))

    def _check_settings(self) -> None:
        """Refuse what the solver does without, does not understand, and cannot do without."""
        known, said = SOLVERS[self.solver].settings if self.solver in SOLVERS else {}, self.settings or {}
        for key, value in said.items():
            if key not in known:
                problem, rest = f"solver {self.solver!r} takes no {key!r}", ", ".join(known) or "no settings"
                raise Mistake(problem, f"remove {key!r}; it takes {rest}")
            if (wrong := known[key].refusal(value)) is not None:
                raise Mistake(f"{key}: {value!r} is no value of it", f"write {wrong}")
        for key, setting in known.items():
            if setting.needed and key not in said:
                raise unfit(f"solver {self.solver!r}", True, key)


def settings_of_solvers() -> list[str]:
    """All keys that are of one solver, or some."""
    return [*dict.fromkeys(key for solver in SOLVERS.values() for key in solver.settings)]


def keys_of_samplers() -> list[str]:
    """All keys that some sampler may have."""
    return [*(name for name in Sampler.model_fields if name != "settings"), *settings_of_solvers()]


BUILT_IN = {
    **{
        name: Sampler(solver=name, times=way.times or None, evaluations=way.evaluations or None)
        for name, way in MAP_SAMPLERS.items()
    },
    **{way.alone: Sampler(solver=name, times=((),)) for name, way in MAP_SAMPLERS.items() if way.alone},
    **{
        name: Sampler(solver=name, evaluations=solver.usual or None)
        for name, solver in SOLVERS.items()
        if solver.usual or solver.own_steps
    },
}
"""Samplers that every study has: the papers' own for each kind of method."""


class EvaluationSettings(Model):
    """How every run of the study is judged: the final averaged weights, fixed seeds, no selection."""

    samples: PositiveInt
    """Drawn of every run in each way of sampling it."""
    snapshot_samples: PositiveInt | None = None
    """Of each snapshot along training; empty for as many."""
    snapshot_metrics: tuple[str, ...] | None = None
    """What is measured of them; empty for all."""
    edits: PositiveInt | None = None
    """Of each kind that the measurement `editing` makes of images, four of an image; empty for as many as samples."""
    seed: int = 1_000_003
    """Of the noise that samples start from, to which a training seed is added by `noise: by_seed`."""
    noise: Literal["by_seed"] | None = None
    """`by_seed` for samples from other noise with each training seed, which all of its runs share, so that an interval
    over seeds holds what that noise does, too; empty for one noise for all."""

    def noise_seed(self, training_seed: int) -> int:
        """Of the noise that samples of a run with this training seed start from."""
        return self.seed + training_seed if self.noise else self.seed
