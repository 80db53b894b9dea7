"""Draw one experiment's figure and sample pictures, and write its finding and what is heard or moves of samples."""

from dataclasses import asdict

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from trigbench.workflow.claims.tables import finished_runs, read_table
from trigbench.workflow.machine.files import write_json
from trigbench.workflow.report.edited import edited_strips
from trigbench.workflow.report.films import films
from trigbench.workflow.report.kinds import AT_BEST, kind_of
from trigbench.workflow.report.paths import drawn_paths
from trigbench.workflow.report.pictures import pictures
from trigbench.workflow.report.sounds import sounds
from trigbench.workflow.report.style import apply_style, save
from trigbench.workflow.report.words import NOTHING
from trigbench.workflow.study.freshness import FILES, MADE_FROM, experiment_from
from trigbench.workflow.study.places import forms
from trigbench.workflow.study.quantities import quantities_of
from trigbench.workflow.study.records import REAL
from trigbench.workflow.study.study import Run, Study


def plot(study: Study, experiment: str) -> None:
    """Write figure.{svg,png}, finding.json, and pictures.{svg,png}, sounds.json and films.json where samples say
    something."""
    apply_style()
    settings, files = study.experiments[experiment], study.made.experiment(experiment)
    kind = kind_of(settings.figure)
    runs, curves = read_table(files.runs), read_table(files.curves)
    if (runs.objective != REAL).any():
        known = quantities_of(study.data.values())
        shown = kind.shown(settings, runs, curves, known)
        figure = kind.draw(settings, *shown, known)
        sentence = kind.say(settings, *shown, known)
        sentence += f" {AT_BEST}" if len(shown[0]) < len(runs) and sentence != NOTHING else ""
        lost = _diverged(study, experiment)
        if lost:
            note = f"Diverged: {', '.join(lost)}."
            figure.text(0.01, -0.02, note, ha="left", va="top", fontsize=9, wrap=True)
            sentence = f"{sentence.removesuffix('.')}; {note[0].lower()}{note[1:]}"
        save(figure, files.figure.with_suffix(""))
    else:
        save(plt.figure(figsize=(4, 1)), files.figure.with_suffix(""))
        sentence = NOTHING
    samples = sample_pictures(study, experiment) if kind.pictured else None
    if samples is not None:
        save(samples, files.pictures.with_suffix(""))
    plt.close("all")
    beside = [] if samples is None else [str(path) for path in forms(files.pictures)]
    for path, made in ((files.sounds, sounds), (files.films, films)):
        path.unlink(missing_ok=True)
        if kind.pictured and (found := made(study, _first(study, experiment))) is not None:
            write_json(path, asdict(found))
            beside.append(str(path))
    about = {"finding": sentence, "diverged": _diverged(study, experiment)}
    write_json(files.finding, {**about, FILES: beside, MADE_FROM: experiment_from(study, experiment)})


def sample_pictures(study: Study, experiment: str, real: bool = True) -> Figure | None:
    """Samples of the first seed of every arm, as `pictures` has them; with `real`, training images above them. Where
    edits were measured, these instead, beside the held-out images that they are of; of policies their paths."""
    for measured in (edited_strips, drawn_paths):
        if (figure := measured(study, experiment)) is not None:
            return figure
    return pictures(study, _first(study, experiment), real)


def _first(study: Study, experiment: str) -> list[Run]:
    """The finished runs of the first seed, one of every arm."""
    first = [Run(arm=arm, seed=study.seeds_of(experiment)[0]) for arm in study.arms_of(experiment)]
    there = set(finished_runs(study, experiment)[0])
    return [run for run in first if run in there]


def _diverged(study: Study, experiment: str) -> list[str]:
    table = read_table(study.made.experiment(experiment).runs)
    diverged = table[table.status == "diverged"]
    names = [f"{arm} seed {seed:.0f}" for arm, seed in zip(diverged.arm, diverged.seed, strict=True)]
    return list(dict.fromkeys(names))
