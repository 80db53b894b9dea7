"""Floating-point operations of training and sampling, counted by torch and not estimated."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from workflow.runtime.assembly import Modules, Tensors, make_modules, open_data, step_function
from workflow.runtime.measurements.measured import Measured, Row
from workflow.runtime.records import Value
from workflow.runtime.sampling import draw_samples
from workflow.study import Run, Study

SAMPLES = 10
aten = torch.ops.aten
FORMULAS = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}
"""torch's own, and those of attention on a CPU, which torch leaves out."""


class Operations(TorchDispatchMode):
    """Counts by torch's own formulas what runs inside it.

    torch's FlopCounterMode also tracks modules, by hooks that a module under value_and_tangent refuses.
    """

    total: float = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def measure(study: Study, experiment: str) -> Measured:
    """train_flops of every arm's whole training, and sample_flops of every way in which it is sampled."""
    rows = []
    for arm in study.arms_of(experiment):
        rows.append(Row(Value(metric="train_flops", value=_of_training(study, arm)), arm))
        shown = study.experiments[experiment].samplers or study.samplers_of(arm)[:1]
        weights: Tensors = dict(_modules(study, arm).student.named_parameters())
        for way in (way for way in study.samplings(arm) if way.sampler in shown):
            with Operations() as counter, torch.no_grad():
                draw_samples(study, study.arms[arm], weights, [way], SAMPLES)
            value = Value(metric="sample_flops", value=counter.total / SAMPLES, **way.columns)
            rows.append(Row(value, arm))
    return Measured(runs=rows)


def _modules(study: Study, arm: str) -> Modules:
    settings = study.arms[arm]
    return make_modules(study, settings, open_data(study, settings), seed=0, start=None)


def _of_training(study: Study, arm: str) -> float:
    """Operations of one step, backward included, times the arm's steps."""
    settings, dataset = study.arms[arm], open_data(study, study.arms[arm])
    modules, run = _modules(study, arm), Run(arm=arm, seed=0)
    taught: Tensors | None = None
    if study.teacher_run(run) is not None:  # any weights cost the same
        taught = dict(_modules(study, str(settings.teacher)).student.named_parameters())
    step = step_function(study, run, settings, modules, dataset, taught)
    with Operations() as counter:
        loss = step(1, {}).loss
        torch.autograd.grad(loss, list(modules.parameters().values()), materialize_grads=True)
    return float(counter.total * settings.iterations)
