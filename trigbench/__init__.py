"""Consistency models, continuous in time: exact tangents, objectives, samplers and an audit, tested against oracles.

These names are what others rely on; each is imported when it is asked for, so that `import trigbench` takes no torch.
Below stand the rooms: `trigbench.core`, tensors in and tensors out, and `trigbench.workflow`, the benchmark.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from trigbench import core as core
    from trigbench import workflow as workflow
    from trigbench.core.attention import attention_with_tangent as attention_with_tangent
    from trigbench.core.audit import AuditReport as AuditReport
    from trigbench.core.audit import audit_loss as audit_loss
    from trigbench.core.audit import audit_tangent as audit_tangent
    from trigbench.core.citing import citation as citation
    from trigbench.core.compiled import compiled_step as compiled_step
    from trigbench.core.condition import UNTOLD as UNTOLD
    from trigbench.core.condition import Condition as Condition
    from trigbench.core.ema import half_life_beta as half_life_beta
    from trigbench.core.ema import update as update
    from trigbench.core.exported import Exported as Exported
    from trigbench.core.fields import Draws as Draws
    from trigbench.core.fields import Fields as Fields
    from trigbench.core.fields import bind as bind
    from trigbench.core.flow_maps import eulerian_direction as eulerian_direction
    from trigbench.core.flow_maps import lagrangian_direction as lagrangian_direction
    from trigbench.core.flow_maps import semigroup_direction as semigroup_direction
    from trigbench.core.forward_mode import value_and_tangent as value_and_tangent
    from trigbench.core.guidance import guided as guided
    from trigbench.core.networks.adm import ADM as ADM
    from trigbench.core.networks.ddpmpp import DDPMpp as DDPMpp
    from trigbench.core.networks.dit import DiT as DiT
    from trigbench.core.networks.edm2 import EDM2 as EDM2
    from trigbench.core.networks.mlp import ResidualMLP as ResidualMLP
    from trigbench.core.networks.video import VideoDiT as VideoDiT
    from trigbench.core.objectives.align_your_flow import ayf as ayf
    from trigbench.core.objectives.align_your_flow import ayf_lagrangian as ayf_lagrangian
    from trigbench.core.objectives.alphaflow import alphaflow as alphaflow
    from trigbench.core.objectives.continuous import ContinuousSettings as ContinuousSettings
    from trigbench.core.objectives.continuous import ms_scd as ms_scd
    from trigbench.core.objectives.continuous import scd as scd
    from trigbench.core.objectives.continuous import sct as sct
    from trigbench.core.objectives.diffusion import diffusion as diffusion
    from trigbench.core.objectives.discrete import dscd as dscd
    from trigbench.core.objectives.discrete import dsct as dsct
    from trigbench.core.objectives.distribution_matching import dmd2 as dmd2
    from trigbench.core.objectives.distribution_matching import rcm as rcm
    from trigbench.core.objectives.latent_consistency import lcm as lcm
    from trigbench.core.objectives.lineage import cd as cd
    from trigbench.core.objectives.lineage import ct as ct
    from trigbench.core.objectives.lineage import ect as ect
    from trigbench.core.objectives.lineage import ict as ict
    from trigbench.core.objectives.meanflow import imf as imf
    from trigbench.core.objectives.meanflow import meanflow as meanflow
    from trigbench.core.objectives.moment_matching import imm as imm
    from trigbench.core.objectives.multistep import mscm as mscm
    from trigbench.core.objectives.phased import pcm as pcm
    from trigbench.core.objectives.progressive import pd as pd
    from trigbench.core.objectives.regression import Regression as Regression
    from trigbench.core.objectives.regression import Settings as Settings
    from trigbench.core.objectives.regression import regress as regress
    from trigbench.core.objectives.score_distillation import scd_vsd as scd_vsd
    from trigbench.core.objectives.score_distillation import vsd as vsd
    from trigbench.core.objectives.score_identity import sid as sid
    from trigbench.core.objectives.self_distillation import lsd as lsd
    from trigbench.core.objectives.self_distillation import tvm as tvm
    from trigbench.core.objectives.shortcut import shortcut as shortcut
    from trigbench.core.objectives.trajectory import ctm as ctm
    from trigbench.core.samplers.consistency import sample_consistency as sample_consistency
    from trigbench.core.samplers.consistency import sample_segments as sample_segments
    from trigbench.core.samplers.jumps import sample_jumps as sample_jumps
    from trigbench.core.schedules import largest_angle as largest_angle
    from trigbench.core.schedules import tangent_warmup as tangent_warmup
    from trigbench.core.tangents import Direction as Direction
    from trigbench.core.tangents import map_tangent as map_tangent
    from trigbench.core.tangents import segment_direction as segment_direction
    from trigbench.core.trigflow import angle_from_noise_level as angle_from_noise_level
    from trigbench.core.trigflow import consistency_map as consistency_map
    from trigbench.core.trigflow import interpolate as interpolate
    from trigbench.core.trigflow import lognormal_angle as lognormal_angle
    from trigbench.core.trigflow import noise_level_from_angle as noise_level_from_angle
    from trigbench.core.trigflow import rotate as rotate
    from trigbench.core.trigflow import score as score
    from trigbench.core.trigflow import velocity as velocity
    from trigbench.core.two_angles import TwoAngles as TwoAngles
    from trigbench.core.two_angles import two_angles as two_angles
    from trigbench.exported import load_exported as load_exported

    _Objective = Callable[[Fields, Tensor, Draws, Any], Regression]

__version__ = "0.2.0.dev0"

HOMES = {
    # the process
    "interpolate": "trigbench.core.trigflow",
    "velocity": "trigbench.core.trigflow",
    "rotate": "trigbench.core.trigflow",
    "consistency_map": "trigbench.core.trigflow",
    "score": "trigbench.core.trigflow",
    "angle_from_noise_level": "trigbench.core.trigflow",
    "noise_level_from_angle": "trigbench.core.trigflow",
    "lognormal_angle": "trigbench.core.trigflow",
    # exact tangents, and what is wrong with somebody's
    "value_and_tangent": "trigbench.core.forward_mode",
    "attention_with_tangent": "trigbench.core.attention",
    "compiled_step": "trigbench.core.compiled",
    "map_tangent": "trigbench.core.tangents",
    "segment_direction": "trigbench.core.tangents",
    "audit_loss": "trigbench.core.audit",
    "audit_tangent": "trigbench.core.audit",
    "AuditReport": "trigbench.core.audit",
    # what an objective sees and gives
    "Condition": "trigbench.core.condition",
    "UNTOLD": "trigbench.core.condition",
    "bind": "trigbench.core.fields",
    "Fields": "trigbench.core.fields",
    "Draws": "trigbench.core.fields",
    "ContinuousSettings": "trigbench.core.objectives.continuous",
    "Settings": "trigbench.core.objectives.regression",
    "Regression": "trigbench.core.objectives.regression",
    "regress": "trigbench.core.objectives.regression",
    "guided": "trigbench.core.guidance",
    "Direction": "trigbench.core.tangents",
    # of two times
    "two_angles": "trigbench.core.two_angles",
    "TwoAngles": "trigbench.core.two_angles",
    "eulerian_direction": "trigbench.core.flow_maps",
    "lagrangian_direction": "trigbench.core.flow_maps",
    "semigroup_direction": "trigbench.core.flow_maps",
    # papers
    "citation": "trigbench.core.citing",
    # a loop around them: the end of the angles, r of this step, averages of parameters
    "largest_angle": "trigbench.core.schedules",
    "tangent_warmup": "trigbench.core.schedules",
    "half_life_beta": "trigbench.core.ema",
    "update": "trigbench.core.ema",
    # samples
    "sample_consistency": "trigbench.core.samplers.consistency",
    "sample_segments": "trigbench.core.samplers.consistency",
    "sample_jumps": "trigbench.core.samplers.jumps",
    # a trained run that has left (docs/export.md)
    "load_exported": "trigbench.exported",
    "Exported": "trigbench.core.exported",
    # networks
    "ResidualMLP": "trigbench.core.networks.mlp",
    "ADM": "trigbench.core.networks.adm",
    "DDPMpp": "trigbench.core.networks.ddpmpp",
    "DiT": "trigbench.core.networks.dit",
    "EDM2": "trigbench.core.networks.edm2",
    "VideoDiT": "trigbench.core.networks.video",
}
"""Where each public name beside the objectives is defined; the imports above say the same to type checkers.

Public is every objective of the table, what it sees and gives, and what a loop of one's own needs around it: the
examples take nothing else of the core. Other names of the rooms may move in any release.
"""

if not os.path.isdir(os.path.join(__path__[0], "core")):  # a checkout without links, as on Windows
    __path__.append(os.path.dirname(__path__[0]))


def homes() -> dict[str, str]:
    """Where each public name is defined, the objectives' as their table says."""
    paths = [method.path.partition(":") for method in import_module(f"{__name__}.core.objectives").OBJECTIVES.values()]
    return HOMES | {function: module for module, _, function in paths}


def __getattr__(name: str) -> "_Objective":
    """The name's value, from its home, or one of the rooms. An objective needs no line above to have its type."""
    found: Any
    if name in ("core", "workflow"):
        found = import_module(f"{__name__}.{name}")
        return found
    home = HOMES.get(name) or (None if name.startswith("_") else homes().get(name))
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({"__version__", "core", "workflow", *homes()})
