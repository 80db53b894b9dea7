"""The papers' constants that stand in more than one place, in the papers' units. Imports nothing: plans read it too."""

SIGMA_D = 0.5
"""Standard deviation that data are scaled to, as those of EDM's and EDM2's published networks (arXiv 2206.00364)."""
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
"""The ends of EDM's noise levels, which the whole lineage keeps."""
MID_TIME = 1.1
"""sCM's middle angle of two-step sampling, for every data set (arXiv 2410.11081, App. G)."""
PROPOSAL_MEAN, PROPOSAL_STD = -1.0, 1.4
"""Mean and standard deviation of ln sigma where nothing else is told: sCT's of CIFAR-10 (arXiv 2410.11081, App. G)."""
NORMALISER = 0.1
"""c of g / (|g| + c) (arXiv 2410.11081, Sec. 4.2); in unit variance c / sigma_d."""
BOUNDARY_STD = 0.5
"""sigma_data of the boundary of LCM, and of what is distilled as it is (arXiv 2310.04378, App.)."""
EMA_RAMPUP = 0.05
"""The half-life of an average is at most this share of the images seen so far (EDM's code)."""
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.99), 1e-8
"""Of the students' Adam where nothing else is told (arXiv 2410.11081, App. G)."""
MOST_GRAPHS = 8
"""For how many kinds of inputs a step is compiled (core.compiled): with more, something moves that is no tensor."""
