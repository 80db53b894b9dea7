"""What data in the latents of an autoencoder need: diffusers, which is an extra."""

import importlib
from typing import Any

from trigbench.workflow.errors import BenchError


def load_diffusers(key: str) -> Any:
    """The package, asked for by this key of the data. Raises BenchError where it is missing."""
    try:
        package = importlib.import_module("diffusers")
        _ = package.AutoencoderKL  # imported when first named
    except ImportError as error:
        problem = f"the autoencoder needs the package diffusers: {error}"
        raise BenchError(problem, key=key, remedy="pip install 'trigbench[latents]'") from error
    except RuntimeError as error:  # in diffusers' words, whatever it was that could not be imported
        reason = str(error).strip().splitlines()[-1]
        problem = f"diffusers cannot be imported: {reason}"
        remedy = "install torch and torchvision of one build, from one index; or pip uninstall torchvision"
        raise BenchError(problem, key=key, remedy=remedy) from error
    return package
