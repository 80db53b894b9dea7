"""What to do about each thing that an audit finds wrong."""

RIGHT = {
    "F": "-cos(t)^2 sigma_d F",
    "dx/dt": "+cos(t)^2 dx/dt",
    "x": "-r cos(t) sin(t) x_t",
    "dF/dx": "-r cos(t) sin(t) sigma_d (dF/dx applied to (dx/dt) / sigma_d)",
    "dF/dt": "-r cos(t) sin(t) sigma_d dF/dt",
}
"""The terms of Algorithm 1's direction (arXiv 2410.11081), by the names of the parts."""
JVP = "one jvp of field at (x_t / sigma_d, t) along (cos(t) sin(t) (dx/dt) / sigma_d, cos(t) sin(t))"
ALONG_TEACHER = "take dx/dt = sigma_d teacher(x_t / sigma_d, t), in F - dx/dt and in the direction of the jvp"
ONE_EVALUATION = "take F, its derivative and the output that learns from one evaluation, as by one jvp"
DETACH = "detach F and its derivative inside g: only the first F of F - stop_gradient(F + g) learns"
TERM_BY_TERM = f"compare term by term with Algorithm 1: {' '.join(RIGHT.values())}"
SECOND_TERM = "multiply r into the second term alone: g = -cos(t)^2 (sigma_d F - dx/dt) - r (cos(t) sin(t) x_t + ...)"

REMEDIES = {
    "wrong path: the derivative of F does not follow": f"take the derivative of F by {JVP}",
    "wrong path": ALONG_TEACHER,
    "wrong velocity": ALONG_TEACHER,
    "this is a diffusion loss": f"add {RIGHT['x']}, and -r sigma_d times {JVP}",
    "a discrete loss": "none, where that is meant: Algorithm 1 has the derivative in place of the difference",
    "prior weight twice": "take that weight off",
    "warm-up": SECOND_TERM,
    "at r = ": SECOND_TERM,
    "dropout": ONE_EVALUATION,
    "F and its derivative are evaluated at different times": ONE_EVALUATION,
    "the output that learns": ONE_EVALUATION,
    "the gradient flows through F inside g": DETACH,
    "the gradient flows through the tangent": DETACH,
    "the field is called at": "call it at x_t / sigma_d: a field takes points of unit variance",
    "the whole tangent has the wrong sign": f"turn its sign: {' '.join(RIGHT.values())}",
    "the whole loss has the wrong sign": "regress F onto stop_gradient(F + g), or turn the sign of the loss",
    "the samples of a batch scale each other": "take the norm of each sample for itself, over all but the batch",
    "the samples of a batch depend on each other": "let nothing go over the batch, as batch norm does in training",
    "the loss never called the field": "call the field that the loss is given",
    "the loss has no gradient": "let the F that learns come from the field, undetached",
    "an L1 loss whose signs": TERM_BY_TERM,
    "where most is clipped": "audit it once without clipping, which tells the parts apart",
    "the five parts leave": f"take the derivative of F by {JVP}; or audit the squared loss, if yours is another",
}
"""How a problem begins -> what to do; the first that fits."""


def remedy_of(problem: str) -> str:
    """What to do about one of AuditReport.problems.

    >>> remedy_of("dF/dt: sigma_d is missing")
    'let the term be -r cos(t) sin(t) sigma_d dF/dt, beside the others as Algorithm 1 has them'
    """
    for start, remedy in REMEDIES.items():
        if problem.startswith(start):
            return remedy
    terms = [RIGHT[part] for part in problem.partition(":")[0].split(", ") if part in RIGHT]
    if not terms:
        return TERM_BY_TERM
    return f"let the term{'s' * (len(terms) > 1)} be {' '.join(terms)}, beside the others as Algorithm 1 has them"
