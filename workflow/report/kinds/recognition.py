"""Spoken words: how many are read as asked for, how near they are to real ones, and what speaking takes."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trigbench.core.solvers import SOLVERS
from trigbench.workflow.claims.statistics import over_seeds
from trigbench.workflow.report.drawing import floor, legend, line, log_metric, log_scale, panels
from trigbench.workflow.report.kinds import Along, Kind
from trigbench.workflow.report.rows import Frame, numeric, results, steps_label
from trigbench.workflow.report.style import LINES, QUIET, colour, marker, name
from trigbench.workflow.report.words import NOTHING, capital
from trigbench.workflow.study.experiment import Experiment
from trigbench.workflow.study.quantities import QUANTITIES, Quantities
from trigbench.workflow.study.records import REAL

READ, NEAR, TAKES, VOCODER = "recognised", "fd_train", "network_seconds", "vocoder_seconds"


def draw(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> Figure:
    """A panel a measure, a line for each arm and solver; dashed is what real clips have."""
    figure, axes = panels(3, 3.9)
    for ax, metric in zip(axes, (READ, NEAR, TAKES), strict=True):
        _panel(ax, runs, metric, "higher" if metric == READ else "lower")
    for ax, metric in zip(axes, (READ, NEAR), strict=False):
        floor(ax, runs, metric)
        log_metric(ax, known[metric])
    axes[2].set_ylabel("seconds for a second of speech")
    vocoder = _of_real(runs, VOCODER)
    if len(vocoder):
        axes[2].axhline(vocoder.value.mean(), color=QUIET, linestyle=":", linewidth=1.2, label="vocoder")
    log_scale(axes[2].yaxis)
    legend(figure, axes)
    return figure


def _panel(ax: Axes, runs: Frame, metric: str, better: str) -> None:
    rows = results(runs, metric)
    rows = rows[rows.steps.notna()]
    arms = {objective: list(dict.fromkeys(group.arm)) for objective, group in rows.groupby("objective", sort=False)}
    for (arm, objective, sampler), group in rows.groupby(["arm", "objective", "sampler"], sort=False):
        solver = SOLVERS.get(str(sampler))
        of_arm = LINES[arms[objective].index(arm) % len(LINES)]
        symbol, dash, words = (solver.marker, solver.line, solver.name) if solver else (marker(objective), of_arm, "")
        who = name(objective) + (f", {arm}" if len(arms[objective]) > 1 else "")
        look = {"color": colour(objective), "linestyle": dash, "marker": symbol}
        look |= {"markerfacecolor": "white"} if solver else {}
        line(ax, group, "steps", better, label=f"{who}, {words}" if words else who, **look)
    counts = sorted(rows.steps.unique())
    ax.set(xscale="log", xlabel="evaluations of the network per clip")
    ax.set_xticks(counts, [f"{count:.0f}" for count in counts])
    ax.minorticks_off()


def _of_real(runs: Frame, metric: str) -> Frame:
    return numeric(runs[(runs.objective == REAL) & (runs.metric == metric)]).dropna(subset=["value"])


def say(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Of real clips, and of each arm and solver in its fewest and most evaluations: how many are read, and how near."""
    rows = results(runs, READ, NEAR).dropna(subset=["value", "steps"])
    if not len(rows):
        return NOTHING
    real = _of_real(runs, READ)
    parts = [f"of held-out clips {real.value.mean():.1%} are read as the word that they say"] if len(real) else []
    for (arm, objective, sampler), group in rows.groupby(["arm", "objective", "sampler"], sort=False):
        solver = SOLVERS.get(str(sampler))
        for count in dict.fromkeys((group.steps.min(), group.steps.max())):
            by = {m: group[(group.steps == count) & (group.metric == m)] for m in (READ, NEAR)}
            how = steps_label(count, str(objective)) + (f" by {solver.name}" if solver else "")
            said = f"{arm} in {how} {over_seeds(by[READ]).mean:.1%}" if len(by[READ]) else f"{arm} in {how}"
            said += f", at a distance of {over_seeds(by[NEAR]).mean:.3g}" if len(by[NEAR]) else ""
            parts.append(said)
    return capital("; ".join(parts)) + "."


KIND = Kind(
    draw=draw,
    say=say,
    caption="Spoken words, by evaluations of the network per clip: how many the recogniser reads as the word asked "
    "for, their Fréchet distance to the training part in its features, and the seconds of the network for a second of "
    "speech on the machine that measured. Dashed: held-out clips; dotted: the vocoder. {seeds}.",
    axis=Along("steps", "evaluations of the network per clip", True, ("arm", "sampler")),
    separate=("sampler",),
    pictured=True,
)
