"""Whether a data set's module is what preparing, training and judging take it for (workflow.study.kinds)."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trigbench.core.constants import SIGMA_D
from trigbench.core.trigflow import interpolate, velocity
from trigbench.workflow.data.dataset import Dataset, checked
from trigbench.workflow.data.preparing import RESCALE, SPREAD, spread_of
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.run.conformance.finding import Check, Fault, Finding, Unfit, by_chance, findings, same_bits
from trigbench.workflow.run.conformance.stationarity import NOISE
from trigbench.workflow.study.kinds import draws_module
from trigbench.workflow.study.records import Value
from trigbench.workflow.study.samplers import EvaluationSettings

DRAWN = 4096
BATCH = 64
SAMPLES = 512
"""That are judged."""
SHARED = 0.01
"""The share of draws that may lie in another part: real data hold doubles."""
PREPARED, OPENED = "is prepared", "opens and draws"


@dataclass(frozen=True)
class TriedData:
    """A data set's module, and what it is given."""

    module: Any
    data: Any
    """The study's entry."""
    settings: Mapping[str, Any]
    sigma_d: float = SIGMA_D

    def prepare(self, chance: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and facts, while global generators stand at a seed of `chance`."""
        judged = EvaluationSettings(samples=SAMPLES)
        return by_chance(lambda: self.module.prepare(self.data, judged, self.sigma_d, **self.settings), chance)

    @cached_property
    def prepared(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Once."""
        return self.prepare(0)

    def opened(self) -> Dataset:
        """From arrays of its own, as from a file, its draws checked as in training."""
        arrays = {name: np.array(array) for name, array in self.prepared[0].items()}
        opens = self.module if self.data is None else draws_module(self.data)
        return checked(opens.open_dataset(arrays, self.sigma_d), "data")

    def draws(self, seed: int, count: int = DRAWN) -> Tensor:
        """x0 of (count, *shape)."""
        return self.opened().draw(generator("conformance", "data", seed), count)[0]


def check_data(module: Any, data: Any = None, settings: Mapping[str, Any] | None = None) -> list[Finding]:
    """All that holds of the data set which a module makes; `data` is the study's entry, `settings` its own ones."""
    tried = TriedData(module, data, settings or {})
    checks = {
        PREPARED: _prepared, OPENED: _opened, "prepares the same again": _again, "draws by its generator alone": _draws,
        "leaves its arrays alone": _arrays, "is in unit variance": _spread, "velocity": _velocity,
        "keeps parts apart": _apart, "judges": _judges,
    }  # fmt: skip
    made = findings({PREPARED: _of(checks.pop(PREPARED), tried)})
    if made[0].state == "failed":
        return made + [Finding(name, "does not apply", f"{PREPARED!r} failed") for name in checks]
    return made + findings({name: _of(check, tried) for name, check in checks.items()}, first=OPENED)


def _of(check: Callable[[TriedData], str], tried: TriedData) -> Check:
    return lambda: check(tried)


def _prepared(tried: TriedData) -> str:
    remedy = "let prepare(data, evaluation, sigma_d) return ({name: numpy array}, {name: fact})"
    found = tried.prepared
    if not isinstance(found, tuple) or len(found) != 2 or not all(isinstance(part, dict) for part in found):
        raise Fault("prepare does not return two dictionaries", remedy)
    arrays, facts = found
    if bad := [name for name, array in arrays.items() if not isinstance(array, np.ndarray | np.generic)]:
        raise Fault(f"prepare gives {bad[0]!r} as {type(arrays[bad[0]]).__name__}, which is no array", remedy)
    if bad := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise Fault(f"prepare gives {bad[0]!r} as Python objects, which no .npz holds", remedy)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(np.atleast_1d(array)))[0].tolist()
            raise Fault(
                f"prepare gives {name!r} with a number that is not finite, at {place}",
                "take it out, or say why in code",
            )
    try:
        json.dumps(facts)
    except TypeError as error:
        raise Fault(f"its facts are no plain data: {error}", "give numbers and text, as int(count)") from error
    return f"{len(arrays)} arrays ({', '.join(list(arrays)[:4])}{', ...' if len(arrays) > 4 else ''})"


def _opened(tried: TriedData) -> str:
    dataset = tried.opened()
    x0, condition = dataset.draw(generator("conformance", "data", 0), BATCH)
    if x0.dtype != torch.float32:
        raise Fault(f"it draws {x0.dtype}", "draw torch.float32")
    labels = f", labels from 0 to {dataset.classes - 1}" if condition.label is not None else ", no labels"
    return f"points of {dataset.shape}, finite, float32{labels}"


def _again(tried: TriedData) -> str:
    first, again = tried.prepared[0], tried.prepare(1)[0]
    different = [name for name in first if name not in again or not np.array_equal(first[name], again[name])]
    if different or first.keys() != again.keys():
        remedy = (
            "draw from trigbench.workflow.data.randomness.generator(seed, purpose), and give sorted() what has no order"
        )
        raise Fault(f"prepared again {', '.join(different) or 'the names of arrays'} differ", remedy)
    return "the same bits, whatever global generators do"


def _draws(tried: TriedData) -> str:
    one, again = (by_chance(lambda: tried.draws(0, BATCH), chance) for chance in (0, 1))
    if not same_bits(one, again):
        raise Fault("one generator gives different draws", "take all randomness from the generator that draw is given")
    if same_bits(one, tried.draws(1, BATCH)):
        raise Fault("another generator gives the same draws", "use the generator: torch.randint(..., generator=g)")
    return "same seed, same bits; another seed, others"


def _arrays(tried: TriedData) -> str:
    dataset = tried.opened()
    first = dataset.draw(generator("conformance", "data", 0), BATCH)[0]
    kept = first.clone()
    if not same_bits(dataset.draw(generator("conformance", "data", 0), BATCH)[0], kept):
        raise Fault("one generator gives different draws, so that this cannot be told", "mend these first")
    first.zero_()  # as training may, which has a batch of its own
    if not same_bits(dataset.draw(generator("conformance", "data", 0), BATCH)[0], kept):
        raise Fault("a batch is the arrays themselves: what is written to it changes the data", "draw by index, a copy")
    return "a batch is a copy"


def _spread(tried: TriedData) -> str:
    x0 = tried.draws(0)
    spread = spread_of(x0)
    if abs(spread - 1) > SPREAD:
        raise Fault(f"draws have a standard deviation of {spread:.3g}, where 1 is expected", RESCALE)
    return f"standard deviation {spread:.3g}, from {float(x0.min()):.3g} to {float(x0.max()):.3g}"


def _velocity(tried: TriedData) -> str:
    dataset = tried.opened()
    if dataset.velocity is None:
        raise Unfit("its exact velocity is not known")
    g = generator("conformance", "velocity")
    x0 = tried.draws(0)
    t = 0.05 + 1.45 * torch.rand(len(x0), generator=g, dtype=torch.float64)
    z = torch.randn(x0.shape, generator=g)
    x = interpolate(x0, z, t)
    found = dataset.velocity(x, t)
    if found.shape != x.shape or found.dtype != x.dtype:
        raise Fault(f"its velocity is {found.dtype} of {tuple(found.shape)}", "give it the shape and dtype of x")
    apart = (velocity(x0, z, t) - found).flatten(1).double()
    seen = torch.stack([torch.ones_like(t), t.cos(), (2 * t).sin()], 1)
    products = torch.cat([apart[:, :, None] * seen[:, None], (apart * x.flatten(1))[:, :, None] * seen[:, None]], 1)
    error = products.std(0) / math.sqrt(len(x0))
    z_score = float((products.mean(0).abs() / error.clamp(min=1e-12)).max())
    if z_score > NOISE:
        raise Fault(
            f"its velocity is not that of its draws: z = {z_score:.1f}",
            "check it against trigbench.core.oracle.velocity",
        )
    return f"agrees with its draws: largest z = {z_score:.1f}"


def _apart(tried: TriedData) -> str:
    x0 = tried.draws(0, 256).flatten(1)
    shares = {name: share for name, array in tried.prepared[0].items() if (share := _share(x0, array, tried.sigma_d))}
    source = max(shares, key=lambda name: shares[name], default=None)
    if source is None:
        raise Unfit("no array holds what it draws: data are drawn afresh, or lie in files beside")
    for name, share in shares.items():
        if name != source and share > SHARED:
            remedy = "split before anything else; judge by what training never sees"
            raise Fault(f"{share:.0%} of what is drawn from {source!r} lies in {name!r} too", remedy)
    return f"draws lie in {source!r} alone"


def _share(x0: Tensor, array: np.ndarray, sigma_d: float) -> float:
    """Of the draws, how many lie in an array, in unit variance or in data units."""
    if array.ndim < 2 or array[0].size != x0.shape[1] or array.dtype.kind != "f":
        return 0.0
    rows = torch.from_numpy(np.array(array)).float().flatten(1)
    near = [
        torch.cdist(x0, rows / unit, compute_mode="donot_use_mm_for_euclid_dist").amin(1) for unit in (1.0, sigma_d)
    ]
    return max(float((distance < 1e-5 * math.sqrt(x0.shape[1])).double().mean()) for distance in near)


def _judges(tried: TriedData) -> str:
    module, dataset = tried.module, tried.opened()
    of_samples, of_map = (tuple(module.METRICS[judge]) for judge in ("samples", "map"))
    found = module.judge_samples(dataset, tried.draws(2, SAMPLES), of_samples)
    if missing := [name for name in of_samples if not isinstance(found.get(name), int | float)]:
        remedy = "let judge_samples(dataset, samples, wanted) return {name: number} of METRICS['samples']"
        raise Fault(f"judge_samples gives no number for {missing[0]!r}", remedy)
    if bad := [name for name in of_samples if not math.isfinite(found[name])]:
        raise Fault(f"{bad[0]!r} of {SAMPLES} fresh draws is {found[bad[0]]}", "let it be finite for good samples")
    values, curve = module.judge_map(dataset, dataset.velocity or (lambda x, t: torch.zeros_like(x)))
    if {value.metric for value in values} != set(of_map):
        said = f"judge_map gives {[value.metric for value in values]}, METRICS['map'] says {list(of_map)}"
        raise Fault(said, "let both say the same")
    every = [*values, *curve, *module.floors(dataset)]
    if not all(isinstance(value, Value) for value in every):
        remedy = "give trigbench.workflow.study.records.Value(metric=, value=)"
        raise Fault("judge_map or floors give what is no Value", remedy)
    said = ", ".join(f"{name} {found[name]:.3g}" for name in of_samples)
    return f"of {SAMPLES} fresh draws: {said or 'nothing is measured of samples'}"
