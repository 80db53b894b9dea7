"""What an experiment measures beside its runs: the table.

A measurement is a module with `measure(study, experiment) -> Measured`; adding one is such a module
and one line here. Imports nothing heavy, since every plan reads the table.
"""

from trigbench.workflow.study.edits import EDITED

MEASUREMENTS = {
    "adapters": "trigbench.workflow.run.measurements.adapters",
    "costs": "trigbench.workflow.run.measurements.costs",
    "editing": "trigbench.workflow.run.measurements.editing",
    "flow_map": "trigbench.workflow.run.measurements.flow_map",
    "normalisation_bias": "trigbench.workflow.run.measurements.normalisation_bias",
    "power_bias": "trigbench.workflow.run.measurements.power_bias",
    "search": "trigbench.workflow.run.measurements.search",
    "step_errors": "trigbench.workflow.run.measurements.step_errors",
    "theory": "trigbench.workflow.run.measurements.theory",
}

MEASURED = {
    "adapters": ("interaction", "interaction_order", "interaction_at", "interaction_size"),
    "editing": (*EDITED, "edit_gap"),
    "flow_map": ("segment_rms", "map_rms", "map_rms_one_step", "map_worst"),
    "normalisation_bias": ("normalisation_bias", "critical_batch"),
    "power_bias": (
        "power_bias_none", "power_bias_half", "power_bias_one", "power_bias_normalised", "power_critical_batch_none",
        "power_critical_batch_half", "power_critical_batch_one", "power_critical_batch_normalised",
    ),
    "step_errors": ("excess_renoised", "excess_jumps", "predicted_renoised", "predicted_jumps"),
    "theory": (
        "fixed_point_error_euler", "fixed_point_error_heun", "ct_minus_cd_loss", "gradient_bias", "gradient_noise",
    ),
}  # fmt: skip
"""The curves and quantities (workflow.study.quantities) that they measure."""
