"""A trained run that has left, loaded where nothing is installed but trigbench, torch and safetensors, and sampled.

trigbench export results/digits/runs/scd-m/seed-0
python examples/exported.py digits-scd-m-seed-0.safetensors
"""

import sys

import torch

from trigbench import load_exported

model = load_exported(sys.argv[1])
noise = torch.randn(1, 16, *model.shape, generator=torch.Generator().manual_seed(0))
labels = torch.arange(16) % model.classes if model.classes else None
samples = model.sample(noise, labels)  # in unit variance; model.pictures(samples) are pictures
print(f"{len(samples)} samples of {model.card['name']}, of standard deviation {float(samples.std()):.2f}")
