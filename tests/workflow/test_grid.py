"""Networks, objectives and precisions together: every two of them. benchmarks/grid.py is the whole grid."""

from pathlib import Path

import pytest
import yaml

from benchmarks import grid
from tests.pairwise import pairwise
from tests.workflow.conftest import made_by_one
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.errors import BenchError
from trigbench.workflow.run.assembly import PRECISIONS
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(made_by_one(tmp_path_factory, "grid", grid.grid_study) / "grid.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("network", grid.NETWORKS)
def test_a_step_has_a_gradient_of_numbers_for_every_two_of_network_objective_and_precision(
    network: str, study: Study
) -> None:
    for _, objective, precision in (
        row
        for row in pairwise(grid.NETWORKS, OBJECTIVES, PRECISIONS, allowed=grid.can_be_computed)
        if row[0] == network
    ):
        gradient = grid.gradient_of_a_step(study, network, objective, precision)
        assert all(part.isfinite().all() for part in gradient), (objective, precision)
        assert any(part.any() for part in gradient), (objective, precision)


@pytest.mark.slow
@pytest.mark.parametrize("objective", grid.OWN_FORWARD_MODE)
def test_what_is_left_out_of_the_grid_is_what_torch_refuses(objective: str, study: Study) -> None:
    with pytest.raises(RuntimeError, match="Input type"):
        grid.gradient_of_a_step(study, "ddpmpp", objective, "bf16")
    assert grid.gradient_of_a_step(study, "edm2", objective, "bf16")


REFUSED = {
    "lsd": ({}, "write fp32"), "tvm": ({}, "write fp32"),
    "scd": ({"tangent_method": "func", "teacher": "teacher-ddpmpp"}, "tangent_precision"),
}  # fmt: skip


@pytest.mark.parametrize("objective", REFUSED)
def test_what_torch_would_refuse_at_the_first_step_is_refused_in_reading(objective: str, tmp_path: Path) -> None:
    said, remedy = REFUSED[objective]

    def read(size: str = "ddpmpp", **more: str) -> Study:
        content = grid.content() | {"arms": {
            "teacher-ddpmpp": {"objective": "diffusion", "size": "ddpmpp"},
            "x": {"objective": objective, "size": size, "precision": "bf16", **said, **more},
        }}  # fmt: skip
        (tmp_path / "grid.yaml").write_text(yaml.safe_dump(content))
        return load(tmp_path / "grid.yaml")

    with pytest.raises(BenchError, match=rf"key: *arms.x.precision(.|\n)*{remedy}"):
        read()
    assert read("edm2") and read(precision="fp32")
    if "tangent_method" in said:
        assert read(tangent_precision="fp32")
