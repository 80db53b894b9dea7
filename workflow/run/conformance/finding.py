"""What a check of somebody's part found: passed, failed, or that it does not apply; each with the reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from trigbench.workflow.data.randomness import seeded
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import problem_of

T = TypeVar("T")
Outcome = Literal["passed", "failed", "does not apply"]
Check = Callable[[], str]
"""Returns what holds, or raises: Fault, Unfit, or whatever the part raises."""


@dataclass(frozen=True)
class Finding:
    """Of one check."""

    check: str
    state: Outcome
    said: str
    remedy: str = ""
    """Of a failed one."""


class Fault(Exception):
    """What is wrong, and its remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


class Unfit(Exception):
    """Why a check does not apply."""


def findings(checks: Mapping[str, Check], first: str | None = None) -> list[Finding]:
    """Every check's finding, in order; where the one called `first` fails, those after it do not apply."""
    found: list[Finding] = []
    for name, check in checks.items():
        if any(one.check == first and one.state == "failed" for one in found):
            found.append(Finding(name, "does not apply", f"{first!r} failed"))
        else:
            found.append(_finding(name, check))
    return found


def _finding(name: str, check: Check) -> Finding:
    try:
        return Finding(name, "passed", check())
    except Fault as fault:
        return Finding(name, "failed", str(fault), fault.remedy)
    except Unfit as reason:
        return Finding(name, "does not apply", str(reason))
    except BenchError as error:
        return Finding(name, "failed", str(error.said["problem"]), str(error.said["remedy"]))
    except (Exception, SystemExit) as error:
        return Finding(name, "failed", f"it raises {problem_of(error)}", "mend it at that line")


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, NaN for NaN."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())


def by_chance(make: Callable[[], T], seed: int) -> T:
    """What is made while the global generators of torch, NumPy and Python stand at that seed; they are put back."""
    with seeded("conformance", seed):
        return make()
