"""What a rate's candidate is rated by: all that tuning reads of its record."""

from trigbench.workflow.study.records import RunRecord
from trigbench.workflow.study.study import Study


def ratings(study: Study, record: RunRecord, steps: int | None) -> list[float | None]:
    """The study's tuning metric, of the map, or of samples by so many steps (None for the fewest) of the arm's main
    sampler; of each the first counts, and None is no number."""
    ways = study.main_samplings(record.arm)
    asked = next(way for way in ways if way.steps == (steps or ways[0].steps)).columns.items()
    judged = [value for value in record.metrics if value.metric == study.tuning_metric]
    return [value.value for value in judged if value.steps is None or asked <= value.model_dump().items()]
