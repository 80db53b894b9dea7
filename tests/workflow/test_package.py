"""One name, trigbench: in the checkout, and from a wheel in an environment of its own."""

import ast
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import trigbench
from core.pairs import Pair
from tests.workflow.conftest import ROOT, copied_project
from trigbench import HOMES, _extras, _places, cli, homes
from trigbench._extras import EXTRAS, MissingExtra, need
from trigbench._places import in_checkout, to_step
from trigbench.commands.run import snakemake
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.errors import BenchError
from trigbench.workflow.machine.command import main
from trigbench.workflow.machine.named import imported
from trigbench.workflow.machine.provenance import _digest_of_files
from trigbench.workflow.report import publishing as publish_module
from trigbench.workflow.report.pages import wrong
from trigbench.workflow.study.fingerprint import data_fingerprint, fingerprint
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.study import Run

# --- names -------------------------------------------------------------------------------------------


def test_every_public_name_is_there_and_known_to_type_checkers_by_the_same_home() -> None:
    tree = ast.parse((ROOT / "trigbench/__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    known = {a.asname: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names if a.asname}
    public = homes()
    assert known == {
        name: home for name, home in (public | {"core": "trigbench", "workflow": "trigbench"}).items() if name in known
    }
    assert known.keys() >= HOMES.keys(), "the objectives, which stand in their table, have a type without a line"
    for name, home in public.items():
        found = getattr(trigbench, name)
        assert found is getattr(import_module(home), name) and found.__doc__, name
        assert f"{found.__module__}.".startswith(f"{home}."), "where it is defined"
    assert {*public, "core", "workflow", "__version__"} == {*dir(trigbench)}
    with pytest.raises(AttributeError, match="no attribute 'scdd'"):
        trigbench.scdd  # noqa: B018


def test_public_is_every_objective_of_the_table_and_what_the_examples_take_of_the_core() -> None:
    assert {name: method.path.partition(":")[0] for name, method in OBJECTIVES.items()}.items() <= homes().items()
    for path in (ROOT / "examples").glob("*.py"):
        imports = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert [module for module in imports if module and module.startswith("trigbench.core")] == [], path


WITHOUT_PAGE = {
    "trigbench.core": "stands for the checkout's short name and has none of its own",
    "trigbench.core.attention_triton": "the kernel of core.attention, where triton is",
    "trigbench.core.attention_triton_backward": "the gradient of that kernel",
    "trigbench.core.recomputing": "what bind does for checkpointed parts",
    "trigbench.core.holdings": "what core.forward_mode looks for before it evaluates",
    **{
        f"trigbench.core.audit.{part}": "a step of core.audit, which shows what it finds"
        for part in ("diagnose", "norms", "others", "probe", "split")
    },
    **{
        f"trigbench.core.pairs{part}": "a method of core.forward_mode"
        for part in ("", ".evaluation", ".functions", ".handing", ".kernels", ".linear", ".pair", ".products", ".table")
    },
    **{f"trigbench.core.networks.{part}": "what networks of images are made of" for part in ("images", "unet")},
}
"""Modules of the core that are parts of others with a page, and of which."""


def test_every_module_of_the_core_has_a_page_and_so_has_what_a_data_set_of_one_s_own_imports() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/api").glob("*.md"))
    tree = ast.parse((ROOT / "trigbench/templates/data.py").read_text())
    imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    public = {*homes().values(), *(module for module in imported if module and module.startswith("trigbench."))}
    rooms = [
        f"{room}." for room in re.findall(r"^::: (\S+)\n +options:\n +show_submodules: true$", pages, re.MULTILINE)
    ]
    files = [file for file in (ROOT / "core").rglob("*.py") if ast.parse(file.read_text(encoding="utf-8")).body[1:]]
    core = {".".join(["trigbench", *file.relative_to(ROOT).with_suffix("").parts]) for file in files}
    core = {module.removesuffix(".__init__") for module in core}
    shown = {*re.findall(r"^::: (\S+)$", pages, re.MULTILINE)}
    shown |= {module for module in core if module.startswith(tuple(rooms))}
    assert public | core - {*WITHOUT_PAGE} == shown & (public | core) and {*WITHOUT_PAGE} <= core


def test_a_class_is_the_same_by_its_short_name() -> None:
    assert Pair is import_module("trigbench.core.pairs").Pair is import_module("core.pairs").Pair
    for name in ("core", "core.objectives.continuous", "workflow", "workflow.steps.train", "workflow.study.study"):
        short, whole = import_module(name), import_module(f"trigbench.{name}")
        assert short is whole and short.__spec__ is not None and short.__spec__.name == f"trigbench.{name}"
    with pytest.raises(ModuleNotFoundError, match=r"core\.nothing"):
        import_module("core.nothing")


SHORT = re.compile(
    r"^\s*(?:- )?(?:from|import) (?:core|workflow)\b.*|-m workflow\b|[\"'](?:core|workflow)(?:\.\w+)+:", re.MULTILINE
)


def test_no_module_says_the_short_name_which_may_be_somebody_else_s() -> None:
    short = ["import core.pairs", "  from workflow import own", "'core.a:b'", "python -m workflow.x"]
    assert len(SHORT.findall("\n".join([*short, "from .core import a", "import cored"]))) == len(short)
    files = [path for room in ("core", "workflow", "examples", "benchmarks") for path in (ROOT / room).rglob("*.*")]
    files += [ROOT / "Snakefile", *(ROOT / "trigbench").rglob("*.py"), *(ROOT / "profiles").rglob("*.yaml")]
    read = {path: path.read_text(encoding="utf-8") for path in files if path.suffix in ("", ".py", ".smk", ".yaml")}
    read.pop(ROOT / "trigbench/_short.py")  # which is about them
    assert len(read) > 150
    assert {str(path): found for path, text in read.items() if (found := SHORT.findall(text))} == {}


def test_no_message_says_it_either() -> None:
    """An error that tells one to take core.condition.Condition is of no use where no `core` is installed."""
    names = "|".join(f"{room}\\.{path.stem}" for room in ("core", "workflow") for path in (ROOT / room).glob("[a-z]*"))
    short, found = re.compile(rf"(?<![\w./-])(?:{names})\b"), []
    assert short.findall("a core.condition.Condition, no trigbench.core.condition or core.quotepath") == [
        "core.condition"
    ]
    for path in [
        path for room in ("core", "workflow", "examples", "benchmarks") for path in (ROOT / room).rglob("*.py")
    ]:
        found += [f"{path}:{line}" for line, text in _texts(path) if short.search(text)]
    assert found == []


@functools.cache
def _texts(path: Path) -> list[tuple[int, str]]:
    """(line, text) of every text in a module that is more than a comment."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    comments = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in comments]
    return [(node.lineno, node.value) for node in texts if isinstance(node.value, str)]


def test_a_message_names_pages_where_they_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "mend it (docs/data.md); docs/methods/rcm.md says how"
    monkeypatch.chdir(ROOT)
    assert str(BenchError("wrong", remedy=text)).endswith(text), "at the top of a checkout one sees them"
    monkeypatch.chdir(tmp_path)
    error = BenchError("see docs/own.md", remedy=text)
    named = re.findall(r"\S+\.md", str(error).replace("(", ""))
    assert [Path(page).is_absolute() and Path(page).is_file() for page in named] == [True] * 3
    assert _places.with_pages(str(error)) == str(error), "and not twice"


def test_pages_that_messages_name_are_there() -> None:
    texts = [path.read_text(encoding="utf-8") for room in ("core", "workflow") for path in (ROOT / room).rglob("*.py")]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "trigbench").glob("commands/*.py")]
    pages = {page for text in texts for page in _places.PAGE.findall(text)}
    assert len(pages) > 10 and [page for page in pages if not (ROOT / page).is_file()] == []


def _python(code: str, cwd: Path, path: Path, python: Path | str = sys.executable) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_checkout_without_links_still_imports_under_both_names(tmp_path: Path) -> None:
    """As on Windows, where git writes the links as small files."""
    for part in ("trigbench", "core"):
        shutil.copytree(ROOT / part, tmp_path / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for link in ("core", "workflow", "docs", "Snakefile", "profiles"):
        (tmp_path / "trigbench" / link).unlink()
        (tmp_path / "trigbench" / link).write_text(f"../{link}")
    _python("import core.objectives as a, trigbench.core.objectives as b; assert a is b", tmp_path, tmp_path)


# --- the command -------------------------------------------------------------------------------------


def _said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, object]:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    said = capsys.readouterr()
    return said.out + said.err, ended.value.code


def test_the_command_says_its_version_and_what_may_follow(capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "--version") == (f"trigbench {trigbench.__version__}\n", 0)
    assert "make a study" in _said(capsys, "--help")[0]
    assert "oracle dimension" in _said(capsys, "run", "--help")[0]
    assert _said(capsys)[1] == 2
    assert "remedy: there are run, list, show" in _said(capsys, "nothing")[0]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == trigbench.__version__
    release, _, state = re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0].partition(", ")
    assert trigbench.__version__ == (f"{release}.dev0" if state == "not released" else release)


def test_what_is_not_there_is_named_with_file_key_and_remedy_and_status_1() -> None:
    refused = {
        ("run", "nonsense"): ("nonsense.yaml", "one of: cifar10"),
        ("run", "orcle"): ("orcle.yaml", "did you mean 'oracle'?"),
        ("run", "oracle", "--budget", "smok"): ("oracle.yaml", "key:    budgets", "smoke"),
        ("run", "oracle", "dimensio"): ("oracle.yaml", "key:    PART", "did you mean 'dimension'"),
        ("run", "oracle", "claims/none-such"): ("oracle.yaml", "key:    PART", "remedy"),
    }
    for words, parts in refused.items():
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        said = str(ended.value.code)  # which Python prints, with status 1
        assert said.startswith("error: ") and "remedy: " in said, said
        for part in parts:
            assert part in said, said


def test_what_is_typed_wrong_has_its_key_and_a_remedy_too(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        ("rnu", "oracle"): "error: there is no command 'rnu'\n  remedy: did you mean 'run'?\n",
        ("run", "oracle", "--cores", "0"): (
            "error: '0' is no number of cores\n  key:    --cores\n  remedy: write a whole number, as 4\n"
        ),
        ("list", "--stdy", "oracle"): (
            "error: this command takes nothing of that name\n  key:    --stdy\n  remedy: did you mean '--study'?\n"
        ),
        ("run",): "error: something is missing\n  key:    STUDY\n  remedy: trigbench run --help says what it takes\n",
        ("audit", "scd", "--r", "x"): (
            "error: invalid float value: 'x'\n  key:    --r\n  remedy: trigbench audit --help says what it takes\n"
        ),
        ("list", "--", "all"): ("error: what follows -- is for Snakemake\n  remedy: give it to `trigbench run`\n"),
    }
    for words, said in wrong.items():
        assert _said(capsys, *words) == (said, 2), words
    assert "did you mean 'scd'" in str(_said(capsys, "audit", "scdd")[1])


def test_the_words_for_snakemake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda python, command: called.append(command[3:]))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    cli.main(["run", "oracle"])
    cli.main(["run", "oracle", "theory", "claims/two-steps-beat-one-scd", "--budget", "smoke", "-n", "--cores", "3",
              "--", "--quiet", "all"])  # fmt: skip
    cli.main(["run", "oracle", "--unlock"])
    whole, part, unlocked = called
    config = ["--snakefile", str(ROOT / "Snakefile"), "--config", "study=oracle"]
    profile = ["--workflow-profile", str(ROOT / "profiles/default")]
    assert whole == [*config, "budget=laptop", *profile]
    assert part[:2] == ["oracle-smoke/theory", "claims/two-steps-beat-one-scd"]
    assert part[2:] == [*config, "budget=smoke", *profile, "--cores", "3", "--dry-run", "--quiet", "all"]
    assert unlocked == [*whole, "--unlock"]
    assert os.environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent), "jobs say `python`"


def test_a_profile_where_one_starts_is_taken_and_a_cluster_s_settings_are_asked_for(
    slurm_plugin: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trigbench.workflow.machine.cluster.ROOT", tmp_path / "elsewhere")
    with pytest.raises(SystemExit, match=r"(?s)settings are missing.*remedy: mkdir -p profiles/slurm && cp "):
        cli.main(["run", "oracle", "--slurm"])
    for name, text in (("site.yaml", "jobs: 3"), ("config.yaml", "jobs: 3")):
        (tmp_path / "profiles/slurm").mkdir(parents=True, exist_ok=True)
        (tmp_path / "profiles/slurm" / name).write_text(text)
    arguments = cli.argparse.Namespace(slurm=True, cores=None, dry_run=False, unlock=False, parts=[])
    words = snakemake(load("oracle"), arguments)
    assert words[-2:] == ["--workflow-profile", "profiles/slurm"]


def test_messages_and_pages_name_the_command_that_works_in_the_folder_that_one_is_in(
    monkeypatch: pytest.MonkeyPatch, write_study, tiny, tmp_path: Path
) -> None:
    oracle, own = load("oracle", "smoke"), load(write_study(tiny))
    monkeypatch.chdir(ROOT)
    assert oracle.command("dimension") == "snakemake oracle-smoke/dimension --config budget=smoke"
    assert own.command("claims/mine") == f"snakemake claims/mine --config study={own.file}"
    assert wrong.wrong_page([], [], {}).command == "snakemake results/simulations.json"
    (tmp_path / "empty").mkdir()
    for place, its in (("empty", "of nothing"), ("other", "another workflow's Snakefile")):
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        if place == "other":
            Path("Snakefile").write_text("rule all:\n")
        assert not in_checkout() and oracle.command().startswith("trigbench run "), its
    said = [oracle.command("dimension"), own.command(), own.command("claims/mine")]
    assert said == [
        "trigbench run oracle dimension --budget smoke",
        f"trigbench run {own.file}",
        f"trigbench run {own.file} claims/mine",
    ]
    assert wrong.wrong_page([], [], {}).command == "trigbench run oracle -- results/simulations.json"
    assert to_step("report", "--study", "a b.yaml") == "python -m trigbench.workflow.steps.report --study 'a b.yaml'"


def test_every_remedy_that_names_a_command_takes_it_from_one_place() -> None:
    line = re.compile(r"\bsnakemake (?:-|\w+/|\w+ -)|python -m (?:trigbench\.)?workflow|python -m trigbench\.workflow")
    found = set[str]()
    for path in (path for room in ("core", "workflow", "trigbench") for path in (ROOT / room).rglob("*.py")):
        if any(line.search(text) for _, text in _texts(path)):
            found.add(path.relative_to(ROOT).as_posix())
    assert found == {"workflow/run/own.py"}, "which is no step"


def test_a_short_name_that_is_not_ours_is_named_and_results_are_published_in_a_checkout_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(BenchError, match=r"(?s)cannot import 'core.nothing'.*remedy: write trigbench.core.nothing"):
        imported("core.nothing", "sizes.small.network")
    monkeypatch.setattr(publish_module, "IS_CHECKOUT", False)
    for publish in (publish_module.publish_all, lambda: publish_module.publish(load("oracle", "full"))):
        with pytest.raises(BenchError, match=r"(?s)in a checkout.*remedy: clone"):
            publish()


# --- extras ------------------------------------------------------------------------------------------

MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn", "pillow": "PIL"}
NEEDED_NOT = {"torchvision", "nvidia-ml-py", "trigbench[train]"}  # what they serve does without


def test_the_table_of_extras_is_pyproject_s() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        names = [line.partition(">")[0] for line in said[extra] if line.partition(">")[0] not in NEEDED_NOT]
        assert {MODULES.get(name, name.replace("-", "_")) for name in names} == {*modules}, extra


def test_what_an_extra_brings_is_asked_for_by_the_line_to_type(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    need("workflow", "this")
    monkeypatch.setattr(_extras, "find_spec", lambda name: None if name == "pandas" else name)
    with pytest.raises(MissingExtra, match=r"(?s)^this needs pandas.*pip install 'trigbench\[workflow\]'$"):
        need("workflow", "this")

    def step(missing: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    with pytest.raises(SystemExit):
        main(lambda: step("sklearn.datasets"))
    assert "pip install 'trigbench[workflow]'\n  again:  no" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError, match="somebody_s"):
        main(lambda: step("somebody_s"))
    with pytest.raises(SystemExit, match=r"(?s)^error: trigbench run needs pandas.*\[workflow\]'$"):
        cli.main(["run", "oracle"])


# --- a wheel -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's, built from a copy of its files as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copied_project(folder / "source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, check=True)
    return next(folder.glob("trigbench-*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment of its own, in which another package has put a `core` and a `workflow`.

    The other libraries are those of the tests, without what is editable there.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (place,) = folder.glob("lib/python*/site-packages")
    pip = ["pip", "--python", str(folder / "bin/python"), "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", *pip, "--no-deps", "--no-index", "--no-compile", wheel], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for room in ("core", "workflow"):
        (place / room).mkdir()
        for name in ("__init__", "pairs", "study"):
            (place / room / f"{name}.py").write_text("THEIRS = True\n")
    (place / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # of whose .pth none is read
    return folder / "bin/python"


@pytest.fixture
def beside_own_core(tmp_path: Path) -> Path:
    """A folder with a `core` and a `workflow` of somebody's own."""
    for room in ("core", "workflow"):
        (tmp_path / room).mkdir()
        for name in ("__init__", "pairs", "study"):
            (tmp_path / room / f"{name}.py").write_text("MINE = True\n")
    return tmp_path


@pytest.mark.slow
def test_a_wheel_holds_trigbench_alone_and_all_that_a_workflow_needs(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"trigbench", f"{wheel.name.split('-py3')[0]}.dist-info"}
    inside = {name.removeprefix("trigbench/") for name in names}
    skipped = {"__pycache__", "site.yaml"}
    for part in ("core", "workflow", "docs", "profiles"):
        files = [path for path in (ROOT / part).rglob("*") if path.is_file() and not skipped & {*path.parts}]
        assert {path.relative_to(ROOT).as_posix() for path in files} - inside == set(), part
    assert {"py.typed", "Snakefile", "workflow/claims.yaml"} <= inside
    (commands,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "trigbench = trigbench.cli:main" in zipfile.ZipFile(wheel).read(commands).decode()


FROM_A_WHEEL = """
import json, sys
from importlib.machinery import PathFinder

study, *without = sys.argv[1:]
hidden, found = {"pydantic", "yaml", *without}, PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *place: None if name.partition(".")[0] in hidden else found(name, *place)
)

def refused(start):
    try:
        start()
    except (SystemExit, ImportError) as error:
        return str(error)

# with what the core needs
import core.pairs, workflow.pairs
import trigbench
from trigbench import scd, cli
for name in trigbench.homes():
    getattr(trigbench, name)
asked = [refused(lambda: cli.main(["run", "oracle"])), refused(lambda: __import__("trigbench.workflow.steps.train"))]

# with what a training step needs
hidden -= {"pydantic", "yaml"}
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.fingerprint import data_fingerprint, fingerprint
from trigbench.workflow.run.make import make_run
from trigbench.workflow.study.study import Run
oracle, own = load("oracle"), load(study)
record = make_run(own, Run(arm="scd", seed=0))
asked.append(refused(lambda: __import__("trigbench.workflow.report")))
print(json.dumps({
    "asked": asked,
    "theirs": [sorted(set(vars(module)) & {"MINE", "THEIRS"}) for module in (core.pairs, workflow.pairs)],
    "same": trigbench.core.objectives.continuous.scd is scd,
    "modules": sorted(module.__file__ for name, module in sys.modules.items() if name.startswith("trigbench")),
    "runs": [fingerprint(oracle.specification(run)) for run in oracle.runs()[:3]],
    "data": [data_fingerprint(oracle.data_specification(data)) for data in oracle.data],
    "own": record.fingerprint,
    "status": record.status,
    "provenance": record.provenance,
    "command": oracle.command(),
}))
"""


def _from_the_wheel(program: Path, here: Path, *words: str | Path) -> str:
    """What is printed by a program of that environment, of which nothing is activated."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PATH": os.defpath, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([program, *words], cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_makes_the_same_runs_beside_a_core_of_one_s_own_with_no_extra_but_what_training_needs(
    installed: Path, beside_own_core: Path, mixture: Path, tiny: dict, write_study, monkeypatch
) -> None:
    """Its command then makes the rest of the study there, to its report."""
    tiny["arms"] = {"scd": tiny["arms"]["scd"]}
    del tiny["experiments"]["discretisation"]
    study = load(write_study(tiny))
    shutil.copytree(mixture, beside_own_core / study.data_file("mixture").parent)
    hidden = {*EXTRAS["workflow"], *EXTRAS["cluster"], "torchvision", "pynvml", "diffusers", "triton"}
    said = _from_the_wheel(installed, beside_own_core, "-W", "ignore", "-c", FROM_A_WHEEL, study.file, *hidden)
    found = json.loads(said.splitlines()[-1])
    remedies = [said.splitlines()[-1] for said in found["asked"]]
    assert remedies == [f"  remedy: pip install 'trigbench[{extra}]'" for extra in ("workflow", "train", "workflow")]
    assert found["theirs"] == [["MINE"], ["MINE"]] and found["same"]
    inside = str(installed.parents[1])
    assert len(found["modules"]) > 50 and all(path.startswith(inside) for path in found["modules"])
    monkeypatch.chdir(beside_own_core)
    oracle = load("oracle")
    assert found["runs"] == [fingerprint(oracle.specification(run)) for run in oracle.runs()[:3]]
    assert found["data"] == [data_fingerprint(oracle.data_specification(data)) for data in oracle.data]
    assert (found["own"], found["status"]) == (fingerprint(study.specification(Run(arm="scd", seed=0))), "finished")
    origin = found["provenance"]
    assert origin["commit"] is None and origin["version"] == trigbench.__version__
    assert origin["source"] == _digest_of_files(ROOT), "by what all files hold, which git would say in a checkout"
    assert found["command"] == "trigbench run oracle"
    record = study.files(Run(arm="scd", seed=0)).metrics
    made = record.stat().st_mtime_ns
    said = _from_the_wheel(
        installed.with_name("trigbench"), beside_own_core, "run", study.file, "--cores", "1", "--", str(study.report)
    )
    assert record.stat().st_mtime_ns == made, said
    assert "A study for tests" in study.report.read_text() and study.made.origin.is_file()


@pytest.mark.slow
def test_from_a_wheel_the_smoke_of_the_oracle_is_planned_in_an_empty_folder_to_its_report(
    installed: Path, tmp_path: Path
) -> None:
    """What it ends in is tested in the checkout, whose rules and steps are the same files."""
    words = ("run", "oracle", "--budget", "smoke", "-n", "--", "-p")
    plan = _from_the_wheel(installed, tmp_path, "-m", "trigbench", *words)
    assert "oracle-smoke: scd-fp32, seed 0" in plan and "front page of the reports" in plan
    assert "python -m trigbench.workflow.steps.run --study" in plan
    assert str(installed.parents[1]) in plan and str(ROOT / "workflow") not in plan
    assert {path.name for path in tmp_path.iterdir()} <= {".snakemake"}


@pytest.mark.slow
def test_an_editable_install_is_ours_beside_an_own_core(beside_own_core: Path) -> None:
    """Its finder gives `trigbench`, and nothing else of the checkout is on the path."""
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("trigbench", {str(ROOT / "trigbench/__init__.py")!r})
sys.modules["trigbench"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import core.pairs, trigbench.core.objectives, trigbench.workflow.study
assert core.pairs.MINE and "MINE" not in vars(trigbench.workflow.study)
print(trigbench.core.objectives.__file__)
"""
    assert Path(_python(code, beside_own_core, Path()).strip()).is_relative_to(ROOT)
