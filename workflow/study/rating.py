"""What a rate's candidate is rated by: all that tuning reads of its record."""

from trigbench.workflow.study.records import RunRecord
from trigbench.workflow.study.study import Study


def ratings(study: Study, record: RunRecord) -> list[float | None]:
    """The study's tuning metric, of the map, or of samples by the fewest steps of the arm's main sampler; of each the
    first counts, and None is no number."""
    main = [way for way in study.samplings(record.arm) if way.sampler == study.samplers_of(record.arm)[0]]
    fewest = min(main, key=lambda way: way.steps).columns.items()
    judged = [value for value in record.metrics if value.metric == study.tuning_metric]
    return [value.value for value in judged if value.steps is None or fewest <= value.model_dump().items()]
