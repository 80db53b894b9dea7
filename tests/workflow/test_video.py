"""Moving shapes: what is drawn against the motion that was asked for, what is measured against exact videos and against
ones that break a law, and how samples are seen to move."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from trigbench.workflow.data.kinds.moving import making, motion, viewer
from trigbench.workflow.data.kinds.moving.dimensions import FRAMES, SHAPES, SIDE, TRAVEL
from trigbench.workflow.data.kinds.moving.draws import open_dataset
from trigbench.workflow.data.kinds.moving.kind import MOVING, MovingData
from trigbench.workflow.data.randomness import generator
from trigbench.workflow.data.shares import labels_in_shares
from trigbench.workflow.machine.files import write_arrays, write_json
from trigbench.workflow.report.films import SCALE, films
from trigbench.workflow.report.pages import common
from trigbench.workflow.report.pictures import pictures
from trigbench.workflow.run.conformance import data_sets
from trigbench.workflow.run.conformance.data_sets import check_data
from trigbench.workflow.run.samples import sample
from trigbench.workflow.run.training import train
from trigbench.workflow.study.kinds import kind_module, known_of
from trigbench.workflow.study.reading import load
from trigbench.workflow.study.samplers import EvaluationSettings
from trigbench.workflow.study.study import Run, Study

GIVEN: dict[str, Any] = {"kind": "moving", "videos": 400, "held_out": 200, "seed": 3}


@pytest.fixture(scope="module")
def prepared() -> tuple[MovingData, dict, dict]:
    """(settings, arrays, facts)."""
    data = MovingData.model_validate(GIVEN)
    return data, *making.prepare(data, EvaluationSettings(samples=100), 0.5)


# --- motion ---------------------------------------------------------------------------------------


def motions(count: int, slowest: float = 0.0, fastest: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Where as many videos begin, and their velocities."""
    g = generator("motions", count)
    turn = 2 * torch.pi * torch.rand(count, generator=g, dtype=torch.float64)
    speed = slowest + (fastest - slowest) * torch.rand(count, generator=g, dtype=torch.float64)
    start = TRAVEL * torch.rand(count, 2, generator=g, dtype=torch.float64)
    return start, speed[:, None] * torch.stack([turn.cos(), turn.sin()], 1)


def videos(places: torch.Tensor, shape: int = 0) -> torch.Tensor:
    return motion.rendered(motion.sprites([*SHAPES])[shape].expand(len(places), -1, -1), places)


def test_walls_throw_back_and_pixels_have_the_mass_where_it_is() -> None:
    places = motion.tracks(torch.tensor([[6.0, 1.0]]), torch.tensor([[1.5, -0.25]]))[0]
    assert places[:, 0].tolist() == [6, 6.5, 5, 3.5, 2, 0.5, 1, 2.5]
    assert places[:, 1].tolist() == [1, 0.75, 0.5, 0.25, 0, 0.25, 0.5, 0.75]
    drawn = videos(places[None].double(), shape=2)[0]
    axis = torch.arange(SIDE, dtype=torch.float64)
    assert torch.allclose(drawn.sum((1, 2)), torch.tensor(9.0).double())
    centres = torch.stack([drawn.sum(2) @ axis, drawn.sum(1) @ axis], 1) / 9
    assert torch.allclose(centres - 2, places.double()) and drawn.max() <= 1
    assert torch.equal(drawn[4, 2:7, :5], motion.sprites(["plus"])[0]), "on whole pixels it is what it is"


def test_what_is_drawn_is_seen_where_it_is() -> None:
    places = motion.tracks(*motions(40))
    for number in range(len(SHAPES)):
        found = motion.seen(videos(places, number), [*SHAPES])
        assert (found.shape == number).all() and found.missed.max() < 1e-6
        assert (found.places - places).abs().max() < 1e-6
    noisy = videos(places) + 0.05 * torch.randn(40, FRAMES, SIDE, SIDE, generator=generator("noise"))
    assert (motion.seen(noisy, [*SHAPES]).places - places).abs().mean() < 0.05
    nothing = motion.seen(torch.zeros(1, FRAMES, SIDE, SIDE), [*SHAPES])
    assert (nothing.missed > making.WHOLE).all() and nothing.places.isfinite().all()
    for number in range(len(SHAPES)):  # all shapes are held as strictly
        blurred = videos(places, number) + 0.1 * torch.randn(40, FRAMES, SIDE, SIDE, generator=generator("noise"))
        assert (motion.seen(blurred, [*SHAPES]).missed <= making.WHOLE).double().mean() > 0.9


def test_an_even_motion_is_found_with_its_speed_and_others_are_as_far_as_they_are() -> None:
    for fastest in (3.5, 1.5):
        start, velocity = motions(2000, slowest=0.2, fastest=fastest)
        away, speed = motion.nearest_even(motion.tracks(start, velocity), fastest)
        assert away.max() < 1e-6
    exact = motion.tracks(start, velocity)
    assert (speed - velocity.norm(dim=1)).abs().quantile(0.95) < 1e-6, "but where few frames leave two motions"
    shaken = 0.1 * torch.randn(exact.shape, generator=generator("shaken"), dtype=torch.float64)
    away, _ = motion.nearest_even((exact + shaken).clamp(0, TRAVEL), 1.5)
    # two lines of two numbers each are fitted to 2 x 8: of the variance 3 / 4 is left, less at walls and by luck
    assert away.square().mean().sqrt() == pytest.approx(0.1 * 2**0.5 * 0.75**0.5, rel=0.12)
    jump = torch.tensor([0.0] * 4 + [4.0] * 4, dtype=torch.float64)
    stuck = torch.stack([jump, torch.zeros(8, dtype=torch.float64)], 1)[None]
    begun, fast = torch.linspace(0, TRAVEL, 141)[:, None, None], torch.linspace(-1.5, 1.5, 121)[:, None]
    brute = float((jump - motion.reflected(begun + fast * torch.arange(8.0))).square().mean(2).min().sqrt())
    assert float(motion.nearest_even(stuck, 1.5)[0]) == pytest.approx(brute, abs=0.02)


# --- the data -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"shapes": ["plus", "plus"]}, "shapes: one is there twice"),
        ({"shapes": ["star"]}, "Input should be 'square', 'frame', 'plus' or 'cross'"),
        ({"speed": [2, 1]}, "speed: from 2.0 to 1.0"),
        ({"speed": [1, 9]}, "less than or equal to 3.5"),
        ({"held_out": 20}, "held_out: 20 videos cannot fix a covariance of 64 features"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changed: dict, wanted: str) -> None:
    with pytest.raises(ValidationError, match=wanted):
        MovingData.model_validate(GIVEN | changed)


def test_videos_are_in_unit_variance_shapes_in_turn_and_a_function_of_the_seed(prepared) -> None:
    data, arrays, facts = prepared
    dataset, known = open_dataset(arrays, 0.5), known_of(data)
    assert (dataset.shape, dataset.classes) == (known.shape, known.classes) == ((FRAMES, SIDE, SIDE), 4)
    assert dataset.shares == (100,) * 4 and facts["shapes_seen_held_out"] > 0.8
    train = making.part(dataset, "train")
    assert (train.mean(), train.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-3))
    again, labels, _ = making._drawn(data, "train", 400)
    assert torch.equal(labels, torch.from_numpy(arrays["train_labels"]))
    assert ((again - float(arrays["mean"])) / float(arrays["std"]) - train).abs().max() < 1e-5
    other = making._drawn(data.model_copy(update={"seed": 4}), "train", 400)[0]
    assert (other - again).abs().max() > 0.5
    assert len(torch.cat([train, making.part(dataset, "held_out")]).flatten(1).unique(dim=0)) == 600


def test_samples_are_asked_for_in_the_shares_that_they_are_drawn_in() -> None:
    data = MovingData.model_validate(GIVEN | {"shapes": ["square", "frame", "plus"], "videos": 100, "held_out": 200})
    numbers = {"mean": 0.0, "std": 1.0, "slowest": 0.5, "fastest": 1.5}
    arrays: Any = {name: np.float64(value) for name, value in numbers.items()}
    dataset_shares = np.bincount(np.arange(100) % 3).tolist()
    asked = torch.from_numpy(labels_in_shares(range(200), dataset_shares))
    places = motion.tracks(*motions(200, slowest=0.5))
    drawn = motion.rendered(motion.sprites(data.shapes)[asked], places)
    watched = making.watch(drawn, arrays | {"shapes": np.array(data.shapes)}, dataset_shares)
    assert watched.lawful(arrays).all()


def test_data_conform(prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "EPOCHS", 1)
    monkeypatch.setattr(data_sets, "SAMPLES", 80)
    monkeypatch.setattr(data_sets, "DRAWN", 1024)
    found = check_data(kind_module(prepared[0]), prepared[0])
    assert {one.check for one in found if one.state == "failed"} == set(), found
    assert {one.check for one in found if one.state == "does not apply"} == {"velocity"}


def test_each_measure_says_which_law_is_broken(prepared) -> None:
    dataset = open_dataset(prepared[1], 0.5)
    held = making.part(dataset, "held_out")
    physics = ["lawful", "intact", "motion_error", "shape_error", "speed_error"]
    black = -float(prepared[1]["mean"] / prepared[1]["std"])

    def of(samples: torch.Tensor) -> list[float]:
        found = making.judge_samples(dataset, samples, physics)
        return [found[name] for name in physics]

    assert of(held) == [1, 1, pytest.approx(0, abs=1e-3), pytest.approx(0, abs=1e-3), 0]
    stirred = torch.stack([held.roll(4 * k, 0)[:, k] for k in range(FRAMES)], 1)
    lawful, intact, moved, shaped, _ = of(stirred)  # each frame of another video of that shape
    assert (lawful, intact) == (pytest.approx(0, abs=0.02), 1) and moved > 1 and shaped < 1e-3
    still = of(held[:, :1].expand_as(held).contiguous())
    assert still[:2] == [0, 1] and still[4] == pytest.approx(1, abs=0.1), "speeds from 0.5 to 1.5 are missed"
    assert making.judge_samples(dataset, held[:, :1].expand_as(held).contiguous(), ["fd_train"])["fd_train"] > 3
    assert of(held.roll(1, 0))[:3] == [0, 0, pytest.approx(0, abs=1e-3)], "of another shape than was asked for"
    two = torch.maximum(held, held.roll(4, 0))
    assert of(two)[1] < 0.05 and of(two)[3] > 0.4
    vanished = held.clone()
    vanished[:, -1] = black
    assert of(vanished)[1] == 0
    found = making.judge_samples(dataset, held)
    assert set(found) == set(making.METRICS["samples"])
    assert {value.metric for value in making.floors(dataset)} == set(found) - {"fd_held_out", "speed_error"}
    assert making.judge_samples(dataset, stirred, ["fd_train"])["fd_train"] > 3 * found["fd_train"]


# --- in a study -----------------------------------------------------------------------------------


@pytest.fixture
def study(tiny: dict, write_study: Callable[[dict], Path], tmp_path: Path, prepared, monkeypatch) -> Study:
    """Images first and then motion, of prepared videos."""
    monkeypatch.chdir(tmp_path)
    tiny["data"] = {"shapes": GIVEN}
    network = {"network": "trigbench.core.networks.video:VideoDiT"}
    size = {"width": 36, "depth": 1, "heads": 2, "patch": 6}
    tiny["sizes"] = {part: network | {"settings": size | {"trained": part}} for part in ("image", "motion", "all")}
    tiny["defaults"] |= {"data": "shapes", "size": "motion", "iterations": 2, "batch": 4}
    tiny["samplers"] = {"ddim-2": {"solver": "ddim", "evaluations": [2]}}
    of_teacher = {"objective": "diffusion", "samplers": ["ddim-2"]}
    lcm = {"objective": "lcm", "skip": 100}
    tiny["arms"] = {
        "image-teacher": of_teacher | {"size": "image"},
        "video-teacher": of_teacher | {"start": "image-teacher"},
        "image-lcm": lcm | {"teacher": "image-teacher", "start": "video-teacher", "size": "image"},
        "decoupled": lcm | {"teacher": "video-teacher", "start": "image-lcm"},
    }
    experiment = tiny["experiments"]["training"]
    tiny["experiments"] = {"video": experiment | {"figure": "steps", "metric": "lawful", "arms": ["*"]}}
    tiny["evaluation"] = {"samples": 65}
    found = load(write_study(tiny))
    write_arrays(found.data_file("shapes"), prepared[1])
    write_json(found.data_file("shapes").with_suffix(".json"), {})
    return found


@pytest.mark.slow
def test_images_are_learned_and_then_motion_alone_and_samples_are_seen_to_move(study: Study) -> None:
    from trigbench.workflow.machine.tensors import read_tensors  # noqa: PLC0415

    runs = [Run(arm=arm, seed=study.seeds[0]) for arm in study.arms]
    weights = []
    for run in runs:
        train(study, run)
        sample(study, run)
        weights.append(read_tensors(study.files(run).weights, ""))
    pairs = {  # of each its start, and the part that stays
        "video-teacher": (0, 1, "image."), "image-lcm": (1, 2, "motion."), "decoupled": (2, 3, "image."),
    }  # fmt: skip
    for before, after, kept in pairs.values():
        same = {name for name, weight in weights[before].items() if torch.equal(weight, weights[after][name])}
        assert {name for name in weights[before] if name.startswith(kept)} == {n for n in same if n.startswith(kept)}
        assert any(name not in same for name in weights[before])
    found = films(study, runs)
    assert found is not None and found.names == [*SHAPES] and found.frames == FRAMES
    assert [label for label, _ in found.rows][:2] == ["held-out videos", "image-teacher, 2 evaluations"]
    content = base64.b64decode(found.rows[0][1][1].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as strip:
        levels = np.asarray(strip)[::SCALE, ::SCALE] / 255
    held = open_dataset(read_held(study), 0.5).arrays
    wanted = np.concatenate(list(held["held_out"][1] / 0.5 * held["std"] + held["mean"]), 1)
    assert len(content) < 3000 and levels == pytest.approx(wanted.clip(0, 1), abs=1 / 500)
    macro = '{% import "macros.html.j2" as show %}{{ show.films(shown) }}'
    page = common._environment().from_string(macro).render(shown=found)
    assert (
        page.count('role="img"') == 4 * len(found.rows)
        and 'aria-label="frame: decoupled, 2 steps, a film of 8 frames"' in page
    )
    figure = pictures(study, runs)
    assert figure is not None and len(figure.axes) == len(found.rows)
    assert figure.axes[0].images[0].get_array().shape == (SIDE, 2 * (FRAMES * (SIDE + 1)))  # pyright: ignore


def read_held(study: Study) -> dict:
    from trigbench.workflow.machine.files import read_arrays  # noqa: PLC0415

    return read_arrays(study.data_file("shapes"), "")


def test_frames_stand_side_by_side_with_a_line_between(prepared) -> None:
    arrays = prepared[1]
    assert MOVING.images is not None
    seen = MOVING.images(arrays, 6)
    assert seen.real.shape == (6, SIDE, FRAMES * (SIDE + 1) - 1) and seen.fitting(20) == 2
    levels = (seen.real - seen.black) / (seen.white - seen.black)
    assert (levels.min(), levels.max()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-5))
    assert (levels[:, :, SIDE :: SIDE + 1] == pytest.approx(0.5)) and levels[0, :, :SIDE].sum() == pytest.approx(25)


def test_a_size_may_start_from_one_that_trains_another_part_of_the_same_network_and_no_other(
    tiny: dict, write_study: Callable[[dict], Path], study: Study
) -> None:
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415

    tiny["sizes"]["motion"]["settings"]["width"] = 24
    with pytest.raises(BenchError, match=r"'image-teacher' is of size 'image', this arm of 'motion'"):
        load(write_study(tiny))


def test_motion_alone_of_images_at_random_is_refused(
    tiny: dict, write_study: Callable[[dict], Path], study: Study
) -> None:
    from trigbench.workflow.errors import BenchError  # noqa: PLC0415

    del tiny["arms"]["video-teacher"]["start"]
    with pytest.raises(
        BenchError, match=r"trains motion alone[\s\S]*arms\.video-teacher\.start[\s\S]*start from an arm"
    ):
        load(write_study(tiny))


def test_data_that_stand_still_have_no_films(tiny: dict, with_data) -> None:
    assert films(with_data(tiny), [Run(arm="scd", seed=0)]) is None
