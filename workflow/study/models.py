"""What the schemas of a study are made of: the model that they share, the names that may stand in them."""

from collections.abc import Iterable
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from trigbench._nearest import among
from trigbench.workflow.errors import Mistake
from trigbench.workflow.machine.plain import resolved

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$"
"""Of what becomes part of a path."""
Name = Annotated[str, Field(pattern=NAME)]
Seed = Annotated[int, Field(ge=0, le=2**53)]
"""Tables hold it as a number that other programs read as a float."""
Settings = Annotated[dict[str, Any], BeforeValidator(resolved)]
"""Of somebody's own code, whose types the schema does not know."""

PATH = r"^[\w.]+:\w+$"
"""Of what stands elsewhere, `package.module:name`."""


FLOAT32_MAX = 3.4e38


class Model(BaseModel):
    """Frozen, closed to unknown keys and to numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, given: Any) -> Any:
        """Pydantic takes true for 1."""
        for name, value in given.items() if isinstance(given, dict) else ():
            listed = value if isinstance(value, list) else [value]
            if not any(one is True or one is False for one in listed):
                continue
            hint = cls.model_fields[name].annotation if name in cls.model_fields else bool
            if bool not in (hint, *get_args(hint)):
                raise Mistake(f"{name}: {name!r} cannot be true or false", remedy="write a number, or text in quotes")
        return given


class DataSettings(Model):
    """Of a data set; each kind (workflow.study.kinds) has keys of its own."""

    kind: str


def strange(value: Any) -> str | None:
    """What to write instead of a number that float32 cannot hold, in which networks compute; None for all else."""
    held = not isinstance(value, float) or abs(value) <= FLOAT32_MAX  # which NaN is not
    return None if held else f"a number of {FLOAT32_MAX:g} at most"


def unfit(what: str, needed: bool, key: str) -> Mistake:
    """Of a key that is missing where it is needed, or set where nothing uses it."""
    return Mistake(f"{what} {'needs' if needed else 'takes no'} {key!r}", "add it" if needed else f"remove {key!r}")


def check_known(key: str, name: str, table: Iterable[str]) -> None:
    """Raise Mistake unless the table has the name."""
    known = list(table)
    if name not in known:
        raise Mistake(f"{key}: {name!r} is unknown", among(name, known, f"there are {', '.join(known)}"))
