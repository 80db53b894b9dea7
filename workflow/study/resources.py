"""What a study asks of the place where it runs, and how a budget makes it smaller or longer."""

from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, PositiveInt

from trigbench.workflow.study.models import Model


class Resources(Model):
    """What a run asks a scheduler for, and how it guards against faults; decides no result, and is no part of a run's
    fingerprint."""

    gpu: Annotated[int, Field(ge=0)] = 0
    """How many; 0 trains on the CPU, and so does a machine without any."""
    gpu_model: Annotated[str, Field(pattern=r"^[\w.]+$")] | None = None
    """As the cluster calls it; empty for any."""
    mem_mb: PositiveInt = 1000
    """Memory of one job, in MB."""
    runtime: PositiveInt = 60
    """Minutes of one job. A longer run stops in time, and goes on in the next job."""
    checkpoint_every: PositiveInt = 500
    """Steps of training; what is killed loses at most so many."""
    patience: Annotated[float, Field(gt=0, le=7 * 24 * 60)] = 120
    """Minutes without a sign of life (a step, a part of the samples, a distance) after which a run counts as hung:
    it ends itself, and is tried again. Processes that train one run wait twice as long for each other."""

    def of_attempt(self, attempt: int) -> Self:
        """A first job asks for this much, one that has to try again for twice the memory and time."""
        factor = min(attempt, 2)
        return self.model_copy(update={"mem_mb": factor * self.mem_mb, "runtime": factor * self.runtime})


class Budget(Model):
    """Replaces seeds, overrides settings of every arm, trains longer, keeps some arms and experiments only."""

    seeds: tuple[int, ...] | None = None
    """Instead of the study's, and of those that experiments have for themselves; empty for these."""
    tuning_seeds: tuple[int, ...] | None = None
    """Instead of the study's; empty for these."""
    arms: tuple[str, ...] = ("*",)
    """Names or patterns of those that are kept."""
    experiments: tuple[str, ...] | None = None
    """Names or patterns; empty for all."""
    longer: PositiveFloat = 1.0
    """Multiplies the iterations of every arm."""
    override: dict[str, Any] = Field(default_factory=dict)
    """Keys of an arm, with the values that all whose method knows them have in place of their own."""
    evaluation: dict[str, Any] = Field(default_factory=dict)
    """Keys of the study's evaluation, with other values."""
    resources: dict[str, Any] = Field(default_factory=dict)
    """Keys of the study's resources, with other values."""
    quick: bool = False
    """Whether it is a first look, whose training is too short to judge a claim by."""
