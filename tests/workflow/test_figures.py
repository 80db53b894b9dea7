"""Every kind of figure is drawn from whole, thin and broken results, and shows what it must."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tests.workflow.made_up import STUDY, make_results, tabulated
from tests.workflow.synthetic import rows_of
from trigbench.core.objectives import OBJECTIVES
from trigbench.workflow.claims.statistics import COLUMNS, summary
from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.claims.verdicts import DECIDED
from trigbench.workflow.errors import BenchError
from trigbench.workflow.report import pictures
from trigbench.workflow.report.drawing import WIDTH
from trigbench.workflow.report.kinds import kind_of
from trigbench.workflow.report.matrix import draw_matrix
from trigbench.workflow.report.pages.charts import main_chart
from trigbench.workflow.report.pages.common import ASSETS
from trigbench.workflow.report.pages.study import study_page
from trigbench.workflow.report.plotting import plot
from trigbench.workflow.report.rows import arm_of
from trigbench.workflow.report.style import VERDICTS, apply_style, save
from trigbench.workflow.report.words import NOTHING
from trigbench.workflow.study import figures
from trigbench.workflow.study.figures import FIGURES, FigureKind
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import Sampler
from trigbench.workflow.study.study import Run, Study

SHOWN = ("cifar10", "imagenet64", "imagenet512", "oracle", "digits", "editing", "speech", "uses")
STUDIES = {name: load(name) for name in SHOWN}
ONE_OF_EACH_KIND = {
    experiment.figure: (study, name) for study in STUDIES.values() for name, experiment in study.experiments.items()
}
PLACES = {
    (experiment.figure, study.study): (label, name)
    for label, study in STUDIES.items()
    for name, experiment in study.experiments.items()
}
"""Of each kind of figure one experiment of each study."""


@pytest.fixture(autouse=True)
def _styled():
    apply_style()
    yield
    plt.close("all")


def drawn(
    study: Study, name: str, tables: tuple[pd.DataFrame, pd.DataFrame], laid_out: bool = True
) -> tuple[Figure, str]:
    """Figure and finding, as the workflow's step makes them, which lays figures out, too: half of the time."""
    settings = study.experiments[name]
    kind = kind_of(settings.figure)
    shown = kind.shown(settings, *tables)
    figure = kind.draw(settings, *shown)
    if not laid_out:
        figure.set_layout_engine("none")
    figure.draw_without_rendering()
    return figure, kind.say(settings, *shown)


def crosses(figure: Figure) -> int:
    return sum(c.get_label() == "a run diverged" for ax in figure.axes for c in ax.collections)


def sound(sentence: str) -> bool:
    return sentence.endswith(".") and not {"nan", "NaN", "inf"} & set(sentence.replace(",", " ").split())


def test_the_shipped_studies_draw_every_kind() -> None:
    assert set(ONE_OF_EACH_KIND) == set(FIGURES)


OUTSIDE = '''
"""How far the seeds of an arm lie apart."""

from trigbench.workflow.report.drawing import panels
from trigbench.workflow.report.kinds import Along, Kind
from trigbench.workflow.report.rows import results


def draw(experiment, runs, curves, known):
    figure, (ax,) = panels(1, 3)
    spread = results(runs, experiment.metric).groupby("arm").value.std()
    ax.barh(spread.index, spread)
    ax.set_xlabel(f"spread of the {known[experiment.metric].title}")
    return figure


def say(experiment, runs, curves, known):
    spread = results(runs, experiment.metric).groupby("arm").value.std()
    return f"Seeds lie farthest apart for {spread.idxmax()}."


AXIS = Along("seed", "seed", False, ("arm", "steps"))
KIND = Kind(draw, say, "{label} of each seed, and how far they lie apart.", AXIS)
'''


@pytest.mark.slow
def test_a_kind_of_figure_is_one_file_and_its_line_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kind_from_outside.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FIGURES, "spread", FigureKind("kind_from_outside:KIND"))  # nothing else is touched
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY.replace("figure: methods", "figure: spread"))
    study = load(tmp_path / "tiny.yaml")
    make_results(study, study.runs())
    tabulated(study)
    plot(study, "one_and_two")
    page = study_page(study).experiments[0]
    assert page.finding == ["Seeds lie farthest apart for discrete-8."]
    assert page.figure is not None and page.chart is not None
    assert "spread of the sliced Wasserstein" in (study.made.experiment("one_and_two").figure).read_text()
    assert page.figure.caption.startswith("Sliced Wasserstein distance of each seed, and how far")
    assert [(line.name, len(line.points)) for line in page.chart.series][:2] == [
        ("continuous, 1 step", 3), ("continuous, 2 steps", 3),
    ]  # fmt: skip


def test_no_code_knows_a_kind_of_figure_by_name_but_the_table() -> None:
    own = ("map_error", "memorisation", "quality_curves", "tangents")  # no other words of ours
    assert set(own) < set(FIGURES)
    root, found = Path(figures.__file__).parents[1], set[str]()
    for path in (path for path in root.rglob("*") if path.suffix in (".py", ".smk", ".rst", ".j2", ".js")):
        text = path.read_text(encoding="utf-8")
        found |= {path.name for name in own if re.search(rf"[\"'`]{name}[\"'`]", text)}
        found |= {path.name for _ in re.finditer(r"\.figure (==|!=|in|not in) ", text)}
    assert found == {"figures.py"}


@pytest.mark.one_in(49)
@pytest.mark.parametrize("place", PLACES.values(), ids="-".join)
def test_every_experiment_is_drawn_from_whole_results(place: tuple[str, str]) -> None:
    study, name = STUDIES[place[0]], place[1]
    figure, sentence = drawn(study, name, rows_of(study, name))
    assert figure.get_figwidth() <= WIDTH
    assert not crosses(figure)
    assert "no finite value" not in [text.get_text() for ax in figure.axes for text in ax.texts]
    assert sentence != NOTHING
    assert sound(sentence)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("how", ["one seed", "one arm diverged", "all diverged", "arms missing", "nothing"])
def test_every_kind_survives_thin_and_broken_results_and_a_diverged_run_is_a_cross(kind: str, how: str) -> None:
    study, name = ONE_OF_EACH_KIND[kind]
    arms = study.arms_of(name)
    lost = [arm for arm in arms if study.arms[arm].objective != "diffusion"][-1]
    if kind == "discretisation":
        lost = next(arm for arm in arms if study.arms[arm].intervals)
    tables = {
        "one seed": lambda: rows_of(study, name, seeds=(0,)),
        "one arm diverged": lambda: rows_of(study, name, diverged=[lost]),
        "all diverged": lambda: rows_of(study, name, diverged=["*"]),
        "arms missing": lambda: rows_of(study, name, missing=arms[:-1]),
        "nothing": lambda: (pd.DataFrame(columns=COLUMNS), pd.DataFrame(columns=CURVE_COLUMNS)),
    }[how]()
    figure, sentence = drawn(study, name, tables, laid_out=how == "one arm diverged")
    assert figure.axes
    assert sound(sentence)
    assert crosses(figure) or how != "one arm diverged"


@pytest.mark.slow
def test_no_line_or_chart_of_a_guided_study_averages_over_scales() -> None:
    study = STUDIES["imagenet512"]
    for name, experiment in study.experiments.items():
        runs, curves = kind_of(experiment.figure).shown(experiment, *rows_of(study, name, seeds=(0,)))
        assert set(curves.groupby(["arm", "metric", "steps", "x"], dropna=False).size()) == {1}, name
        if experiment.figure != "guidance":
            ways = ["arm", "metric", "steps", "sampler", "mid_time"]
            assert set(runs[runs.objective != "data"].groupby(ways, dropna=False).size()) == {1}, name


def sampled_in_more_ways(study: Study, name: str) -> Study:
    """Where every few-step arm of the experiment is sampled by a second sampler, too: some ways differ little."""
    mine = Sampler(solver="few", times=((), (0.8,), (1.1, 0.8), (1.1, 0.05)))
    arms, shown = dict(study.arms), study.experiments[name].samplers
    for arm in study.arms_of(name):
        if arms[arm].method.sampler == "few" and not arms[arm].guidance_max:
            arms[arm] = arms[arm].model_copy(update={"samplers": (study.samplers_of(arm)[0], "mine")})
            shown = (*shown, study.samplers_of(arm)[0], "mine")
        elif not study.experiments[name].samplers:
            shown = (*shown, study.samplers_of(arm)[0])
    experiment = study.experiments[name].model_copy(update={"samplers": shown})
    more = {"arms": arms, "samplers": study.samplers | {"mine": mine}}
    return study.model_copy(update={**more, "experiments": study.experiments | {name: experiment}})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["discretisation", "methods", "sizes", "memorisation", "steps", "mid_time", "compute"])
def test_no_figure_chart_or_finding_takes_two_ways_of_sampling_for_two_seeds(kind: str) -> None:
    study, name = ONE_OF_EACH_KIND[kind]
    study = sampled_in_more_ways(study, name)
    tables = rows_of(study, name, seeds=(0,))
    assert set(summary(tables[0]).seeds) == {1}
    settings = study.experiments[name]
    shown = kind_of(kind).shown(settings, *tables)
    kind_of(kind).draw(settings, *shown)  # raises where a line would be of two settings
    assert not re.search(r"\d \[", kind_of(kind).say(settings, *shown)), "one seed has no interval"
    chart = main_chart(name, settings, *shown)
    assert chart is not None
    if chart.kind == "lines":
        assert {point[4] for line in chart.series for point in line.points} == {1}
    else:
        dots = [(line.name, point[1]) for line in chart.series for point in line.points]
        assert len(set(dots)) == len(dots)


def test_ways_of_sampling_with_equal_steps_are_named_apart() -> None:
    study = sampled_in_more_ways(STUDIES["digits"], "methods")
    runs, _ = kind_of("methods").shown(study.experiments["methods"], *rows_of(study, "methods", seeds=(0,)))
    of_scd = runs[(runs.arm.map(arm_of) == "scd-m") & runs.steps.notna()]
    found = {arm: sorted(set(rows.steps)) for arm, rows in of_scd.groupby("arm")}
    assert found == {"scd-m": [1, 2], "scd-m by mine": [1, 2, 3], "scd-m by mine at [1.1, 0.05]": [3]}


@pytest.mark.slow
def test_students_are_held_against_the_teacher_that_taught_them_whatever_its_size_is_called() -> None:
    found = {}
    for name in ("cifar10", "imagenet64"):
        figure, found[name] = drawn(STUDIES[name], "compute", rows_of(STUDIES[name], "compute"))
    assert "scd in 2 steps against teacher:" in found["cifar10"]
    assert "sct-xl in 2 steps against teacher-xl:" in found["imagenet64"]
    figure, sentence = drawn(STUDIES["imagenet64"], "sizes", rows_of(STUDIES["imagenet64"], "sizes"))
    ratios = [line for line in figure.axes[1].lines if np.size(line.get_xdata()) > 2]
    assert {np.size(line.get_xdata()) for line in ratios} == {4} and len(ratios) == 4, "two methods, two steps"
    assert "xl-sct " in sentence


@pytest.mark.slow
def test_multi_step_students_are_compared_network_by_network() -> None:
    study = STUDIES["imagenet512"]
    figure, sentence = drawn(study, "steps", rows_of(study, "steps"))
    assert all(f"Two steps of scd-{size} against ms-scd-{size}-2" in sentence for size in ("s", "m", "l", "xl", "xxl"))
    assert "teacher-xxl by Heun in 126 evaluations" in sentence, "guided, twice a step"
    lines = [np.size(line.get_xdata()) for line in figure.axes[0].lines]
    assert lines.count(4) == 5, "2, 4, 8 and 16 segments, for each network"
    settings = study.experiments["steps"]
    chart = main_chart("steps", settings, *kind_of("steps").shown(settings, *rows_of(study, "steps")))
    assert chart is not None
    assert [len(line.points) for line in chart.series].count(4) == 5, "the same lines"
    assert max(point[0] or 0 for line in chart.series for point in line.points) == 126


@pytest.mark.slow
def test_curves_with_a_gap_show_it_as_a_cross() -> None:
    study = STUDIES["oracle"]
    runs, curves = rows_of(study, "stability_of_time", seeds=(0,))
    curves.loc[curves.x > 1.4, "value"] = np.nan
    figure, sentence = drawn(study, "stability_of_time", (runs, curves))
    assert crosses(figure)
    assert "scd-log not finite at t = 1.44" in sentence


@pytest.mark.slow
def test_the_height_of_methods_follows_the_arms() -> None:
    few = drawn(STUDIES["oracle"], "normalisation_of_conditioning", rows_of(STUDIES["oracle"], "adaptive_weight"))[0]
    many = drawn(STUDIES["oracle"], "tangent_control", rows_of(STUDIES["oracle"], "tangent_control"))[0]
    assert many.get_figheight() > few.get_figheight() + 2


@pytest.mark.slow
def test_learned_weights_are_shown_where_a_method_runs_with_and_without_one() -> None:
    def labels(name: str) -> list[str]:
        figure, _ = drawn(STUDIES["digits"], name, rows_of(STUDIES["digits"], name))
        return [ax.get_xlabel() for ax in figure.axes]

    assert any("angle" in label for label in labels("adaptive_weight"))
    assert not any("angle" in label for label in labels("lineage"))


@pytest.mark.slow
def test_methods_without_steps_are_drawn() -> None:
    study = STUDIES["oracle"]
    figure, _ = drawn(study, "tangent_control", rows_of(study, "tangent_control"))
    assert len(figure.axes[0].collections) >= 2 * len(study.arms_of("tangent_control"))


@pytest.mark.slow
def test_compute_without_counted_operations_says_so_on_its_axes() -> None:
    study = STUDIES["digits"]
    figure, sentence = drawn(study, "compute", rows_of(study, "compute", flops=False))
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "parameters × evaluations per sample (FLOP not counted)",
        "parameters × images seen (FLOP not counted)",
    ]
    assert "estimated" in sentence


@pytest.mark.slow
def test_the_legend_tells_every_method_of_the_steps_apart() -> None:
    figure, _ = drawn(STUDIES["digits"], "steps", rows_of(STUDIES["digits"], "steps"))
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"multi-step sCD", "teacher, Heun", "teacher, DPM-Solver++ 2M", "sCD (continuous)"} <= set(shown)
    assert len(shown) == len(set(shown))


def test_arms_of_one_method_have_lines_of_their_own() -> None:
    study = load("low-rank")
    for name, wanted in (
        ("adapter", {"LCM, lcm", "LCM, lcm-lora"}),
        ("together", {"LCM, base", "teacher, DDIM, style"}),
    ):
        figure, _ = drawn(study, name, rows_of(study, name))
        labels = {text.get_text() for text in figure.legends[0].get_texts()}
        assert wanted <= labels
        all_lines = figure.axes[0].get_lines()
        drawn_lines = [line for line in all_lines if np.size(line.get_xdata()) > 1 and line.get_marker()]
        looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in drawn_lines]
        assert len(set(map(str, looks))) == len(looks)


def test_the_matrix_has_a_mark_for_every_claim_and_study_that_decides_it() -> None:
    verdicts = pd.DataFrame(
        [
            ("a", "one", "steps", "reproduced", "reproduced", "e"),
            ("a", "two", "steps", "reproduced", "inconclusive", "e"),
            ("b", "one", "tangent", "opposite", "opposite", "e"),
            ("b", "two", "tangent", "not run", "not run", None),
            ("a", "a first study, not run", "steps", "not run", "not run", "e"),
            ("c", "one", "theory", "not run", "not run", None),
            ("c", "two", "theory", "not run", "not run", None),
        ],
        columns=["claim", "study", "topic", "verdict", "holm_verdict", "experiment"],
    ).assign(p=lambda rows: np.where(rows.verdict == "not run", np.nan, 0.01))
    (ax,) = draw_matrix(verdicts).axes
    marks = [line for line in ax.get_lines() if line.get_marker() in ("s", "o", "D")]
    filled = [line for line in marks if colors.to_hex(line.get_markerfacecolor()) != "#ffffff"]
    assert (len(marks), len(filled)) == (4, 2)  # `b` not on study two, `c` counted
    words = [text.get_text() for text in ax.texts if text.get_text()]
    assert words[:6] == [
        "on one",
        "2 claims tested",
        "1 reproduced, 1 opposite",
        "on two",
        "1 claims tested",
        "1 reproduced, 0 opposite",
    ]
    assert words[6:] == ["on a first study, not run", "1 claims", "1", "on no study here", "1 claims"]


def test_many_studies_stand_below_each_other_in_letters_of_one_size() -> None:
    studies = [f"study-{number}" for number in range(10)]
    rows = [
        (f"claim-{k}", study, f"topic {k % 3}", "reproduced", "reproduced", "e") for study in studies for k in range(9)
    ]
    columns = ["claim", "study", "topic", "verdict", "holm_verdict", "experiment"]
    axes = draw_matrix(pd.DataFrame(rows, columns=columns).assign(p=0.01)).axes
    headings = [text for ax in axes for text in ax.texts if text.get_text().startswith("on ")]
    assert [text.get_text() for text in headings] == [f"on {study}" for study in studies]
    assert 1 < len(axes) < 10 and {text.get_fontsize() for text in headings} == {10}
    marks = [line for ax in axes for line in ax.get_lines() if line.get_marker() == "s"]
    assert len(marks) == len(rows) and {line.get_markersize() for line in marks} == {11}
    assert all(ax.get_xlim()[1] >= max(np.max(line.get_xdata()) for line in ax.get_lines()) for ax in axes)


def test_saving_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = plt.figure()
    save(figure, tmp_path / "figure")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"figure.svg", "figure.png"}

    def broken(path: Path, **settings) -> None:
        path.write_text("half")
        raise BenchError("the disk is full", key="disk", remedy="make room")

    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(BenchError):
        save(figure, tmp_path / "figure")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_pictures_show_one_data_set_where_an_experiment_has_two(monkeypatch: pytest.MonkeyPatch) -> None:
    study, points = STUDIES["oracle"], np.random.default_rng(0).normal(size=(50, 2))

    def read(path: Path, remedy: str, names: set[str] | None = None) -> dict[str, np.ndarray]:
        run = {"few-1": points, "few-2-t1.1": points}
        return run if path.name == "samples.npz" else {"means": points[:3], "reference": points}

    monkeypatch.setattr(pictures, "read_arrays", read)
    figure = pictures.pictures(study, [Run(arm=arm, seed=0) for arm in ("scd-fp32", "scd-raw", "32d-scd")])
    assert figure is not None
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == [f"{arm}\n{steps}" for steps in ("1 step", "2 steps") for arm in ("scd-fp32", "scd-raw")]


# --- colours --------------------------------------------------------------------------------------

VISION = {
    "full": np.eye(3),
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""Machado et al. (2009), complete deficiency, on linear RGB."""


def lab(colour: str, vision: str) -> np.ndarray:
    """CIE Lab of a colour as seen."""
    rgb = np.array(colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ seen / [0.9505, 1, 1.0888]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_methods_of_one_figure_differ_to_every_eye(vision: str) -> None:
    methods = {name: method.look for name, method in OBJECTIVES.items()}
    looks = [look for look in methods.values() if look is not None and look.paper]
    assert len(looks) == len(methods)
    assert len({look.marker for look in looks}) == len({look.name for look in looks}) == len(looks)
    for one, other in itertools.combinations(looks, 2):
        apart = np.linalg.norm(lab(one.colour, vision) - lab(other.colour, vision))
        assert apart > (25 if vision == "full" else 10), f"{one.name} and {other.name} look alike"


def test_verdicts_have_the_same_colours_in_figures_and_on_pages() -> None:
    light = (ASSETS / "colours.css").read_text(encoding="utf-8").partition("}")[0]
    for verdict in DECIDED:
        assert f"--{verdict.replace(' ', '-')}: {VERDICTS[verdict][0]};" in light
