"""Tidy rows of an experiment that was never run: made-up numbers in the shape of the real tables."""

import itertools
import math
import zlib
from collections.abc import Collection

import numpy as np
import pandas as pd

from trigbench.workflow.claims.statistics import COLUMNS
from trigbench.workflow.claims.tables import CURVE_COLUMNS
from trigbench.workflow.run.counts import sampling_evaluations
from trigbench.workflow.study.claim import written
from trigbench.workflow.study.policies import EXPERT, LOW_VARIANCE
from trigbench.workflow.study.quantities import QUANTITIES
from trigbench.workflow.study.study import Study

FLOORS = {
    "digits": {"fd_train": 12.0, "precision": 0.92, "recall": 0.91, "nearest_train": 4.0},
    "mixture": {"sliced_wasserstein": 0.03},
    "cifar10": {"fd_train": 1.0},
    "imagenet64": {"fd_train": 1.0},
    "imagenet512": {"fd_train": 1.0, "fdd_train": 10.0},
    "idx_latents": {"fd_train": 3.0, "recognised": 0.85},
    "navigation": {},
    "speech": {"fd_train": 6.0, "recognised": 0.99, "vocoder_seconds": 0.05},
    "moving": {"lawful": 1.0, "fd_train": 0.4},
    "coloured": {"fd_train": 1.0},
}
LEVEL = {
    "diffusion": 20.0, "scd": 26.0, "sct": 32.0, "dscd": 30.0, "dsct": 40.0, "ms_scd": 28.0, "cd": 60.0, "ct": 130.0,
    "ict": 55.0, "ect": 45.0, "vsd": 35.0, "scd_vsd": 22.0, "lcm": 29.0,
    "ctm": 34.0, "meanflow": 38.0,
}  # fmt: skip
OF_SAMPLES = {
    "digits": ("fd_train", "precision", "recall", "nearest_train", "nearest_held_out"),
    "mixture": ("sliced_wasserstein",),
    "cifar10": ("fd_train", "precision", "recall"),
    "imagenet64": ("fd_train", "precision", "recall"),
    "imagenet512": ("fd_train", "fdd_train", "precision", "recall"),
    "idx_latents": ("fd_train", "fd_held_out", "precision", "recall", "recognised"),
    "navigation": ("sliced_wasserstein",),
    "speech": ("fd_train", "recognised", "network_seconds"),
    "moving": ("lawful", "fd_train"),
    "coloured": ("fd_train", "precision", "recall"),
}
SIZES = {"xs": 20_000, "s": 70_000, "m": 250_000, "l": 560_000, "xl": 800_000, "xxl": 1_100_000}


def rows_of(
    study: Study,
    experiment: str,
    seeds: Collection[int] = (0, 1, 2),
    diverged: Collection[str] = (),
    missing: Collection[str] = (),
    flops: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(runs, curves) of an experiment; arms in `diverged` lose their first seed, `*` stands for all seeds of all."""
    runs, curves = [], []
    settings = study.experiments[experiment]
    for arm in study.arms_of(experiment):
        if arm in missing:
            continue
        own = study.arms[arm]
        for seed in seeds:
            lost = "*" in diverged or (arm in diverged and seed == next(iter(seeds)))
            draw = np.random.default_rng(zlib.crc32(f"{arm} {seed}".encode()))
            pair = np.random.default_rng(seed).normal()  # what the arms of a seed share: their teacher
            parameters = SIZES.get(own.size.split("-")[0], 250_000)
            about = {
                "study": study.study, "data": own.data, "experiment": experiment, "arm": arm,
                "objective": own.objective, "intervals": own.intervals, "precision": own.precision, "size": own.size,
                "seed": seed, "teacher": own.teacher,
            }  # fmt: skip
            more = {"status": "diverged" if lost else "finished", "parameters": parameters, "iterations": 1200}
            level = _level(arm, own.objective, own.intervals, parameters) * math.exp(0.03 * (draw.normal() + pair))
            of_map = study.data[own.data].kind == "mixture"
            for metric, value in _whole(of_map, level, parameters, own.objective, flops).items():
                runs.append({**about, **more, "metric": metric, "value": _given(metric, value, lost)})
            shown = settings.samplers or study.samplers_of(arm)[:1]
            for way in (way for way in study.samplings(arm) if way.sampler in shown):
                middle = way.times[0] if way.times else math.nan
                where = {"steps": way.steps, "sampler": way.solver, "guidance": way.guidance, "mid_time": middle}
                where |= {"sampling": way.sampler, "times": written(way.times) or None}
                worse = {"ddim": 1.6, "dpm_2s": 0.95, "dpm_pp_2m": 1.25}.get(way.solver, 1.0)
                worse *= _of_way(way.steps, middle, way.guidance or 1.0, own.objective)
                for metric in OF_SAMPLES[study.data[own.data].kind]:
                    value = _sample_metric(metric, level * worse, way.guidance or 1.0)
                    runs.append({**about, **more, **where, "metric": metric, "value": _given(metric, value, lost)})
                runs += [
                    {**about, **more, **where, **row}
                    for row in _policies(settings.measurement, level * worse, own.objective, lost)
                ]
                if flops:
                    cost = 2.0 * parameters * sampling_evaluations(way)
                    runs.append({**about, **more, **where, "metric": "sample_flops", "value": cost})
            if settings.measurement == "editing":
                edit, ways = settings.metric.partition("_")[0], [("edit", 1), ("edit", 4), ("edit", 40)]
                for sampler, steps in [("repaint", 80)] if own.objective == "diffusion" else ways:
                    for metric in (settings.metric, f"{edit}_diversity"):
                        value = _given(metric, level / steps**0.3, lost)
                        runs.append(
                            {**about, **more, "steps": steps, "sampler": sampler, "metric": metric, "value": value}
                        )
            if not lost:
                scales = dict.fromkeys(way.guidance or math.nan for way in study.samplings(arm))
                found = _curves(arm, own.objective, level, own.adaptive_weight, scales)
                curves += [{**about, **point} for point in found]
    data = study.arms[study.arms_of(experiment)[0]].data
    floor = {"study": study.study, "data": data, "arm": "data", "objective": "data", "status": "finished"}
    runs += [{**floor, "metric": metric, "value": value} for metric, value in FLOORS[study.data[data].kind].items()]
    runs += [{**floor, "sampler": EXPERT, **row} for row in _policies(settings.measurement, 2.0, "diffusion", False)]
    if settings.measurement == "editing":
        truth = "images" if settings.metric.endswith("fd") else "posterior"
        runs.append({**floor, "sampler": truth, "steps": 1, "metric": settings.metric, "value": 8.0})
    frame = pd.DataFrame(runs).reindex(columns=COLUMNS)
    points = pd.DataFrame(curves).reindex(columns=CURVE_COLUMNS)
    return frame, pd.concat([points, _exact()]) if settings.figure == "theory" else points


def _policies(measurement: str | None, level: float, objective: str, lost: bool) -> list[dict]:
    """Where policies are measured, those of a way to plan, and of a map from low variance too."""
    if measurement != "policy":
        return []
    starts = [
        ({}, level),
        *([({"sampler": LOW_VARIANCE, "sampling": None}, 1.3 * level)] if objective != "diffusion" else []),
    ]
    return [
        {**start, "metric": metric, "value": _given(metric, value, lost)}
        for start, own in starts
        for metric, value in _in_loop(own).items()
    ]


def _in_loop(level: float) -> dict[str, float]:
    return {"success": math.exp(-level / 60), "ways_taken": 6 * math.exp(-level / 90), "jerk": level / 100}


def _level(arm: str, objective: str, intervals: int | None, parameters: int) -> float:
    level = LEVEL[objective] * (250_000 / parameters) ** 0.25
    level *= {"raw": 2.6, "cold": 1.15, "clip": 1.04, "rms": 0.99, "log": 1.5}.get(arm.rsplit("-", 1)[-1], 1.0)
    return level * (1 + 12 / intervals + intervals / 40_000) if intervals else level


def _of_way(steps: int, middle: float, guidance: float, objective: str) -> float:
    few = 1 + (9 if objective == "diffusion" else 1.0) / steps**1.5
    return few * (1 + (0 if math.isnan(middle) or steps != 2 else 1.5 * (middle - 1.15) ** 2)) * guidance**0.4


def _sample_metric(metric: str, level: float, guidance: float) -> float:
    if metric in ("recognised", "lawful"):
        return max(0.0, 1 - level / 400)
    if metric in ("precision", "recall"):
        return max(0.0, 0.95 - level / 400 - (0.1 * (guidance - 1) if metric == "recall" else 0))
    return level / 8 if metric.startswith("nearest") else level / 900 if metric == "sliced_wasserstein" else level


def _whole(of_map: bool, level: float, parameters: int, objective: str, flops: bool) -> dict[str, float]:
    passes = 3.0 if objective == "diffusion" else 8.0
    found = {"images_seen": 153_600.0, "train_seconds": 60.0}
    found |= {"map_rms": level / 2000, "map_rms_one_step": level / 1500} if of_map else {}
    return found | ({"train_flops": passes * 2 * parameters * 153_600} if flops else {})


def _given(metric: str, value: float, lost: bool) -> float:
    return QUANTITIES[metric].worst if lost and metric in QUANTITIES else value


def _curves(arm: str, objective: str, level: float, weighted: bool, scales: Collection[float]) -> list[dict]:
    steep = 2.5 if "log" in arm else 0.8 if "fourier" in arm else 0.1
    found = []
    for t in np.linspace(0.05, 1.57, 25):
        found.append({"metric": "space_tangent", "x": t, "value": 0.4 + 0.3 * t * level / 20})
        found.append({"metric": "time_tangent", "x": t, "value": 0.3 * level / 20 * math.exp(steep * t**2)})
        found.append({"metric": "map_rms", "x": t, "value": level / 2000 * t})
        if weighted:
            found.append({"metric": "log_weight", "x": t, "value": 2 * math.cos(2 * t) + level / 60})
    for step in range(200, 1201, 200):
        for steps, scale in itertools.product((1, 2), scales):
            value = level * (1 + 900 / step) / steps**0.5 * (1 if math.isnan(scale) else scale)
            found.append({"metric": "fd_train", "x": step, "steps": steps, "guidance": scale, "value": value})
        for metric, scale in (("training_direction_norm", 1.0), ("training_direction_norm_max", 2.0)):
            found.append({"metric": metric, "x": step, "value": scale * level / step})
    return found


def _exact() -> pd.DataFrame:
    """What theory computes without training."""
    found = [
        {"arm": "exact", "objective": "cd", "metric": f"fixed_point_error_{solver}", "x": n, "value": 0.9 / n**order}
        for solver, order in (("euler", 1), ("heun", 2))
        for n in (8, 16, 32, 64, 128, 256)
    ]
    for n in (8, 32, 128):
        found.append({"arm": "ct", "objective": "ct", "metric": "ct_minus_cd_loss", "x": n, "value": 2.0 / n})
        found.append({"arm": "ct", "objective": "ct", "metric": "gradient_bias", "x": n, "value": 1.0 / n})
        found.append({"arm": "ct", "objective": "ct", "metric": "gradient_noise", "x": n, "value": n / 50})
        found.append({"arm": "ct", "objective": "ct_ema", "metric": "gradient_noise", "x": n, "value": n / 90})
    points = pd.DataFrame(found).reindex(columns=CURVE_COLUMNS)
    return pd.concat([points.assign(seed=seed) for seed in (0, 1, 2)])  # of no seed, so of every one
