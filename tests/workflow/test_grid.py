"""Networks, objectives and precisions together: every two of them. benchmarks/grid.py is the whole grid."""

import pytest

from benchmarks import grid
from tests.pairwise import pairwise
from tests.workflow.conftest import made_by_one
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.run.assembly import PRECISIONS
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(made_by_one(tmp_path_factory, "grid", grid.grid_study) / "grid.yaml")


@pytest.mark.parametrize("network", grid.NETWORKS)
def test_a_step_has_a_gradient_of_numbers_for_every_two_of_network_objective_and_precision(
    network: str, study: Study
) -> None:
    for _, objective, precision in (
        row for row in pairwise(grid.NETWORKS, OBJECTIVES, PRECISIONS) if row[0] == network
    ):
        gradient = grid.gradient_of_a_step(study, network, objective, precision)
        assert all(part.isfinite().all() for part in gradient), (objective, precision)
        assert any(part.any() for part in gradient), (objective, precision)


@pytest.mark.parametrize("objective", grid.OWN_FORWARD_MODE)
def test_what_is_left_out_of_the_grid_is_what_torch_refuses(objective: str, study: Study) -> None:
    with pytest.raises(RuntimeError, match="Input type"):
        grid.gradient_of_a_step(study, "ddpmpp", objective, "bf16")
