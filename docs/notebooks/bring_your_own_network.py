"""Bring your own network: a notebook of Jupytext's percent format, and a page of the docs."""

# %% [markdown]
# # Bring your own network
#
# Any `torch.nn.Module` can become a consistency model here. This notebook takes one from its first line to samples:
# what it is called with, how to see that its exact tangent is right, what to avoid, how it learns from data alone,
# and how it goes into a study and out of the house. At its end stands a distribution whose consistency map is known,
# so that what was learned is held against the truth. [From a Gaussian to sCM in 15 minutes](from_a_gaussian.md) says
# what a consistency map is.

# %%
import math
import os

import torch
from matplotlib import pyplot as plt
from torch import nn

from trigbench import (
    ContinuousSettings,
    Draws,
    Fields,
    audit_loss,
    bind,
    consistency_map,
    half_life_beta,
    largest_angle,
    sample_consistency,
    sct,
    tangent_warmup,
    update,
    value_and_tangent,
)
from trigbench.core import oracle

SIGMA_D = 0.5

# %% [markdown]
# ## What it is called with
#
# A network is called `(x, t, condition)` and gives `F`, of the shape of `x`:
#
# - `x` are noised points in unit variance, `(batch, *shape)`: data divided by their standard deviation. Nothing is
#   left to be scaled inside.
# - `t` are angles, `(batch,)`, from 0 (data) to `pi/2` (noise).
# - `condition` are labels, `(batch,)`, or None. A network that is told more, as a scale of guidance or a second time,
#   annotates the parameter as `trigbench.Condition` and is given one.
#
# Nothing is inherited, and nothing registered. This one has features of the time, a gate for each label, and layers
# of torch's own:


# %%
class Gated(nn.Module):
    """Two hidden layers, each normalised and then scaled and shifted by what the time and the label say."""

    def __init__(self, shape, classes, width=64):
        super().__init__()
        size = math.prod(shape)
        self.lift = nn.Linear(size, width)
        self.time = nn.Linear(8, width)
        self.label = nn.Embedding(classes, width)
        self.gates = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, size)

    def forward(self, x, t, condition):
        """F(x, t), told labels."""
        waves = t[:, None] * torch.arange(1, 5, device=t.device)  # slow ones: the tangent has their derivative
        told = nn.functional.silu(
            self.time(torch.cat([waves.cos(), waves.sin()], 1).to(x.dtype)) + self.label(condition)
        )
        h = self.lift(x.flatten(1))
        for gate, layer in zip(self.gates, self.layers, strict=True):
            scale, shift = gate(told).chunk(2, 1)
            h = h + layer(nn.functional.gelu(self.norm(h) * (1 + scale) + shift))
        return self.project(self.norm(h)).reshape(x.shape)


# %% [markdown]
# ## Is its tangent exact?
#
# sCM needs the derivative of the network along the flow, beside its output. `value_and_tangent` takes it from the
# module as it stands, in one pass that records the output alone; the reference is torch's own forward mode, which
# costs more. They have to agree, and so do gradients. On the command line `trigbench check mine.py:Gated --shape 2
# --classes 3` does this and more.

# %%
torch.manual_seed(0)
network = Gated((2,), classes=3).double()
labels = torch.arange(64) % 3
x, v = torch.randn(2, 64, 2, dtype=torch.float64)
t = torch.linspace(0.05, 1.5, 64, dtype=torch.float64)
field = bind(network, condition=labels)
found = {}
for method in ("pairs", "func"):
    F, dF = value_and_tangent(field, (x, t), (v, torch.ones_like(t)), method)
    gradient = torch.autograd.grad((F * dF).sum(), list(network.parameters()))
    found[method] = [F.detach(), dF, *gradient]
apart = max(float((a - b).abs().max()) for a, b in zip(*found.values(), strict=True))
print(f"largest difference of values, tangents and gradients: {apart:.1e}")
assert apart < 1e-10

# %% [markdown]
# ## What to avoid: a clock that runs away
#
# EDM tells its networks `ln(sigma) / 4`, and sCM tells its own the angle. The reason is the tangent: near pure noise
# `sigma = sigma_d tan(t)` grows without bound, and with it the derivative of whatever the network computes of it.
# Fast waves do the same: `cos(100 t)` has a derivative a hundred times that of `cos(t)`.

# %%
late = torch.tensor([1.0, 1.5, 1.56, 1.5645], dtype=torch.float64)


def clock(t):
    """EDM's time."""
    return (SIGMA_D * t.tan()).log() / 4


for name, told in (("the angle", lambda t: t), ("ln(sigma) / 4", clock)):
    _, speed = value_and_tangent(lambda t, told=told: torch.sin(told(t)), (late,), (torch.ones_like(late),))
    print(f"d/dt of sin({name}):".ljust(28), " ".join(f"{abs(float(value)):8.3f}" for value in speed))
assert float(speed[-1].abs()) > 10

# %% [markdown]
# ## Is the loss right?
#
# The library's losses are; of one that you write, or take from elsewhere, `audit_loss` says what is wrong. This one
# has a slip that no test with `sigma_d = 1` would see, nor a look at the loss as it falls:


# %%
def my_loss(field, teacher, x0, z, t, r):
    """sCT as one might type it; field takes (x / sigma_d, t), data and noise are in data units."""
    c, s = t.cos()[:, None], t.sin()[:, None]
    x, v = c * x0 + s * z, c * z - s * x0
    F, dF = value_and_tangent(field, (x / SIGMA_D, t), (c * s * v, (t.cos() * t.sin())))
    g = -(c**2) * (SIGMA_D * F.detach() - v) - r * (c * s * x + dF)
    g = g / (g.norm(dim=1, keepdim=True) + 0.1)
    return (F - F.detach() - g).square().mean()


wide = bind(Gated((12,), classes=3).double(), condition=labels[:20])  # an audit asks for 12 numbers a sample
x0, z = SIGMA_D * torch.randn(2, 20, 12, dtype=torch.float64)
times = torch.tensor([0.1, 0.5, 1.0, 1.4], dtype=torch.float64).repeat_interleave(5)
report = audit_loss(my_loss, wide, x0, z, times, SIGMA_D)
print(report)
assert report.problems

# %% [markdown]
# ## Data whose map is known
#
# Three labels, a Gaussian for each, together of unit variance. Told the label `k` the data are `N(m, a^2)`, and the
# consistency map has a formula,
#
#     f(x, t) = m + a (x - cos(t) m) / sqrt(cos(t)^2 a^2 + sin(t)^2)
#
# The network is not told it: it learns by `sct` from pairs of data and noise alone, in 1,500 steps. Where STEPS is
# set in the environment there are so many: the project's tests take 120, and what is asserted below leaves room for
# that.

# %%
mixture = oracle.standardised(
    oracle.Mixture(
        torch.full((3,), 1 / 3, dtype=torch.float64),
        torch.tensor([[1.5, 0.0], [-1.0, 1.2], [-0.6, -1.4]], dtype=torch.float64),
        torch.tensor([0.25, 0.45, 0.35], dtype=torch.float64),
    )
)
means, stds = mixture.means.float(), mixture.stds.float()


def exact_map(x, t, label):
    """The consistency map, told the label."""
    c, s = t.cos()[:, None].to(x), t.sin()[:, None].to(x)
    m, a = means[label], stds[label, None]
    return m + a * (x - c * m) / (c**2 * a**2 + s**2).sqrt()


STEPS, BATCH, RATE = int(os.environ.get("STEPS", "1500")), 256, 4e-3
torch.manual_seed(1)
student = Gated((2,), classes=3)
optimiser = torch.optim.Adam(student.parameters(), lr=RATE, betas=(0.9, 0.99))
average = {name: p.detach().clone() for name, p in student.named_parameters()}
for step in range(STEPS):
    label = torch.randint(3, (BATCH,))
    x0 = means[label] + stds[label, None] * torch.randn(BATCH, 2)
    draws = Draws(torch.rand(BATCH, dtype=torch.float64), torch.randn(BATCH, 2))
    settings = ContinuousSettings(sigma_d=SIGMA_D, warmup=tangent_warmup(step, STEPS // 2))
    found = sct(Fields(bind(student, condition=label)), x0, draws, settings)
    optimiser.zero_grad()
    found.loss.backward()
    for group in optimiser.param_groups:
        group["lr"] = RATE * (1 - step / STEPS)
    optimiser.step()
    average = update(average, dict(student.named_parameters()), half_life_beta(BATCH, half_life=5_000))

label = torch.arange(900) % 3
learned = bind(student, average, label)
for angle in (0.3, 0.8, 1.2, largest_angle(SIGMA_D)):
    t = torch.full((900,), angle)
    x = math.cos(angle) * (means[label] + stds[label, None] * torch.randn(900, 2)) + math.sin(angle) * torch.randn(
        900, 2
    )
    with torch.no_grad():
        error = (consistency_map(learned, x, t) - exact_map(x, t, label)).square().mean().sqrt()
    print(f"t = {angle:.2f}: root mean square error of the learned map {error:.3f}")
    assert error < 0.3

# %% [markdown]
# ## Samples in one step and two
#
# Circles are at two standard deviations of the data, in which 86% of a Gaussian lie.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharex=True, sharey=True)
for ax, times in zip(axes, ([largest_angle(SIGMA_D)], [largest_angle(SIGMA_D), 1.1]), strict=True):
    noise = torch.randn(len(times), 900, 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        samples = sample_consistency(learned, noise, times)
    for k in range(3):
        own = samples[label == k]
        ax.scatter(*own.T, s=3, color=f"C{k}")
        ax.add_patch(plt.Circle(tuple(means[k].tolist()), 2 * float(stds[k]), fill=False))
        apart, spread = float((own.mean(0) - means[k]).norm()), float(own.std(0).mean() / stds[k])
        print(
            f"{len(times)} steps, label {k}: mean {apart:.3f} from the exact one, spread {spread:.2f} times the exact"
        )
        assert apart < 0.2
        assert 0.5 < spread < 1.6
    ax.set_title(f"{len(times)} step{'s' * (len(times) > 1)}")
    ax.set_aspect("equal")

# %% [markdown]
# ## Into a study, and out of the house
#
# In a file `mine.py` the class stands as it is, and a study names it. Its shape, its classes and sigma_d are given by
# name where it takes them:
#
#     sizes:
#       gated: {network: "mine:Gated", settings: {width: 64}}
#     arms:
#       sct-gated: {objective: sct, size: gated}
#
# `trigbench new study mine` writes the rest, `trigbench check mine.yaml` says whether it is right, and `trigbench run
# mine.yaml` trains it beside every other arm, on the same data and noise, with seeds and intervals
# ([own](../own.md)). Then `trigbench export RUN` writes the run as a file, and who has the class loads it:
# `load_exported(file, network=Gated)` ([export](../export.md)).
