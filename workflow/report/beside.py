"""What a measurement has left to be seen, beside its numbers."""

from typing import Any

from trigbench.workflow.machine.files import read_json
from trigbench.workflow.study.study import Study


def left_to_see(study: Study, experiment: str, what: str) -> list[dict[str, Any]]:
    """`strips`, `paths` or `scenes` (workflow.run.measurements.measured); nothing where an experiment has none."""
    path = study.made.measured(experiment)
    if study.experiments[experiment].measurement is None or not path.is_file():
        return []
    return read_json(path, f"delete it; {study.command(experiment)} makes it again").get(what, [])
