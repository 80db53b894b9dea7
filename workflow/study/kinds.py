"""Kinds of data: the table, and what plans, estimates and pages ask of one. Takes no torch, since every plan reads it.

A kind has one home, and a line in the table. The home is a folder in workflow/data/kinds: `kind.py` has the schema of
its settings and its DataKind; what takes torch stands beside it and is imported when data are made (`making.py`) or
drawn (`draws.py`). A small kind may be one file there, with torch imported in its functions. What makes and judges the
data is the DataKind's `module`. It has `prepare(data, evaluation, sigma_d)`, which makes arrays and facts (`files`
among them: what it has written beside, without which the data count as missing), `open_dataset(arrays, sigma_d)`,
`judge_samples(dataset, samples, wanted)`, `judge_map(dataset, field)`, `floors(dataset)`, and METRICS, the names of
what the judges return. One that stands elsewhere is named in the study (`kind: own`, `module: ...`); it declares in
QUANTITIES what METRICS are where the project does not know them, and its `prepare` may take the study's `settings` as
further parameters, which are checked before any job.

What training imports is hashed into weights, so that a kind tells draws and judges apart: `open_dataset` stands in a
module of its own, `draws`, that imports no judge, and the DataKind says which arrays and settings are its own (`drawn`,
`judging`). Then a new metric of the data, or another extractor, trains nothing again. A kind in one file, and a module
that a study names, does both: an edit of it makes its runs anew from their first step.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PlainValidator, SerializeAsAny, TypeAdapter

from trigbench.workflow.machine.named import imported, named
from trigbench.workflow.study.models import DataSettings

if TYPE_CHECKING:
    from numpy import ndarray

    from trigbench.workflow.machine.files import Arrays
    from trigbench.workflow.study.schema import Arm

KINDS = {
    "mixture": "trigbench.workflow.data.kinds.mixture.kind:MIXTURE",
    "digits": "trigbench.workflow.data.kinds.digits.kind:DIGITS",
    "images_folder": "trigbench.workflow.data.kinds.images.kind:IMAGES",
    "cifar10": "trigbench.workflow.data.kinds.images.kind:IMAGES",
    "imagenet64": "trigbench.workflow.data.kinds.images.kind:IMAGES",
    "imagenet512": "trigbench.workflow.data.kinds.latents.kind:IMAGENET512",
    "idx": "trigbench.workflow.data.kinds.idx.kind:IDX",
    "idx_latents": "trigbench.workflow.data.kinds.idx.latents.kind:IDX_LATENTS",
    "navigation": "trigbench.workflow.data.kinds.navigation.kind:NAVIGATION",
    "speech": "trigbench.workflow.data.kinds.speech.kind:SPEECH",
    "moving": "trigbench.workflow.data.kinds.moving.kind:MOVING",
    "coloured": "trigbench.workflow.data.kinds.coloured.kind:COLOURED",
    "own": "trigbench.workflow.data.kinds.own:OWN",
}
"""Where the DataKind of each name is."""

Metrics = Mapping[str, Collection[str]]
"""What judges return of a map that goes from every angle to 0 (`map`), and of samples (`samples`)."""


@dataclass(frozen=True)
class Known:
    """What settings say of data that need not be there."""

    sentence: str
    """For the page."""
    shape: tuple[int, ...] | None = None
    """None for what only the data know."""
    classes: int | None = None
    """That networks are told, 0 for none; None for what only the data know."""
    metrics: Metrics | None = None
    """None where only the module knows them."""
    features: int = 0
    """Dimensions of the largest feature space in which samples are judged; a covariance needs more samples."""
    seen: bool = True
    """Whether samples have a picture."""
    stored: int = 0
    """Bytes that are written beside the prepared arrays, of the images whose number is given."""
    observed: tuple[int, ...] | None = None
    """The shape of an observation that networks are told; None for none."""


@dataclass(frozen=True)
class Images:
    """How a prepared data set and samples of it are seen as images, (n, h, w) in grey or (n, h, w, 3)."""

    real: "ndarray"
    """Of the training part."""
    decoded: "Callable[[ndarray], ndarray]"
    """Samples (n, *shape) -> images."""
    black: float = 0.0
    white: float = 1.0
    encoded: "Callable[[ndarray], ndarray] | None" = None
    """Pictures, uint8 of (n, 3, h, w), -> the samples (n, *shape) that they show, float32 in unit variance."""
    fold: int = 1
    """So many pixels squared are the channels of one, as torch's pixel_unshuffle has them."""

    def fitting(self, squares: int) -> int:
        """How many stand side by side where so many square ones do."""
        height, width = self.real.shape[1:3]
        return max(1, squares * height // width)


@dataclass(frozen=True)
class Sounds:
    """How a prepared data set and samples of it are heard: of few samples, which are chosen beforehand."""

    rows: tuple[int, ...]
    names: tuple[str, ...]
    """What each of these was asked to be."""
    real: "tuple[tuple[str, list[bytes]], ...]"
    """Held-out clips of the same, by how they are heard, a WAV file each."""
    heard: "Callable[[ndarray], list[bytes]]"
    """Samples (n, *shape) -> a WAV file each."""


@dataclass(frozen=True)
class Films:
    """How a prepared data set and samples of it are seen to move: of few samples, which are chosen beforehand."""

    rows: tuple[int, ...]
    names: tuple[str, ...]
    """What each of these was asked to be."""
    real: "ndarray"
    """Held-out videos of the same, as `levels` has them."""
    levels: "Callable[[ndarray], ndarray]"
    """Samples (n, *shape) -> grey levels from 0 to 1, or beyond these where samples are, (n, frames, h, w)."""


def _plain(data: DataSettings, arrays: "Arrays") -> dict[str, Any]:
    """Samples are the data, divided by sigma_d."""
    return {}


def _fits(data: DataSettings, name: str, arm: "Arm") -> None:
    """Every arm goes with the data."""


@dataclass(frozen=True)
class DataKind:
    """A kind of data."""

    schema: type[DataSettings]
    known: Callable[[Any], Known]
    """Of its settings."""
    module: str | None
    """What makes and judges the data; None where the study names it."""
    draws: str | None = None
    """Where `open_dataset` is, if not in `module`: what training and sampling see of the data, and no judge."""
    drawn: frozenset[str] = frozenset()
    """Names of the prepared arrays that draws are made from; empty for all, as of a module that does both."""
    judging: frozenset[str] = frozenset()
    """Keys of the settings that only judges look at."""
    parts: bool = True
    """Whether there are a training and a held-out part; without, data are drawn afresh."""
    exact: bool = False
    """Whether data may know their own velocity, so that it can teach."""
    small: bool = True
    """Whether data are made in seconds, by one core; else images are read, and seen by an extractor."""
    places: frozenset[str] = frozenset()
    """Keys of the settings, at any depth, that name files and folders."""
    images: "Callable[[Arrays, int], Images] | None" = None
    """(prepared arrays, how many real ones) -> how images are seen; None for what is drawn as points, if at all."""
    sounds: "Callable[[Arrays], Sounds] | None" = None
    """Prepared arrays -> how samples are heard; None for what makes no sound."""
    films: "Callable[[Arrays], Films] | None" = None
    """Prepared arrays -> how samples are seen to move; None for what does not."""
    labelled: str | None = None
    """Where `labelled(dataset) -> data.labelled.Labelled` is: held-out images of known classes, as edits are of. It
    raises LookupError for data that have none, or no classifier. None for what has neither."""
    units: "Callable[[Any, Arrays], dict[str, Any]]" = _plain
    """What samples are of the data, by its settings and prepared arrays, as an exported run says it beside sigma_d and
    pictures."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Of the data by the names of its kind, as their sources say them; of others who exports a run says it."""
    check_arm: "Callable[[Any, str, Arm], None]" = _fits
    """Raises Mistake, its key first, for (settings, an arm's name, the arm) that do not go together."""


def kind_named(name: str) -> DataKind:
    """The kind of that name, which must be in the table."""
    return named(KINDS[name])


def data_kind(data: DataSettings) -> DataKind:
    """The kind of a study's data set."""
    return kind_named(data.kind)


def is_own(data: DataSettings) -> bool:
    """Whether a module makes and judges the data that the study names."""
    return data_kind(data).module is None


def module_of(data: Any) -> str:
    """The name of what makes and judges the data."""
    return data_kind(data).module or data.module


def known_of(data: DataSettings) -> Known:
    """What a data set's settings say of it."""
    return data_kind(data).known(data)


def metrics_of(data_sets: Mapping[str, DataSettings]) -> dict[str, Metrics]:
    """By data set what its judges return, of all that need not import somebody's own code to know."""
    found = {name: known_of(data).metrics for name, data in data_sets.items()}
    return {name: metrics for name, metrics in found.items() if metrics is not None}


def kind_module(data: Any) -> Any:
    """What makes and judges a study's data set, or BenchError where it cannot be imported."""
    return imported(module_of(data), "data")


def draws_of(data: Any) -> str:
    """The name of the module whose `open_dataset` opens the data."""
    return data_kind(data).draws or module_of(data)


def draws_module(data: Any) -> Any:
    """That module, or BenchError where it cannot be imported."""
    return imported(draws_of(data), "data")


def settings_of(data: Any, prepare: Callable[..., Any]) -> dict[str, Any]:
    """What a data set of one's own is given by name: its settings, where `prepare` has more than three parameters."""
    more = list(inspect.signature(prepare).parameters)[3:]
    return dict(data.settings) if is_own(data) and more else {}


def read_data(given: Any) -> DataSettings:
    """The settings by the schema of the kind that they name. Raises pydantic's ValidationError."""
    return _one_of(tuple(dict.fromkeys(kind_named(name).schema for name in KINDS))).validate_python(given)


@cache
def _one_of(schemas: tuple[type[DataSettings], ...]) -> TypeAdapter[Any]:
    either: Any = reduce(or_, schemas)
    return TypeAdapter(Annotated[either, Field(discriminator="kind")])  # pyright: ignore - a type that the table makes


Data = Annotated[SerializeAsAny[DataSettings], PlainValidator(read_data)]
"""A data set's settings, of any kind in the table."""
