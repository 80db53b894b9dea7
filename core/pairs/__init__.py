"""Forward mode by operator overloading, the value recorded by autograd and the tangent not.

A pair walks through an unmodified function in place of a tensor. Each operation on it runs once on
values, as it would without us, and once for the tangent, by a rule from `RULES`; what has no rule
goes to torch.func.jvp for that one operation, with a FallbackWarning. Cheaper than torch.func.jvp of the
whole function because weights have no tangents to add and the tangent's graph is never recorded.

`pair` is the mechanism, `evaluation` runs a function on pairs, `table` says which operation has which rule; the rules
stand by family in `linear`, `products`, `functions` and `kernels`.
"""

from trigbench.core.pairs.evaluation import evaluate, map_tensors
from trigbench.core.pairs.pair import (
    ASSIGNMENTS,
    BACKWARD,
    IN_PLACE,
    PAST_PAIRS,
    RULES,
    SHARED,
    UNLIKE,
    WHOLE,
    DetachWarning,
    Evaluation,
    FallbackWarning,
    NestingError,
    Pair,
    Rule,
    Spent,
    out_of_inference,
)
from trigbench.core.pairs.table import ELEMENTWISE, LINEAR, PLAIN, TABLE

__all__ = [
    "ASSIGNMENTS", "BACKWARD", "ELEMENTWISE", "IN_PLACE", "LINEAR", "PAST_PAIRS", "PLAIN", "RULES", "SHARED", "TABLE",
    "UNLIKE", "WHOLE", "DetachWarning", "Evaluation", "FallbackWarning", "NestingError", "Pair", "Rule", "Spent",
    "evaluate", "map_tensors", "out_of_inference",
]  # fmt: skip
