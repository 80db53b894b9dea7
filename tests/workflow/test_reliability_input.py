"""Nothing that is loaded is executed, and whatever a study or a checkpoint holds, the answer is a clear one."""

import ast
import contextlib
import copy
import io
import pickle
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workflow.conftest import ROOT, TINY, snakemake, step
from tests.workflow.test_convert import Intruder
from trigbench.workflow.claims.tables import read_table, write_table
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine import checkpoints
from trigbench.workflow.machine.files import read_arrays, read_json, sha256, write_arrays, write_json
from trigbench.workflow.machine.tensors import read_tensors, write_tensors
from trigbench.workflow.study.checks import TAKEN
from trigbench.workflow.study.places import STUDIES
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Study

# --- nothing is executed --------------------------------------------------------------------------


def _traps(folder: Path) -> tuple[Path, dict[str, bytes]]:
    """(the file that any of them would make, contents that make it when they are unpickled)."""
    trace = folder / "trace"
    objects = np.array([Intruder(trace)], dtype=object)
    made = {"a pickle": pickle.dumps(Intruder(trace))}
    for name, write in (
        (".npz with objects", lambda f: np.savez(f, a=objects)),
        (".npy with objects", lambda f: np.save(f, objects, allow_pickle=True)),
        ("torch's zip", lambda f: torch.save(Intruder(trace), f)),
    ):
        buffer = io.BytesIO()
        write(buffer)
        made[name] = buffer.getvalue()
    return trace, made


@pytest.mark.parametrize("name", ["a pickle", ".npz with objects", ".npy with objects", "torch's zip"])
def test_a_pickle_in_a_data_file_weights_or_a_checkpoint_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    trace, traps = _traps(tmp_path)
    assert pickle.loads(traps["a pickle"]) is None  # it would work
    assert trace.exists()
    trace.unlink()
    for reader, suffix in ((read_arrays, "npz"), (read_tensors, "safetensors"), (read_json, "json")):
        path = tmp_path / f"trap.{suffix}"
        path.write_bytes(traps[name])
        with pytest.raises(BenchError) as refusal:
            reader(path, "make it again")
        assert str(path) in str(refusal.value)
    checkpoints.save(tmp_path, "f", 10, {"w": torch.ones(2)}, {})
    assert checkpoints.newest(tmp_path, "f") is not None
    (seal,), (checkpoint,) = tmp_path.glob("step-*.json"), tmp_path.glob("step-*.safetensors")
    checkpoint.write_bytes(traps[name])
    write_json(seal, read_json(seal, "") | {"files": {checkpoint.name: sha256(checkpoint)}})
    assert checkpoints.newest(tmp_path, "f") is None
    assert not trace.exists()


def test_code_in_a_study_is_refused_and_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "study.yaml"
    path.write_text(f"study: !!python/object/apply:os.system ['touch {trace}']\n")
    with pytest.raises(BenchError, match="not valid YAML"):
        load(path)
    assert not trace.exists()


@pytest.mark.slow
def test_a_step_that_meets_a_pickle_says_which_file_it_is(tiny: dict, write_study, tmp_path: Path) -> None:
    study = load(write_study(tiny))
    trace, traps = _traps(tmp_path)
    data = tmp_path / study.data_file("mixture")
    data.parent.mkdir(parents=True)
    data.write_bytes(traps[".npz with objects"])
    done = step("run", "--study", study.file, "--arm", "scd", "--seed", "0", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert str(study.data_file("mixture")) in done.stderr
    assert "allow_pickle=False" in done.stderr
    assert not trace.exists()


FORBIDDEN = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "joblib.load", "shelve.open",
    "pd.read_pickle", "pandas.read_pickle", "yaml.unsafe_load", "yaml.full_load", "eval", "exec",
}  # fmt: skip
REQUIRED = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def _unsafe_calls(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            key, value = REQUIRED.get(name, ("", None))
            given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            if name in FORBIDDEN or (key and given.get(key) is not value):
                yield f"line {node.lineno}: {name}"


@pytest.mark.slow
def test_no_source_file_loads_in_a_way_that_runs_code() -> None:
    for bad in ("pickle.loads(x)", "torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x)", "eval(x)"):
        assert list(_unsafe_calls(bad)), bad
    packages = ("core", "workflow", "examples", "benchmarks")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    assert not {str(path): found for path in files if (found := list(_unsafe_calls(path.read_text(encoding="utf-8"))))}


# --- studies with anything in them ----------------------------------------------------------------

WORDS = st.sampled_from(
    ["", "exact", "{", "{batch.real}", "{nothing}", "{0}", "a:b:c", "..x:y", "math:pi", "é漢\u202e", "2024-02-30", "<<",
     "none", "../..", "a b", "index", "all", "x" * 300, "*", "[", "trigbench.core.networks.dit:Nothing"]
)  # fmt: skip
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 10**400, 1e308, float("inf"), float("nan")]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS, st.text(max_size=6))
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=4
)


def _places(content: object) -> Iterator[tuple[dict | list, object]]:
    """Every (container, key) of nested mappings and lists."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        assert isinstance(content, dict | list)
        yield content, key
        yield from _places(value)


def _mutate(data: st.DataObject, content: dict) -> None:
    """One change anywhere: another value, no value, another name, a key more."""
    places = list(_places(content))
    container, key = places[data.draw(st.integers(0, len(places) - 1))]
    what = data.draw(st.sampled_from(["replace", "remove", "rename", "add"]))
    if what == "remove":
        container.pop(key)  # type: ignore[call-overload, arg-type]
    elif what == "replace" or isinstance(container, list):
        container[key] = data.draw(JUNK)  # type: ignore[index, call-overload]
    else:
        value = container.pop(key) if what == "rename" else data.draw(JUNK)
        container[data.draw(SCALARS)] = value


OF_THE_WHOLE_FILE = ("not valid YAML", "is a mapping of keys", "cannot read a study")
TAGS = (b"!!timestamp ", b"!!int ", b"!!bool ", b"&a *a ")


def _is_study_or_clear(path: Path, budget: str) -> None:
    try:
        study = load(path, budget)
    except BenchError as error:
        said = str(error)
        assert str(path) in said and "remedy:" in said, said
        assert "key:" in said or any(whole in said for whole in OF_THE_WHOLE_FILE), said
        return
    assert isinstance(study, Study)
    assert all(run.arm in study.arms for run in study.runs())


CONTENTS = {name: yaml.safe_load((STUDIES / f"{name}.yaml").read_text()) for name in ("oracle", "digits")}
CONTENTS["tiny"] = TINY


@pytest.mark.slow
@pytest.mark.parametrize(("name", "examples"), [("oracle", 100), ("digits", 100), ("tiny", 400)])
def test_a_study_with_anything_in_it_is_valid_or_refused_by_file_and_key(
    name: str, examples: int, tmp_path: Path
) -> None:
    path = tmp_path / "größer.yaml"

    @settings(max_examples=examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        content = copy.deepcopy(CONTENTS[name])
        for _ in range(data.draw(st.integers(1, 3))):
            _mutate(data, content)
        path.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False), encoding="utf-8")
        _is_study_or_clear(path, data.draw(st.sampled_from(["laptop", "smoke", "full"])))

    check()


@pytest.mark.slow
@settings(max_examples=200)
@given(st.data())
def test_a_study_with_damaged_text_is_valid_or_refused_by_file(data: st.DataObject) -> None:
    text = bytearray(yaml.safe_dump(TINY, sort_keys=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        new = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from(TAGS)))
        text[at : at + data.draw(st.integers(0, 3))] = new
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_bytes(text)
        _is_study_or_clear(path, "laptop")


def test_tables_read_names_as_text(tmp_path: Path) -> None:
    names = ["NA", "null", "nan", "None", "007", "1.50", "1e3", "True", "2024-01-30"]
    columns = dict.fromkeys(("arm", "size", "study", "sampler", "sampling", "times"), names)
    written = pd.DataFrame(columns | {"seed": range(9), "value": [float("inf"), None, *range(7)], "teacher": None})
    write_table(written, tmp_path / "runs.csv")
    found = read_table(tmp_path / "runs.csv")
    assert all(list(found[column]) == names for column in columns)
    for name in ("007", "1.50", "1e3", "True"):  # a column of nothing else
        write_table(pd.DataFrame({column: [name] for column in columns}), tmp_path / "one.csv")
        assert set(read_table(tmp_path / "one.csv").iloc[0]) == {name}
    assert list(found.seed) == list(range(9))
    assert found.value[0] == float("inf") and found.value.isna()[1] and found.value.dtype == float
    assert found.teacher.isna().all()


def test_no_study_may_take_the_name_of_a_rule() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    names = re.findall(r"^rule (\w+):", rules + (ROOT / "Snakefile").read_text(), re.MULTILINE)
    assert "run" in names
    assert set(names) <= TAKEN


def test_a_data_set_that_cannot_be_imported_is_named(tiny: dict, write_study, tmp_path: Path) -> None:
    tiny["data"]["mixture"] = {"kind": "own", "module": "nowhere.to_be_found"}
    tiny["arms"] = {"sct": {"objective": "sct"}}
    tiny["experiments"]["training"]["arms"] = ["sct"]
    done = step("prepare", "--study", write_study(tiny), "--data", "mixture", cwd=tmp_path, check=False)
    assert done.returncode == 2
    for part in ("cannot import 'nowhere.to_be_found'", "key:    data", "install it"):
        assert part in done.stderr


@pytest.mark.slow
def test_studies_that_would_share_a_name_are_refused(tiny: dict, write_study, tmp_path: Path) -> None:
    one = write_study(tiny)
    other = shutil.copy(one, tmp_path / "other.yaml")
    done = snakemake("-n", "--config", f"study={one},{other}", cwd=tmp_path, check=False)
    assert done.returncode == 1
    for part in (f"{one} is called 'tiny' too", str(other), "key:    study", "another name"):
        assert part in done.stdout


# --- files with anything in them ------------------------------------------------------------------

STATES = {
    step: {
        "parameters/w": torch.linspace(-1, step, 24).reshape(4, 6),
        "half": torch.full((3,), step / 7, dtype=torch.bfloat16),
        "steps/w": torch.tensor(step),
        "empty": torch.empty(0, 2),
    }
    for step in (10, 20)
}
JOURNALS = {step: {"rows": [[step, 0.1 * step]], "seconds": step / 3} for step in STATES}


def _flip(data: st.DataObject, content: bytes, most: int) -> bytes:
    flipped = bytearray(content)
    for _ in range(data.draw(st.integers(1, most))):
        flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    return bytes(flipped)


def _damage(data: st.DataObject, folder: Path) -> None:
    """Something that a disk, a full quota or a careless hand does to one or two of the files."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files:
        return
    one, other = (files[data.draw(st.integers(0, len(files) - 1))] for _ in range(2))
    content = one.read_bytes()
    match data.draw(st.sampled_from(["flip", "cut", "swap", "copy", "remove", "empty", "append"])):
        case "flip" if content:
            one.write_bytes(_flip(data, content, most=4))
        case "cut":
            one.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        case "swap":
            one.write_bytes(other.read_bytes())
            other.write_bytes(content)
        case "copy":
            other.write_bytes(content)
        case "remove":
            one.unlink()
        case "empty":
            one.write_bytes(bytes(len(content)))
        case "append":
            one.write_bytes(content + data.draw(st.binary(max_size=8)))


def _same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_a_checkpoint_with_anything_in_it_is_the_saved_state_an_older_one_or_none(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for step_, tensors in STATES.items():
            checkpoints.save(folder, "f", step_, tensors, JOURNALS[step_])
        for _ in range(data.draw(st.integers(1, 3))):
            _damage(data, folder)
        with contextlib.redirect_stderr(io.StringIO()):
            found = checkpoints.newest(folder, "f")
        assert found is None or (_same(found.tensors, STATES[found.step]) and found.journal == JOURNALS[found.step])


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_a_result_with_a_flipped_bit_or_cut_short_is_what_was_written_or_refused(data: st.DataObject) -> None:
    arrays = {"few-1": np.linspace(0, 1, 40).reshape(20, 2), "few-2-t1.1": np.ones((20, 2), np.float32)}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file.npz"  # numpy appends this suffix where it is not
        write, read, same = data.draw(st.sampled_from([
            (lambda: write_tensors(path, STATES[20]), read_tensors, lambda found: _same(found, STATES[20])),
            (lambda: write_arrays(path, arrays), read_arrays,
             lambda found: found.keys() == arrays.keys() and all(np.array_equal(found[k], arrays[k]) for k in arrays)),
            (lambda: write_json(path, JOURNALS[20]), read_json, lambda found: found == JOURNALS[20]),
        ]))  # fmt: skip
        write()
        content = path.read_bytes()
        cut = data.draw(st.booleans())
        damaged = content[: data.draw(st.integers(0, len(content) - 1))] if cut else _flip(data, content, most=1)
        path.write_bytes(damaged)
        try:
            found = read(path, "make it again")
        except BenchError as error:
            assert str(path) in str(error)
        else:
            assert same(found)
