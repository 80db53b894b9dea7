"""Under which licence the data of each kind stand, as their sources say it; of other kinds who exports says it."""

LICENCES = {
    "mixture": "none needed: drawn from a formula of this project",
    "digits": "CC BY 4.0: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI), by way of scikit-learn",
    "cifar10": "none is stated by its authors: Krizhevsky, Learning Multiple Layers of Features from Tiny Images",
    "imagenet64": "ImageNet's terms of access: research and education that are not commercial",
    "imagenet512": "ImageNet's terms of access: research and education that are not commercial",
}
"""By the name of a kind (workflow.study.kinds). Of `idx`, folders and modules of one's own nobody here knows."""
