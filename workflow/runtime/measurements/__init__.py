"""What an experiment measures beside its runs: the table.

A measurement is a module with `measure(study, experiment) -> Measured`; adding one is such a module
and one line here. Imports nothing heavy, since every plan reads the table.
"""

MEASUREMENTS = {
    "costs": "workflow.runtime.measurements.costs",
    "normalisation_bias": "workflow.runtime.measurements.normalisation_bias",
    "search": "workflow.runtime.measurements.search",
    "theory": "workflow.runtime.measurements.theory",
}
