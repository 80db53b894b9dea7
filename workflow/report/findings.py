"""What a figure shows, in a sentence that is computed from its rows and from nothing else."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from trigbench.core.constants import MID_TIME
from trigbench.workflow.claims.statistics import Interval, interval, over_seeds, paired, per_seed
from trigbench.workflow.report.drawing import (
    arm_of,
    evaluations,
    first_way,
    in_order,
    is_lost,
    lines,
    points,
    results,
    steps_label,
    taught_by,
)
from trigbench.workflow.report.figures import ORDERS, SEARCH, SOLVERS, sampling_compute, training_compute, with_solver
from trigbench.workflow.report.style import name
from trigbench.workflow.study.quantities import QUANTITIES, Quantities, Quantity
from trigbench.workflow.study.schema import Experiment

Frame = pd.DataFrame


def discretisation(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Per discrete method, precision and steps: the best N, and whether continuous time is better than every N."""
    rows = runs[runs.metric == experiment.metric]
    sentences = []
    discrete = rows[rows.intervals.notna()]
    for (objective, precision, steps), group in discrete.groupby(
        ["objective", "precision", "steps"], dropna=False, sort=False
    ):
        where = [str(precision)] if discrete.precision.nunique() > 1 else []
        where += [_steps(steps)] if pd.notna(steps) else []
        means = group.groupby(["intervals", "arm"], sort=True).value.mean()
        best = means.idxmax() if known[experiment.metric].better == "higher" else means.idxmin()
        text = f"{_short(objective)} is best at N = {best[0]:.0f} ({_shown(group, best[1])})"
        last_n, last = means.index[-1][0], means.iloc[-1]
        if last_n != best[0]:
            text += f" and {last / means[best]:.2f} times that" if math.isfinite(last) else " and diverges"
            text += f" at N = {last_n:.0f}"
        rivals = rows[(rows.objective == CONTINUOUS.get(objective)) & (rows.precision == precision)]
        rivals = rivals[rivals.steps == steps] if pd.notna(steps) else rivals
        if len(rivals):
            text += ", " + _against(group, rivals, best[1], known[experiment.metric])
        sentences.append((f"{', '.join(where)}: " if where else "") + text)
    return "; ".join(sentences) + "." if sentences else NOTHING


def _against(discrete: Frame, continuous: Frame, best: str, of: Quantity) -> str:
    """The continuous method beside the best N; choosing the best N afterwards favours the discrete one."""
    arm = continuous.arm.iloc[0]
    gap = paired(pd.concat([discrete, continuous]), arm, best)
    sign = -1 if of.better == "higher" else 1
    shown = f"{_short(continuous.objective.iloc[0])} reaches {_shown(continuous, arm)}"
    if not math.isfinite(gap.mean):
        return f"{shown} (a run diverged, so there is no gap to speak of)"
    if math.isnan(gap.low):
        return f"{shown} (too few seeds for an interval)"
    about = f"gap to the best N {gap}, paired by seed"
    if min(sign * gap.low, sign * gap.high) > 0:
        return f"{shown}, better than every N ({about})"
    if max(sign * gap.low, sign * gap.high) < 0:
        return f"{shown}, worse than the best N ({about})"
    side = "better" if sign * gap.mean > 0 else "worse"
    return f"{shown}, {side} than the best N on average, but the interval holds zero ({about})"


def map_error(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """How the error grows from the smallest angle to pure noise."""
    rows = points(curves, "map_rms").dropna(subset=["value"])
    parts, grows = [], []
    for _, group in rows.groupby("arm", sort=False):
        means = group.groupby("x").value.mean()
        grows.append(means.iloc[-1] > means.iloc[0])
        parts.append(f"{_label(group)} {means.iloc[0]:.2g} at t = {means.index[0]:.2g}, {means.iloc[-1]:.2g} at t_max")
    if not parts:
        return NOTHING
    return f"The error is larger at t_max than near the data for {sum(grows)} of {len(grows)} arms: {'; '.join(parts)}."


def training(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The end value, and the largest over the median as a measure of spikes."""
    rows = points(curves, experiment.metric).dropna(subset=["value"])
    parts = []
    for _, group in rows.groupby("arm", sort=False):
        peaks = curves[(curves.metric == "training_direction_norm_max") & (curves.arm == group.arm.iloc[0])]
        spike = (peaks.groupby("seed").value.max() / group.groupby("seed").value.median()).max()
        last = over_seeds(group[group.x == group.x.max()]).mean
        largest = f", its largest step {spike:.2g} times the median" if math.isfinite(spike) else ""
        parts.append(f"{_label(group)} ends at {last:.2g}{largest}")
    return "Norm of the direction before normalisation: " + "; ".join(parts) + "." if parts else NOTHING


def methods(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Arms of one method against the first of them; where every arm is a method of its own, their order."""
    rows = in_order(experiment, results(runs, experiment.metric))
    label = _capital(known[experiment.metric].label)
    sentences, ratios = [], ""
    for steps, at in rows.groupby("steps", sort=True, dropna=False):
        blocks = [block for _, block in at.groupby(["objective", "data", "intervals"], sort=False, dropna=False)]
        where = "" if pd.isna(steps) else f"{steps_label(steps, at.objective.iloc[0])}, "
        found = [_against_first(block, known[experiment.metric]) for block in blocks if block.arm.nunique() > 1]
        ratios = " Ratios are paired by seed, each with its own 95% interval." if found else ratios
        sentences += [f"{where}{text}" for text in found] or [f"{where}{_ranked(at, known[experiment.metric])}"]
    bias = _bias(points(curves, "normalisation_bias"))
    return f"{label}, {'. '.join(_sentences(sentences))}.{ratios}{bias}" if sentences else NOTHING


def _bias(rows: Frame) -> str:
    """What normalising sCT's directions does where their mean should be zero, at the least and the most dimensions."""
    at = rows.dropna(subset=["value"]).groupby("x")
    if not len(at):
        return ""
    shown = [f"{over_seeds(at.get_group(x))} in {x:.0f} dimensions" for x in (min(at.groups), max(at.groups))]
    return f" At the exact map sCT's mean direction is zero; normalised, it is {' and '.join(shown)} of its size."


def _sentences(parts: list[str]) -> list[str]:
    return parts[:1] + [_capital(part) for part in parts[1:]]


def _against_first(block: Frame, of: Quantity) -> str:
    """`against scd-m (12.3): better: ...; worse: ...; undecided: ...`, ratios paired by seed."""
    arms = list(dict.fromkeys(block.arm))
    sides: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for arm in arms[1:]:
        side, shown = _compared(block, arms[0], arm, of)
        sides[side].append(f"{arm} {shown}")
    parts = [f"{side}: {', '.join(found)}" for side, found in sides.items() if found]
    return f"against {arms[0]} ({_shown(block, arms[0])}): {'; '.join(parts)}"


def _compared(rows: Frame, first: str, arm: str, of: Quantity) -> tuple[str, str]:
    """(better, worse or undecided; by how much) of an arm against another, on the seeds that both have."""
    table = _by_seed(rows, [first, arm])
    if not len(table):
        return "undecided", "no seed in common"
    own, other = np.isfinite(table[arm]).all(), np.isfinite(table[first]).all()
    if not own or not other:
        lost = int((~np.isfinite(table[first if own else arm])).sum())
        side = "undecided" if own == other else "better" if own else "worse"
        whose = f"{first} " if own else ""
        return side, f"{whose}diverged in {lost} of {_seeds(len(table))}"
    if of.signed and (table < 0).any(axis=None):
        gap = interval(table[arm] - table[first])
        return _side(gap, of), _signed(gap) if not math.isnan(gap.low) else f"{_signed_number(gap.mean)} (one seed)"
    if not (table > 0).all(axis=None):
        return "undecided", f"{_number(table[arm].mean())}, no ratio to {_number(table[first].mean())}"
    ratio = _geometric(table[arm] / table[first])
    return _side(ratio, of, 1.0), _percent(ratio)


def _side(found: Interval, of: Quantity, even: float = 0.0) -> str:
    """Better or worse where the interval excludes `even`, undecided where it does not or there is none."""
    if not (found.low > even or found.high < even):
        return "undecided"
    return "better" if (found.mean < even) == (of.better == "lower") else "worse"


def _ranked(rows: Frame, of: Quantity) -> str:
    """`best first: scd 12.3 [..], ...`, and whether the first is ahead of the second."""
    arms = _order(rows, of)
    text = ", ".join(f"{arm} {_shown(rows, arm)}" for arm in arms)
    return text if len(arms) == 1 else f"best first: {text}; {_lead(rows, arms, of)}"


def _order(rows: Frame, of: Quantity) -> list[str]:
    """Arms from the best mean to the worst; a diverged run is worst."""
    worst = rows.assign(value=_worst(rows, of))
    means = worst.groupby("arm", sort=False).value.mean()
    return list(means.sort_values(ascending=of.better == "lower", kind="stable").index)


def _lead(rows: Frame, arms: list[str], of: Quantity) -> str:
    """Whether the first arm is ahead of the second, paired by seed."""
    side, shown = _compared(rows, arms[1], arms[0], of)
    if side == "better":
        return f"{arms[0]} is ahead of {arms[1]} ({shown})"
    return f"{arms[0]} and {arms[1]} are undecided ({shown})"


def sizes(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The ratio of every student to its own teacher, by size."""
    rows = in_order(experiment, results(runs, experiment.metric))
    rows = rows.assign(teacher=taught_by(rows))
    own_ways = first_way(rows[rows.objective == "diffusion"])
    teachers = own_ways.set_index(["arm", "seed"]).value.to_dict()
    parts = []
    students = rows[rows.objective != "diffusion"].sort_values(["objective", "steps"], kind="stable")
    for (objective, steps), words, group in lines(students, ["objective", "steps"], "size"):
        ratios = []
        for size, members in group.groupby("size", sort=False):
            values = per_seed(members)
            own = [teachers.get(run, math.nan) for run in zip(members.teacher, members.seed, strict=True)]
            found = interval(_ratio(values, own))
            ratios += [f"{size} {found}"] if found.seeds else []
        if not ratios:
            continue
        parts.append(f"{name(str(objective))}, {_steps(float(steps))}{words}: " + ", ".join(ratios))
    trend = "; ".join(f"{size}{words} {over_seeds(g)}" for (size,), words, g in lines(own_ways, ["size"], "objective"))
    return f"Teachers: {trend}. Ratio student / teacher: " + "; ".join(parts) + "." if parts and trend else NOTHING


def memorisation(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Whether samples are nearer to training images than held-out images are."""
    real = runs[(runs.objective == "data") & (runs.metric == "nearest_train")]
    floors = {_data(data): per_seed(own).mean() for data, own in real.groupby("data", sort=False, dropna=False)}
    rows = runs[(runs.objective != "data") & (runs.status == "finished") & (runs.metric == "nearest_train")]
    if not floors or np.isnan([*floors.values()]).any() or not len(rows):
        return NOTHING
    sides: dict[str, list[str]] = {"Nearer": [], "Not nearer": [], "Undecided": []}
    for (arm, steps), group in rows.groupby(["arm", "steps"], sort=False):
        found, floor = over_seeds(group), floors[_data(group.data.iloc[0])]
        side = "Nearer" if found.high < floor else "Not nearer" if found.low >= floor else "Undecided"
        way = steps_label(steps, group.objective.iloc[0])
        sides[side].append(f"{arm} in {way} {found}")
    parts = [f"{side.lower()}: {', '.join(arms)}" for side, arms in sides.items() if arms]
    several = len(floors) > 1
    lie = ", ".join(f"{floor:.3g} from" + (f" (on {data})" if several else "") for data, floor in floors.items())
    return f"Held-out images lie {lie} their nearest training image; " + "; ".join(parts) + "."


def _data(name: object) -> str:
    return "" if pd.isna(name) else str(name)  # pyright: ignore[reportArgumentType, reportCallIssue, reportGeneralTypeIssues]


def _ratio(values: pd.Series, own: list[float]) -> list[float]:
    """Worst where either run diverged; nothing where there is no teacher."""
    pairs = [(value, other) for value, other in zip(values, own, strict=True) if not math.isnan(other)]
    return [value / other if math.isfinite(value) and math.isfinite(other) else math.inf for value, other in pairs]


def tangents(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The largest time tangent of each network over that of the method's first, and where it is."""
    rows = in_order(experiment, points(curves, "time_tangent"))
    sentences = []
    for _, block in rows.groupby(["objective", "data"], sort=False, dropna=False):
        arms = list(dict.fromkeys(block.arm))
        infinite = block.assign(value=block.value.fillna(math.inf))
        largest = infinite.groupby(["arm", "seed"]).value.max().unstack("arm")
        places = {arm: infinite[infinite.arm == arm].groupby("x").value.mean().idxmax() for arm in arms}
        parts = []
        for arm in arms:
            ratio = (
                _geometric((largest[arm] / largest[arms[0]]).dropna())
                if arm != arms[0]
                else interval(largest[arm].dropna())
            )
            shown = "not finite" if not math.isfinite(ratio.mean) else str(ratio) if arm == arms[0] else _times(ratio)
            parts.append(f"{arm} {shown} at t = {places[arm]:.2f}")
        sentences.append(parts[0] + (f", and over it: {', '.join(parts[1:])}" if parts[1:] else ""))
    return f"Largest ‖∂F/∂t‖ / √D along the angle: {'; '.join(sentences)}." if sentences else NOTHING


def quality_curves(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Who is ahead at the first, the middle and the last point, paired by seed; a diverged run is worst throughout."""
    rows = points(curves, experiment.metric)
    lost = runs[(runs.status == "diverged") & (runs.objective != "data")][["arm", "seed"]]
    lost = lost.assign(arm=lost.arm.map(arm_of)).drop_duplicates()
    sentences = []
    for steps, group in rows.groupby("steps", sort=True):
        along = sorted(group.x.unique())
        parts = []
        for x in dict.fromkeys((along[0], along[(len(along) - 1) // 2], along[-1])):
            at = group[group.x == x]
            gone = (
                lost[~lost.apply(tuple, axis=1).isin(at[["arm", "seed"]].apply(tuple, axis=1))] if len(lost) else lost
            )
            at = pd.concat([at[["arm", "seed", "value"]], gone.assign(value=known[experiment.metric].worst)])
            arms = _order(at, known[experiment.metric])
            parts.append(
                f"at step {x:.0f} " + (_lead(at, arms, known[experiment.metric]) if len(arms) > 1 else arms[0])
            )
        sentences.append(f"{steps_label(steps)}: {'; '.join(parts)}")
    return f"{_capital(known[experiment.metric].label)}. {'. '.join(sentences)}." if sentences else NOTHING


def guidance(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """How distance and recall move from the smallest scale to the largest, paired by seed."""
    rows = results(runs, experiment.metric, "recall")
    rows = rows[rows.guidance.notna()]
    parts = []
    for (arm, objective, steps), group in rows.groupby(["arm", "objective", "steps"], sort=False):
        low, high = group.guidance.min(), group.guidance.max()
        if low == high:
            continue
        ends = group[group.guidance.isin([low, high])]
        ends = ends.assign(arm=ends.guidance.map({low: "low", high: "high"}))
        if is_lost(ends).any():
            parts.append(f"{arm}, {steps_label(steps, objective)}: a run diverged")
            continue
        metrics = {experiment.metric: _word(known[experiment.metric]), "recall": "recall"}
        moves = [(label, _moved(ends[ends.metric == metric])) for metric, label in metrics.items()]
        told = ", ".join(f"{label} {text}" for label, text in moves if text)
        parts += [f"{arm}, {steps_label(steps, objective)}: {told}"] if told else []
    span = f"From guidance {rows.guidance.min():g} to {rows.guidance.max():g}: " if len(rows) else ""
    return f"{span}{'; '.join(parts)}." if parts else NOTHING


def _moved(ends: Frame) -> str:
    """`12 → 20 (+8 [+5, +11])` of the arms low and high; nothing without seeds that have both."""
    table = _by_seed(ends, ["low", "high"])
    if not len(table):
        return ""
    change = interval(table.high - table.low)
    means = f"{_number(table.low.mean())} → {_number(table.high.mean())}"
    return means + (f" ({_signed(change)})" if not math.isnan(change.low) else "")


def steps(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The best way to sample at each budget of evaluations, and two-step sCD against multi-step sCD of two segments."""
    of = known[experiment.metric]
    rows = results(runs, experiment.metric)
    rows = rows[rows.steps.notna()].assign(value=lambda r: _worst(r, of), steps=evaluations, teacher=taught_by)
    if is_lost(rows).all():
        return NOTHING
    ways = rows.assign(way=[_way(*row) for row in zip(rows.arm, rows.objective, rows.sampler, rows.steps, strict=True)])
    best, parts = "", []
    for budget in sorted(ways.steps.unique()):
        within = ways[ways.steps <= budget].assign(arm=ways.way)
        leader = _order(within, of)[0]
        if leader != best and math.isfinite(_shown(within, leader).mean):
            parts.append(f"{budget:.0f}: {leader}, {_shown(within, leader)}")
        best = leader
    text = f"Best within a budget of evaluations (where it changes): {'; '.join(parts)}"
    two = rows[(rows.steps == 2) & rows.objective.isin(["scd", "ms_scd"])]
    for _, alike in two.groupby("teacher", sort=False):
        pair = [next(iter(alike[alike.objective == objective].arm), None) for objective in ("ms_scd", "scd")]
        if None not in pair:
            side, shown = _compared(alike, str(pair[0]), str(pair[1]), of)
            text += f". Two steps of {pair[1]} against {pair[0]}: {side}, {shown}"
    return text + "."


def _way(arm: str, objective: str, sampler: str, count: float) -> str:
    solver = f" by {SOLVERS[sampler][2]}" if sampler in SOLVERS else ""
    return f"{arm}{solver} in {steps_label(count, objective)}"


def mid_time(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The best middle angle of each arm, and how much worse 1.1 is, paired by seed."""
    rows = results(runs, experiment.metric)
    rows = rows[rows.mid_time.notna() & (rows.steps == 2)]
    searched = rows[rows.sampler == SEARCH]
    parts = []
    for arm, group in rows[rows.sampler != SEARCH].groupby("arm", sort=False):
        by_time = group.assign(arm=[f"{t:g}" for t in group.mid_time])
        if not np.isfinite(_worst(by_time, known[experiment.metric])).any():
            parts.append(f"{arm} diverged")
            continue
        best = _order(by_time, known[experiment.metric])[0]
        text = f"{arm} is best at {best} ({_shown(by_time, best)})"
        if best == f"{MID_TIME:g}":
            text += ", the paper's"
        elif f"{MID_TIME:g}" in set(by_time.arm):
            side, shown = _compared(by_time, best, f"{MID_TIME:g}", known[experiment.metric])
            text += f", {MID_TIME:g} against it {shown}, {side}"
        found = searched[searched.arm == arm]
        if len(found):
            text += f"; the search finds {over_seeds(found.assign(value=found.mid_time))}"
        parts.append(text)
    after = " The best angles are chosen afterwards, from the same runs, which favours them."
    return f"{'; '.join(parts)}.{after}" if parts else NOTHING


def compute(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """Distance and compute of the largest two-step student over its teacher's."""
    rows = results(runs, experiment.metric)
    costs = {"sampling": sampling_compute(runs, rows), "training": training_compute(runs, rows)}
    rows = rows.assign(teacher=taught_by(rows), **{kind: cost for kind, (cost, _) in costs.items()})
    teachers, students = rows[rows.objective == "diffusion"], rows[(rows.steps == 2) & (rows.objective != "diffusion")]
    parts = []
    for _, group in students[students.teacher.isin(teachers.arm)].groupby("objective", sort=False):
        largest = group.loc[group.parameters.idxmax()]
        student = group[group.arm == largest.arm]
        teacher = first_way(teachers[teachers.arm == largest.teacher])
        both = pd.concat([student.assign(arm="student"), teacher.assign(arm="teacher")])
        table = _by_seed(both, ["student", "teacher"])
        if not len(table):
            continue
        finite = np.isfinite(table).all(axis=None) and (table > 0).all(axis=None)
        ratio = (
            _times(_geometric(table.student / table.teacher)) + f" the {_word(known[experiment.metric])}"
            if finite
            else "a run diverged"
        )
        shares = [_share(student[kind].mean() / teacher[kind].mean(), kind) for kind in costs]
        fewer = "; ".join(share for share in shares if share)
        parts.append(
            f"{student.arm.iloc[0]} in 2 steps against {teacher.arm.iloc[0]}: {ratio}" + (f"; {fewer}" if fewer else "")
        )
    estimated = any("not counted" in words for _, words in costs.values())
    note = (
        " Compute is estimated from parameters, evaluations and images where FLOP were not counted."
        if estimated
        else ""
    )
    return f"At the largest size, {'; '.join(parts)}.{note}" if parts else NOTHING


def _word(of: Quantity) -> str:
    return "distance" if "distance" in of.label else of.label


def _share(ratio: float, kind: str) -> str:
    """`0.057 times the sampling compute`; nothing where it is not known."""
    if not math.isfinite(ratio):
        return ""
    return f"{ratio:.2g} times the {kind} compute" + (" (its teacher's comes on top)" if kind == "training" else "")


def theory(experiment: Experiment, runs: Frame, curves: Frame, known: Quantities = QUANTITIES) -> str:
    """The order of each error in 1/N, fitted by least squares in logarithms, of each seed."""
    trained = with_solver(results(runs, experiment.metric))
    parts = []
    for solver in ORDERS:
        group = trained[(trained.objective == "cd") & (trained.solver == solver)]
        exact = points(curves, f"fixed_point_error_{solver}").drop_duplicates("x")
        for kind, rows, along in (("trained", group, "intervals"), ("exact fixed point", exact, "x")):
            for (count,), words, own in lines(rows, ["steps"], along):
                text = _order_of(own[np.isfinite(own.value) & (own.value > 0)], along)
                which = kind + words + (f", {_steps(count)}" if pd.notna(count) else "")
                parts += [f"CD with {solver.capitalize()}, {which}: {text}"] if text else []
    sentences = [f"Fitted order p of an error ~ N^-p. {'; '.join(parts)}."] if parts else []
    return " ".join(sentences + _beside_errors(curves)) or NOTHING


def _beside_errors(curves: Frame) -> list[str]:
    """What CM's Theorem 2 and iCT's Sec. 3.2 come to at the finest grid."""
    losses, biases = (
        points(curves, metric).dropna(subset=["value"]) for metric in ("ct_minus_cd_loss", "gradient_bias")
    )
    found = []
    if len(losses):
        last = losses[losses.x == losses.x.max()]
        share = over_seeds(last.assign(value=100 * last.value))
        found.append(f"At N = {last.x.iloc[0]:.0f} CT's loss is {share} % above CD's at the same network.")
    last = biases[biases.x == biases.x.max()]
    own, lagging = (last[last.objective == kind] for kind in ("ct", "ct_ema"))
    if len(own) and len(lagging):
        averaged = over_seeds(lagging)
        text = f"the bias of CT's gradient is {over_seeds(own)}, with targets from a lagging average {averaged}"
        found.append(f"At N = {last.x.iloc[0]:.0f} {text}.")
    return found


def _order_of(rows: Frame, along: str) -> str:
    """`1.02 [0.98, 1.06] from N = 8 to 128`; nothing from fewer than two N."""
    slopes = []
    for _, seed in rows.groupby("seed"):
        means = seed.groupby(along).value.mean()
        if len(means) > 1:
            slopes.append(-float(np.polyfit(np.log(means.index.to_numpy(float)), np.log(means), 1)[0]))
    if not slopes:
        return ""
    return f"{interval(np.array(slopes))} from N = {rows[along].min():.0f} to {rows[along].max():.0f}"


CONTINUOUS = {"dscd": "scd", "dsct": "sct"}
"""The continuous-time limit of each discrete objective."""
NOTHING = "There is no result to speak of yet."


def _shown(rows: Frame, arm: str) -> Interval:
    return over_seeds(rows[rows.arm == arm])


def _worst(rows: Frame, of: Quantity) -> pd.Series:
    """The values, with no number and a diverged run as the worst."""
    values = rows.value.astype(float)
    lost = values.isna() | (rows.status == "diverged") if "status" in rows else values.isna()
    return values.mask(lost, of.worst)


def _by_seed(rows: Frame, arms: list[str]) -> Frame:
    """A row per seed that all these arms have; no number is a diverged run. ValueError as in `per_seed`."""
    told = rows.assign(value=_infinite)
    return pd.DataFrame({arm: per_seed(told[told.arm == arm]) for arm in arms}).dropna()


def _infinite(rows: Frame) -> pd.Series:
    """A diverged run is told by infinity, whatever the metric counts it as."""
    values = rows.value.astype(float).fillna(math.inf)
    return values.mask(rows.status == "diverged", math.inf) if "status" in rows else values


def _geometric(ratios: pd.Series) -> Interval:
    """Mean and t interval of ratios, in logarithms: a ratio and its inverse say the same."""
    positive = ratios.to_numpy(float)
    if not len(positive) or not (np.isfinite(positive) & (positive > 0)).all():
        return Interval(math.inf, math.nan, math.nan, len(positive))
    found = interval(np.log(positive))
    return Interval(*(float(np.exp(value)) for value in (found.mean, found.low, found.high)), found.seeds)


def _percent(ratio: Interval) -> str:
    """`+12% [+3%, +22%]`, or `7.1 [6.2, 8.3] times` where it is many."""
    if ratio.mean > 5:
        return _times(ratio)
    mean, low, high = (_signed_number(100 * (value - 1)) + "%" for value in (ratio.mean, ratio.low, ratio.high))
    return f"{mean} (one seed)" if math.isnan(ratio.low) else f"{mean} [{low}, {high}]"


def _signed_number(value: float) -> str:
    """Three digits at most, with a sign."""
    return (f"{value:+.0f}" if abs(value) >= 100 else f"{value:+.2g}" if abs(value) < 10 else f"{value:+.3g}").replace(
        "-", "−"
    )


def _times(ratio: Interval) -> str:
    return f"{ratio} times"


def _signed(found: Interval) -> str:
    return f"{found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}]".replace("-", "−")


def _number(value: float) -> str:
    return f"{value:.3g}"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _steps(count: float) -> str:
    return "1 step" if count == 1 else f"{count:.0f} steps"


def _short(objective: str) -> str:
    return name(str(objective)).split(" (")[0]


def _label(group: Frame) -> str:
    intervals = group.intervals.iloc[0]
    return _short(group.objective.iloc[0]) + (f" N = {intervals:.0f}" if pd.notna(intervals) else "")


FINDINGS: dict[str, Callable[..., str]] = {
    "discretisation": discretisation,
    "map_error": map_error,
    "training": training,
    "methods": methods,
    "sizes": sizes,
    "memorisation": memorisation,
    "tangents": tangents,
    "quality_curves": quality_curves,
    "guidance": guidance,
    "steps": steps,
    "mid_time": mid_time,
    "compute": compute,
    "theory": theory,
}
