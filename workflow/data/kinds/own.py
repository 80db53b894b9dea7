"""Data sets of one's own, as far as plans and pages know them: their module knows the rest."""

from typing import Literal

from pydantic import Field

from trigbench.workflow.study.kinds import DataKind, Known
from trigbench.workflow.study.models import DataSettings, Settings


class OwnData(DataSettings):
    """Somebody's own: a module as workflow.study.kinds describes, importable from where one starts."""

    kind: Literal["own"]
    module: str
    settings: Settings = Field(default_factory=dict)
    """Whatever the module's `prepare` wants."""


OWN = DataKind(OwnData, lambda data: Known("A data set of one's own."), module=None, exact=True)
