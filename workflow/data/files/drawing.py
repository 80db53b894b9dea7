"""What draws from shards share, whatever kind of data lies in them. Imports no judge."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trigbench.workflow.data.dataset import checked_labels
from trigbench.workflow.data.files.shards import Shards
from trigbench.workflow.machine.files import Arrays

AGAIN = "delete the prepared .npz of this data set; the workflow makes it again, and only what is missing"


def drawn_from(arrays: Arrays) -> dict[str, Any]:
    """Where the shards lie, their digests, and how they are drawn."""
    return json.loads(str(arrays["about"]))


def shares_of(shards: Shards, folder: Path) -> tuple[int, ...]:
    """How many rows there are of each class. Raises BenchError for a label that is none of them."""
    manifest = shards.manifest
    checked_labels(torch.from_numpy(np.array(shards.labels)), len(shards), len(manifest.classes), folder)
    return tuple(manifest.rows_of_class[name] for name in manifest.classes)
