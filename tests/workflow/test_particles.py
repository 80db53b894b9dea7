"""Rows that are compared with each other stand in one part of a batch, or the study is refused."""

import pytest

from trigbench.core.objectives import OBJECTIVES
from trigbench.core.objectives.regression import settings_for
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.named import named
from trigbench.workflow.run.conformance.objectives import check_objective


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
    one_arm("imm", microbatch=8)
    one_arm("imm", particles=2, microbatch=6)
    one_arm("meanflow", batch=17, microbatch=3)


@pytest.mark.parametrize("name", [name for name, method in OBJECTIVES.items() if method.group])
def test_the_table_has_the_default_of_a_group_s_dataclass(name: str) -> None:
    method = OBJECTIVES[name]
    assert method.group is not None and method.group.setting in method.settings
    assert getattr(settings_for(named(method.path)), method.group.setting) == method.group.default


@pytest.mark.parametrize("particles", [3, 8])
def test_a_check_refuses_groups_that_its_rows_are_not_made_of(particles: int) -> None:
    with pytest.raises(BenchError, match=f"4 rows, which are no whole groups of {particles}") as found:
        check_objective(named(OBJECTIVES["imm"].path), {"particles": particles})
    assert found.value.said["remedy"] == "check it with particles: 1, 2 or 4"
