"""What makes a finished run stale, and what leaves it fresh."""

import ast
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workflow.conftest import as_a_new_process, copied_project
from trigbench.workflow.data.kinds.mixture import kind as mixture
from trigbench.workflow.errors import BenchError
from trigbench.workflow.study import fingerprint as module
from trigbench.workflow.study.fingerprint import Marks, fingerprint, marks, source_digest
from trigbench.workflow.study.kinds import KINDS, kind_named
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run
from trigbench.workflow.study.syntax import syntax_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the project's source that may be edited."""
    return copied_project(tmp_path)


def _edit(source: Path, file: str, old: str, new: str) -> None:
    path = source / file
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {file}"
    path.write_text(text.replace(old, new, 1))


@contextmanager
def _edited(source: Path, file: str, old: str, new: str) -> Iterator[None]:
    """As `_edit`, as long as it lasts."""
    before = (source / file).read_text()
    _edit(source, file, old, new)
    try:
        yield
    finally:
        (source / file).write_text(before)


@pytest.fixture(scope="module")
def unedited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Marks]]:
    """A copy of the project's source that every test leaves as it was, and the marks of it."""
    source = copied_project(tmp_path_factory.mktemp("unedited"))
    return source, _marks(source)


def _marks(source: Path) -> dict[str, Marks]:
    as_a_new_process()
    oracle, digits = load("oracle"), load("digits")
    runs = {"scd": (oracle, "scd-fp32"), "dscd": (oracle, "dscd-8-fp32"), "digits": (digits, "sct-m")}
    return {name: marks(s.specification(Run(arm=arm, seed=0)), source) for name, (s, arm) in runs.items()}


def _stale(before: Marks, after: Marks) -> list[str]:
    """The parts of a run that are made again."""
    return [part for part, mark in vars(before).items() if mark != vars(after)[part]]


WHOLE, SAMPLED, JUDGED = ["training", "sampling", "evaluation"], ["sampling", "evaluation"], ["evaluation"]


HARMLESS = {
    "a comment": (
        "core/tangents.py",
        "from trigbench.core.forward_mode",
        "# a remark\nfrom trigbench.core.forward_mode",
    ),
    "a docstring": ("core/objectives/continuous.py", '"""Continuous-time', '"""The continuous-time'),
    "layout": ("core/trigflow.py", "return c * x0 + s * z", "return (\n        c * x0 + s * z\n    )"),
    "the table of objectives": (
        "core/objectives/__init__.py",
        "OBJECTIVES: dict[str, Method] = {",
        'OBJECTIVES: dict[str, Method] = {\n    "mine": Method("trigbench.core.objectives.mine:mine"),',
    ),
    "a method's look": ("core/objectives/__init__.py", '"#0072B2"', '"#0072B3"'),
    "the report": ("workflow/report/style.py", '"#777777"', '"#787878"'),
    "the schema": ("workflow/study/study.py", 'DEFAULT_BUDGET = "laptop"', 'DEFAULT_BUDGET = "desk"'),
    "a step's command line": ("workflow/steps/train.py", "minutes after which", "minutes at which"),
    "a message of a loader": ("workflow/machine/named.py", "start the workflow where", "start it where"),
    "a progress message": ("workflow/machine/progress.py", "about {duration", "roughly {duration"),
}
OF_DIGITS = "trigbench.workflow.data.kinds.digits.classifier"
"""Judges them alone, at home with their kind."""
EVERY = {"scd", "dscd", "digits"}
MATHEMATICS = {
    "the tangent": ("core/tangents.py", "-c * c * (F - v)", "-c * (F - v)", EVERY, WHOLE),
    "an objective of its own": ("core/objectives/discrete.py", "return Direction(F_t, c * quotient)",
                                "return Direction(F_t, quotient)", {"dscd"}, WHOLE),
    "the network": ("core/networks/mlp.py", "1 + scale", "2 + scale", EVERY, WHOLE),
    "the training step": ("workflow/run/settings.py", "tangent_warmup(step - 1,", "tangent_warmup(step,", EVERY, WHOLE),
    "what is drawn of one kind of data": ("workflow/data/kinds/digits/draws.py", "/ sigma_d", "* sigma_d",
                                          {"digits"}, WHOLE),
    "the sampler": ("core/samplers/consistency.py", "interpolate(sample, z, t)", "interpolate(z, sample, t)",
                    EVERY, SAMPLED),
    "a solver of the ODE": ("core/samplers/ode.py", "u, ratio=1.0)", "u, ratio=0.9)", EVERY, SAMPLED),
    "how samples are drawn": ("workflow/run/sampling.py", "BATCH, LARGEST = 1000,", "BATCH, LARGEST = 1001,",
                              EVERY, SAMPLED),
    "the judge of one kind of data": ("workflow/data/kinds/digits/classifier.py", "epochs=30", "epochs=31",
                                      {"digits"}, JUDGED),
    "a metric": ("workflow/data/kinds/mixture/making.py", "float(together.norm(dim=-1).max())",
                 "float(together.norm(dim=-1).min())", {"scd", "dscd"}, JUDGED),
    "what is judged of every run": ("workflow/run/evaluation.py", "torch.linspace(0.05,", "torch.linspace(0.06,",
                                    EVERY, JUDGED),
}  # fmt: skip
"""File, what stands there, what in its place, the runs that use it, and which of their parts are then stale."""


@pytest.mark.slow
@pytest.mark.parametrize("what", HARMLESS)
def test_editing_what_decides_no_number_leaves_every_run_fresh(
    what: str, unedited: tuple[Path, dict[str, Marks]]
) -> None:
    source, before = unedited
    with _edited(source, *HARMLESS[what]):
        assert _marks(source) == before


@pytest.mark.slow
@pytest.mark.parametrize("what", MATHEMATICS)
def test_editing_the_mathematics_makes_the_runs_that_use_it_stale_and_no_other(
    what: str, unedited: tuple[Path, dict[str, Marks]]
) -> None:
    (source, before), (file, old, new, stale, parts) = unedited, MATHEMATICS[what]
    with _edited(source, file, old, new):
        after = _marks(source)
    assert {name for name in before if before[name] != after[name]} == stale
    assert all(_stale(before[name], after[name]) == parts for name in stale)


def test_a_metric_more_that_a_kind_s_judge_is_asked_for_trains_and_draws_nothing(
    tiny: dict, write_study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its judge has had it since an earlier edit."""
    study, run = load(write_study(tiny)), Run(arm="scd", seed=0)
    before = marks(study.specification(run))
    metrics = {"map": (), "samples": ("sliced_wasserstein", "another")}
    known = dataclasses.replace(mixture.MIXTURE.known(study.data["mixture"]), metrics=metrics)
    monkeypatch.setattr(mixture, "MIXTURE", dataclasses.replace(mixture.MIXTURE, known=lambda data: known))
    assert _stale(before, marks(study.specification(run))) == JUDGED


@pytest.mark.slow
def test_adding_an_objective_touches_no_finished_run(source: Path) -> None:
    before = _marks(source)
    shutil.copy(source / "core/objectives/diffusion.py", source / "core/objectives/mine.py")
    _edit(source, *HARMLESS["the table of objectives"])
    assert _marks(source) == before


SAID: dict[str, tuple[Callable[[dict], object], list[str]]] = {
    "the rate": (lambda study: study["arms"]["scd"].update(rate=2e-3), WHOLE),
    "the data": (lambda study: study["data"]["mixture"].update(std=0.6), WHOLE),
    "a sampler": (lambda study: study["arms"]["scd"].update(samplers=["few", "three"]), SAMPLED),
    "a sampler's times": (lambda study: study["samplers"]["two"].update(times=[[1.0]]), SAMPLED),
    "the number of samples": (lambda study: study["evaluation"].update(samples=65), SAMPLED),
    "the seed of samples": (lambda study: study["evaluation"].update(seed=1), SAMPLED),
    "a metric": (lambda study: study["samplers"]["two"].update(metrics=["sliced_wasserstein"]), JUDGED),
    "the samples of snapshots": (lambda study: study["evaluation"].update(snapshot_samples=32), JUDGED),
    "what only judges look at": (lambda study: study["data"]["mixture"].update(evaluation_points=64), JUDGED),
    "the experiment": (lambda study: study["experiments"]["training"].update(title="Another"), []),
}
"""An edit of a study, and which parts of its run it makes stale."""


@pytest.mark.parametrize("what", SAID)
def test_what_a_study_says_of_sampling_and_judging_trains_nothing_again(what: str, tiny: dict, write_study) -> None:
    tiny["samplers"] = {name: {"solver": "few", "times": [[1.1]]} for name in ("two", "three")}
    tiny["arms"]["scd"]["samplers"] = ["two"]
    student = {"objective": "scd", "teacher": "teacher", "samplers": ["two"]}
    tiny["arms"] |= {"teacher": {"objective": "diffusion"}, "student": student}
    run, before = Run(arm="scd", seed=0), load(write_study(tiny))
    change, parts = SAID[what]
    change(tiny)
    after = load(write_study(tiny))
    assert _stale(marks(before.specification(run)), marks(after.specification(run))) == parts


def test_students_and_tuned_runs_are_of_the_weights_of_others_alone(tiny: dict, write_study) -> None:
    tiny["samplers"] = {"more": {"solver": "heun", "evaluations": [5]}, "three": {"solver": "few", "times": [[1.2]]}}
    tiny["tuning_seeds"], tiny["tuning_metric"] = [7], "map_rms"
    tiny["arms"] = {
        "teacher": {"objective": "diffusion"},
        "student": {"objective": "scd", "teacher": "teacher", "start": "teacher"},
        "candidate": {"objective": "sct", "tuning": True},
        "tuned": {"objective": "sct", "rate_of": "candidate"},
    }
    tiny["experiments"] = {"training": tiny["experiments"]["training"] | {"arms": ["*"]}}
    runs, before = [Run(arm=arm, seed=0) for arm in ("student", "tuned")], load(write_study(tiny))
    tiny["arms"]["teacher"]["samplers"], tiny["arms"]["candidate"]["samplers"] = ["more"], ["few", "three"]
    after = load(write_study(tiny))
    assert [fingerprint(after.specification(r)) for r in runs] == [fingerprint(before.specification(r)) for r in runs]
    tiny["arms"]["teacher"]["rate"] = 2e-3
    other = load(write_study(tiny))
    assert fingerprint(other.specification(runs[0])) != fingerprint(before.specification(runs[0]))


def _followed(source: Path, modules: tuple[str, ...]) -> set[str]:
    """The project's modules that are hashed."""
    as_a_new_process()
    read, real = set[str](), module.syntax_digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "syntax_digest", lambda path, name: (read.add(name), real(path, name))[1])
        source_digest(modules, str(source), str(source))
    return read


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "own"])
def test_what_judges_is_not_hashed_into_weights_nor_what_samples(kind: str) -> None:
    known = kind_named(kind)
    trained = _followed(ROOT, (module.TRAINING, str(known.draws)))
    judges = {name for name in trained if ".data.features" in name or name in (known.module, OF_DIGITS)}
    assert not judges and not trained & {module.SAMPLING, module.EVALUATION, "trigbench.workflow.run.sampling"}
    assert "trigbench.core.samplers.consistency" not in trained
    assert known.judging <= known.schema.model_fields.keys() and known.drawn


def test_a_key_that_does_not_apply_is_no_part_of_a_run() -> None:
    specification = load("oracle").specification(Run(arm="scd-fp32", seed=0))
    assert "intervals" not in specification["arm"]
    assert specification["arm"]["proposal_mean"] == -1.0, "a default counts: changing it changes the numbers"


# --- what computes nothing ----------------------------------------------------------------------------

HASHED = {name: f"workflow/run/{name}.py" for name in ("training", "gradients", "distributed")}
STEP_MODULES = ("trigbench.workflow.run.training", "trigbench.core.objectives.continuous")


def _text(source: str, module: str = "trigbench.workflow.run.training") -> str:
    return syntax_of(ast.parse(source), module).text


SAYING = {
    "an error's text": (
        "gradients",
        'f"{world.size} processes cannot share a batch of {arm.batch}"',
        'f"{arm.batch} is too few"',
    ),
    "a remedy by its name": ("gradients", '"start fewer processes"', '"take fewer"'),
    "a remedy given to a reader": (
        "training",
        'f"train it first: {other.arm} seed {other.seed}"',
        '"teach first"',
    ),
    "what is printed": (
        "training",
        'f"resuming {loop.task.run.arm} seed {loop.task.seed} from step {first}"',
        'f"going on from {first}"',
    ),
    "an annotation": (
        "training",
        "def _train(task: Task, world: World, stop_now: StopNow)",
        "def _train(task: Task, world: object, stop_now: StopNow)",
    ),
    "an annotation of a result": (
        "gradients",
        "def loss_scale(arm: Arm, numbers: int) -> float:",
        "def loss_scale(arm: Arm, numbers: int) -> int:",
    ),
    "an annotation of a variable": ("gradients", "gradients: list[Tensor] = []", "gradients: list = []"),
    "an import for annotations": (
        "training",
        "from trigbench.workflow.study.schema import Arm\n",
        "from trigbench.workflow.study.schema import Arm, Model\n",
    ),
}


@pytest.mark.parametrize("what", SAYING)
def test_editing_what_is_said_and_not_computed_leaves_a_module_as_it_was(what: str) -> None:
    name, old, new = SAYING[what]
    source = (ROOT / HASHED[name]).read_text(encoding="utf-8")
    assert source.count(old) >= 1, old
    assert _text(source.replace(old, new, 1)) == _text(source)


def _computing(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may decide a number: none in a text or an annotation."""
    if isinstance(tree, ast.JoinedStr):
        return
    yield tree
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _computing(child)


def _operators(tree: ast.AST) -> list[str]:
    kinds = (ast.operator, ast.unaryop, ast.cmpop, ast.boolop)
    return [type(node).__name__ for node in _computing(tree) if isinstance(node, kinds)]


@pytest.mark.parametrize("name", ["training", "gradients", "distributed"])
def test_every_number_attribute_and_operator_that_computes_counts(name: str) -> None:
    module = "trigbench." + HASHED[name].removesuffix(".py").replace("/", ".")
    tree, marks = ast.parse((ROOT / HASHED[name]).read_text(encoding="utf-8")), list[str]()
    operators = _operators(tree)
    for number, node in enumerate(_computing(tree)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            node.value = 1_000_000 + number
            marks.append(str(node.value))
        elif isinstance(node, ast.Attribute):
            node.attr = f"mark_{number}_"
            marks.append(node.attr)
    text = syntax_of(tree, module).text
    assert len(marks) > 50 and len(operators) > 5
    assert [mark for mark in marks if mark not in text] == []
    kinds = "|".join({*operators})
    assert Counter(re.findall(rf"\b({kinds})\(\)", text)) >= Counter(operators)
    assert _operators(tree) == operators, "of which the text is written"


SAME = {
    "a variable that is only annotated": ("def f():\n    x: int\n    return 1", "def f():\n    return 1"),
    "a module's variable": ("x: int = 1", "x = 1"),
    "a name that is given a text for another": (
        'def f():\n    a = "one"\n    b = f"{a} two"\n    raise ValueError(b)',
        'def f():\n    a = "1"\n    b = f"{a} three"\n    raise ValueError(b)',
    ),
    "what is printed by own code": ('print("one")', 'print("two")'),
    "what own code warns of": ('warnings.warn("one")', 'warnings.warn("two")'),
    "what types alone need": ("if TYPE_CHECKING:\n    from a import b", "if TYPE_CHECKING:\n    from a import c"),
}


@pytest.mark.parametrize("what", SAME)
def test_what_computes_nothing_does_not_count(what: str) -> None:
    one, other = SAME[what]
    assert _text(one, "mine") == _text(other, "mine")


SEEN = {
    "a number in a message that acts": ("print(next(draws) + 1)", "print(next(draws) + 2)"),
    "a call in a text that acts": ('print(f"{x.add_(1)}")', 'print(f"{x.add_(2)}")'),
    "a name that is shown and used": ('def f(x):\n    a = "one"\n    print(a)\n    return x[a]',
                                      'def f(x):\n    a = "two"\n    print(a)\n    return x[a]'),
    "a name that another function reads": ('def f():\n    global a\n    a = "one"\n    print(a)',
                                           'def f():\n    global a\n    a = "two"\n    print(a)'),
    "an exception that carries a value": ('def f():\n    raise Found("one")', 'def f():\n    raise Found("two")'),
    "the fields of a class": ("class A:\n    x: int = 1", "class A:\n    x: float = 1"),
    "annotations that a decorator may read": ("@register\ndef f(x: int): ...", "@register\ndef f(x: float): ..."),
    "a default of an argument": ("def f(x: int = 1): ...", "def f(x: int = 2): ..."),
    "a reader of one's own": ('x = read_arrays(f, "one")', 'x = read_arrays(f, "two")'),
    "what is called warn and gives a value": ('x = warn("one")', 'x = warn("two")'),
    "what is called warn and may do a thing": ('warn("one")', 'warn("two")'),
    "an import that another module takes": ("from torch import float64 as d", "from torch import float32 as d"),
    "a help text of one's own parser": ('p.add_argument("-a", help="1")', 'p.add_argument("-a", help="2")'),
    "an import for what it does": ("import mine_that_acts", "import others_that_act"),
}  # fmt: skip


@pytest.mark.parametrize("what", SEEN)
def test_what_looks_like_a_message_or_an_annotation_and_computes_counts(what: str) -> None:
    one, other = SEEN[what]
    assert _text(one, "mine") != _text(other, "mine")


EVERY_MODULE = """
import hashlib, importlib.util, json, sys
from pathlib import Path
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: found(name) or name in ("pydantic", "yaml")  # of which reading takes none
from trigbench.workflow.study.syntax import read_syntax
found = {}
folders = ("core", "workflow/data", "workflow/run")
for path in sorted(path for folder in folders for path in Path(folder).rglob("*.py")):
    text = read_syntax(path, "trigbench." + path.with_suffix("").as_posix().replace("/", ".")).text
    found[path.as_posix()] = hashlib.sha256(text.encode()).hexdigest()
print(json.dumps(found))
"""


def _every_module(python: str | Path) -> dict[str, str]:
    done = subprocess.run([python, "-c", EVERY_MODULE], cwd=ROOT, capture_output=True, check=True)
    return json.loads(done.stdout)


def _python(version: str) -> Path | None:
    found = shutil.which(f"python{version}")
    return next(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), Path(found) if found else None)


@pytest.mark.slow
def test_every_python_reads_the_same_in_what_is_hashed() -> None:
    """So that results from elsewhere are as fresh as they were there."""
    others = [v for v in ("3.11", "3.12", "3.13", "3.14") if v != f"{sys.version_info[0]}.{sys.version_info[1]}"]
    if not (pythons := [python for version in others if (python := _python(version))]):
        pytest.skip("no other Python here")
    here = _every_module(sys.executable)
    assert len(here) > 80
    for python in pythons:
        there = _every_module(python)
        assert [name for name in here if here[name] != there[name]] == [], python


# --- one's own code -----------------------------------------------------------------------------------

OWN = {
    "from .parts import": {"pack/__init__.py": "", "pack/net.py": "from .parts import f", "pack/parts.py": "f = 1"},
    "from . import": {"pack/__init__.py": "", "pack/net.py": "from . import parts", "pack/parts.py": "f = 1"},
    "from .. import": {
        "pack/__init__.py": "",
        "pack/net.py": "from .deep.a import b",
        "pack/deep/a.py": "from ..parts import b",
        "pack/parts.py": "b = 1",
    },
    "from .. import a module": {
        "pack/net.py": "from .deep import a",
        "pack/deep/a.py": "from .. import parts",
        "pack/parts.py": "b = 1",
    },
    "the package itself": {"pack/__init__.py": "from pack.parts import f", "pack/net.py": "", "pack/parts.py": "f = 1"},
    "a star": {"pack/net.py": "from .parts import *", "pack/parts.py": "f = 1"},
    "a sibling in the folder": {"pack/net.py": "import sibling", "sibling.py": "f = 1"},
    "a sibling of a sibling": {
        "pack/net.py": "import sibling",
        "sibling.py": "from other.deep import f",
        "other/deep.py": "f = 1",
    },
    "import_module": {
        "pack/net.py": "import importlib\nx = importlib.import_module('other.deep')",
        "other/deep.py": "f = 1",
    },
    "import_module, relative": {
        "pack/net.py": "from importlib import import_module\nx = import_module('.parts', __package__)",
        "pack/parts.py": "f = 1",
    },
    "import_module, in a package": {
        "pack/net.py": "from importlib import import_module\nx = import_module('.deep', 'other')",
        "other/deep.py": "f = 1",
    },
    "inside a function": {"pack/net.py": "def f():\n    from .parts import f", "pack/parts.py": "f = 1"},
}
"""How the network `pack.net` reaches the last file."""


@pytest.mark.parametrize("how", OWN)
def test_own_code_is_followed_however_it_is_reached(how: str, tmp_path: Path) -> None:
    for name, text in OWN[how].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    as_a_new_process()
    before = source_digest(("pack.net",), str(ROOT), str(tmp_path))
    last = tmp_path / list(OWN[how])[-1]
    last.write_text(last.read_text().replace("1", "2"))
    as_a_new_process()
    assert source_digest(("pack.net",), str(ROOT), str(tmp_path)) != before


def test_a_re_export_is_followed_and_own_code_on_the_python_path_too(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("from .parts import Net")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    marks = set()
    for width in range(3):
        (tmp_path / "pack/parts.py").write_text(f"Net = {width}")
        as_a_new_process()
        marks.add(source_digest(("pack",), str(ROOT), "/"))
    assert len(marks) == 3


def test_own_code_before_the_project_s_of_that_name_counts_as_python_imports_it(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    marks = {source_digest(("examples.own_network",), str(ROOT), "/")}
    for width in range(2):
        (tmp_path / "examples/own_network.py").write_text(f"width = {width}")
        as_a_new_process()
        marks.add(source_digest(("examples.own_network",), str(ROOT), str(tmp_path)))
    assert len(marks) == 3


def test_own_code_that_is_installed_from_elsewhere_counts_with_its_package(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "src/installed_from_elsewhere"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("import json, numpy\nfrom .parts import width")
    monkeypatch.syspath_prepend(package.parent)
    marks = {source_digest((), str(ROOT), "/")}
    for width in range(2):
        (package / "parts.py").write_text(f"width = {width}")
        as_a_new_process()
        marks.add(source_digest(("installed_from_elsewhere.net",), str(ROOT), "/"))
    assert len(marks) == 3


def test_own_code_in_any_encoding_is_read_by_what_it_says_and_broken_code_is_named(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    marks = set()
    for name, letter in (("utf-8", "ä"), ("latin-1", "ä"), ("utf-8", "ö")):
        own.write_bytes(f"# -*- coding: {name} -*-\nx = '{letter}'".encode(name))
        as_a_new_process()
        marks.add(source_digest(("own",), str(ROOT), str(tmp_path)))
    assert len(marks) == 2, "the same letters are the same source"
    own.write_text("def f(:")
    as_a_new_process()
    with pytest.raises(BenchError, match=r"(?s)cannot read the source.*own\.py"):
        source_digest(("own",), str(ROOT), str(tmp_path))


FACE = {
    "a name": "from trigbench import scd",
    "a name by another": "from trigbench import scd as mine",
    "the package": "import trigbench as tb\nx = tb.scd",
    "a room": "import trigbench.core.fields\nx = trigbench.scd",
    "all names": "from trigbench import *",
    "import_module": "from importlib import import_module\nx = import_module('trigbench').scd",
    "its home": "from trigbench.core.objectives.continuous import scd",
    "the checkout's short name": "from core.objectives.continuous import scd",
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("how", FACE)
def test_own_code_is_followed_through_the_public_names_to_where_they_are_defined(
    how: str, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(FACE[how])
    as_a_new_process()
    before = source_digest(("mine",), str(source), str(tmp_path))
    _edit(source, "core/tangents.py", "-c * c * (F - v)", "-c * (F - v)")
    as_a_new_process()
    assert source_digest(("mine",), str(source), str(tmp_path)) != before
    _edit(source, "core/objectives/lineage.py", "def ", "def another(): ...\n\n\ndef ")
    as_a_new_process()
    followed_alone = source_digest(("mine",), str(source), str(tmp_path))
    _edit(source, "core/objectives/lineage.py", "def another(): ...\n\n\n", "")
    as_a_new_process()
    other = source_digest(("mine",), str(source), str(tmp_path)) != followed_alone
    assert other == (how in ("the package", "a room", "all names", "import_module")), "what is not used counts nothing"


def test_a_core_of_one_s_own_is_one_s_own(source: Path, tmp_path: Path) -> None:
    here, marks = tmp_path / "here", set()
    (here / "core").mkdir(parents=True)
    (here / "core/__init__.py").write_text("")
    (here / "mine.py").write_text("from core.pairs import f")
    for value in range(2):
        (here / "core/pairs.py").write_text(f"f = {value}")
        as_a_new_process()
        marks.add(source_digest(("mine",), str(source), str(here)))
    _edit(source, "core/pairs/__init__.py", "import", "x = 1\nimport")
    as_a_new_process()
    assert len(marks) == 2 and source_digest(("mine",), str(source), str(here)) in marks


def test_libraries_beside_an_installed_trigbench_are_not_one_s_own(source: Path, tmp_path: Path) -> None:
    """Nor is a `core` that another package has put there."""
    installed, here = tmp_path / "site-packages", tmp_path / "here"
    shutil.copytree(source / "trigbench", installed / "trigbench")
    for library in ("core", "torch"):
        (installed / library).mkdir()
        (installed / library / "__init__.py").write_text("a = 1")
    here.mkdir()
    (here / "mine.py").write_text("import torch\nfrom core import a\nfrom trigbench import scd")
    as_a_new_process()
    before = source_digest(("mine",), str(installed), str(here))
    for library in ("core", "torch"):
        (installed / library / "__init__.py").write_text("a = 2")
    as_a_new_process()
    assert source_digest(("mine",), str(installed), str(here)) == before
    runs = {name: source_digest((*STEP_MODULES,), str(root), str(here)) for name, root in
            (("checkout", source), ("installed", installed))}  # fmt: skip
    assert runs["checkout"] == runs["installed"]
