"""Which arms of two studies are one, whatever they are called: plain data of all that decides their numbers."""

from collections.abc import Mapping
from typing import Any

APART = {
    "tuning", "samplers", "snapshots", "rate_of", "rate_steps", "microbatch", "sharded",
    "data", "size", "teacher", "start",
}  # fmt: skip
"""Keys of an arm that decide none of its numbers, or that name what is described in full."""


def described(settings: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """All that an arm of a study's settings (as provenance.json has them) is set to, with its data, network, teacher
    and start in place of their names. A tuned rate is left out: it is known when the run is."""
    arms = settings["arms"]
    own = {key: value for key, value in arms[arm].items() if key not in APART}
    if arms[arm].get("rate_of"):
        del own["rate"]

    def other(name: Any) -> Any:
        return described(settings, name) if isinstance(name, str) and name in arms else name

    own |= {"sigma_d": settings["sigma_d"], "data": settings["data"][arms[arm]["data"]]}
    own |= {"size": settings["sizes"][arms[arm]["size"]]}
    return own | {key: other(arms[arm].get(key)) for key in ("teacher", "start")}


def is_alike(one: Any, two: Any) -> bool:
    """Whether two descriptions agree in all that both have: what a version of the schema lacks, it did not set."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return all(is_alike(one[key], two[key]) for key in one.keys() & two.keys())
    return one == two
