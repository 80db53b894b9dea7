"""What is measured of policies in a closed loop (the measurement `policy`)."""

from trigbench.workflow.study.quantity import Quantity

EXPERT, LOW_VARIANCE = "expert", "low_variance"
"""In place of a sampler: who demonstrates, and a map from noise of low variance."""
OF_POLICIES: dict[str, Quantity] = {
    "success": Quantity(
        "success rate",
        "higher",
        "share of simulated episodes, from starts that differ, that come to the goal in time and touch nothing",
        signed=True,
        least=0.0,
        floor=0.0,
        ceiling=1.0,
    ),
    "ways_taken": Quantity(
        "ways taken from one start",
        "higher",
        "exp of the entropy of the ways, of those that were shown, by which episodes from one start arrive: how many, "
        "were they taken as often, with Miller's correction for how many arrive; 0 where none does",
        signed=True,
        least=0.0,
    ),
    "first_action_spread": Quantity(
        "spread of the first action",
        "neither",
        "standard deviation over noises of the first action from one start, over the longest step",
        signed=True,
    ),
    "jerk": Quantity(
        "jerk",
        "lower",
        "root mean square of the third difference of positions in time, over the longest step",
    ),
    "evaluations_per_action": Quantity(
        "evaluations of the network per action", "lower", "those of a plan over the actions of it that are done",
        exact=True,
    ),
}  # fmt: skip
COSTS_OF_POLICIES = {
    "latency": "milliseconds for a plan of one episode, over the actions of it that are done: of the machine that "
    "measured, and decides no claim",
}
FROM_LOW_VARIANCE = {LOW_VARIANCE: ("from low variance", ":", "s")}
"""Words, line and marker."""
