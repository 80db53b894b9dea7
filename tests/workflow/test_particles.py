"""Rows that are compared with each other stand in one part of a batch, or the study is refused."""

import pytest

from trigbench.core.objectives.moment_matching import IMMSettings
from trigbench.workflow.errors import BenchError
from trigbench.workflow.study.arms import PARTICLES


@pytest.mark.parametrize(
    ("told", "key", "said"),
    [
        ({"batch": 18}, "batch", "18 rows are no multiple of the 4 particles.*write 16"),
        ({"microbatch": 6}, "microbatch", "6 rows are no multiple of the 4 particles.*write 4"),
        ({"particles": 32}, "batch", "16 rows are no multiple of the 32 particles.*write 32"),
    ],
)
def test_a_batch_that_is_not_of_whole_groups_is_refused_before_anything_is_computed(told, key, said, one_arm) -> None:
    with pytest.raises(BenchError, match=rf"(?s){said}.*process") as found:
        one_arm("imm", **told)
    assert found.value.said["key"] == f"arms.x.{key}"


def test_whole_groups_are_taken_and_other_methods_have_none(one_arm) -> None:
    assert IMMSettings().particles == PARTICLES
    one_arm("imm", microbatch=8)
    one_arm("imm", particles=2, microbatch=6)
    one_arm("meanflow", batch=17, microbatch=3)
