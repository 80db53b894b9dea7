"""claims.json has a schema, by which it is written and read."""

import json
from pathlib import Path

import pytest

from trigbench.workflow.claims.verdict_records import VerdictRecord, read_verdicts, write_verdicts
from trigbench.workflow.errors import BenchError

KNOWN = VerdictRecord(
    claim="one", paper="sCM", place="Fig. 1", study="tiny", verdict="reproduced", effect=0.5, low=0.1,
    high=float("inf"), p=None, seeds=3, note="", topic="steps", results_commit="a", experiment="e",
    smallest_effect=0.1, direction="less", scale="ratio", rule_commit=None, rule_first=None, metric="map_rms",
    rule={"of": ["a"]}, arms=["a"], effects={"0": 0.5, "1": float("nan")}, says="so", labels={},
    published={"FID": 2.0}, erratum=None, caveat=None, needs=None,
)  # fmt: skip


def test_verdicts_are_read_as_they_were_written_and_no_number_is_none(tmp_path: Path) -> None:
    file = tmp_path / "claims.json"
    assert read_verdicts(file) == []
    write_verdicts(file, [KNOWN])
    assert read_verdicts(file) == [KNOWN.model_copy(update={"high": None, "effects": {"0": 0.5, "1": None}})]


@pytest.mark.parametrize("change", [{"verdict": None}, {"more": 1}])
def test_verdicts_of_another_schema_are_named(change: dict, tmp_path: Path) -> None:
    file = tmp_path / "claims.json"
    file.write_text(json.dumps([KNOWN.model_dump(mode="json") | change]))
    with pytest.raises(BenchError, match=rf"(?s)not a study's verdicts.*claims\.json.*{next(iter(change))}.*judge the"):
        read_verdicts(file)
