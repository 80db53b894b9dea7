"""From a Gaussian to sCM in 15 minutes: a notebook of Jupytext's percent format, and a page of the docs."""

# %% [markdown]
# # From a Gaussian to sCM in 15 minutes
#
# A consistency model goes from noise to data in one step. This notebook builds one from nothing: on a Gaussian, where
# every quantity has a formula, and then on a mixture, where it is trained. Each step is checked against the exact
# answer, in the cell where it is made. You need to know what a normal distribution and a gradient are.

# %%
import itertools
import math
import os

import torch
from matplotlib import pyplot as plt

from trigbench import (
    ContinuousSettings,
    Draws,
    Fields,
    ResidualMLP,
    bind,
    half_life_beta,
    largest_angle,
    sample_consistency,
    scd,
    tangent_warmup,
    update,
    value_and_tangent,
)
from trigbench.core import oracle

SIGMA_D = 0.5  # the standard deviation of data in their own units; all below is divided by it: unit variance

# %% [markdown]
# ## Noise is an angle
#
# TrigFlow mixes data `x0` and noise `z ~ N(0, 1)` by an angle, `x_t = cos(t) x0 + sin(t) z`: data at `t = 0`, noise
# at `pi/2`. On its way each pair moves with the velocity `v_t = cos(t) z - sin(t) x0`. Many pairs pass through one
# point `x`; what one can know there is the mean, `F(x, t) = E[v_t | x_t = x]`. That is what a diffusion model learns.
#
# Let the data be `N(0, a^2)`. Then `x_t` has the variance `cos(t)^2 a^2 + sin(t)^2`, and as all is jointly normal,
#
#     F(x, t) = cos(t) sin(t) (1 - a^2) / (cos(t)^2 a^2 + sin(t)^2) x
#
# Two million pairs agree:

# %%
A = 0.4


def exact_velocity(x, t):
    """E[v_t | x_t = x] of data N(0, A^2); x of (batch, 1), t of (batch,)."""
    c, s = t.cos()[:, None], t.sin()[:, None]
    return c * s * (1 - A**2) / (c**2 * A**2 + s**2) * x


g = torch.Generator().manual_seed(0)
x0, z = A * torch.randn(2_000_000, generator=g), torch.randn(2_000_000, generator=g)
for t in (0.3, 0.8, 1.3):
    x, v = math.cos(t) * x0 + math.sin(t) * z, math.cos(t) * z - math.sin(t) * x0
    near = (x - 0.5).abs() < 0.02
    formula = float(exact_velocity(torch.tensor([[0.5]]), torch.tensor([t])))
    print(
        f"t = {t}: mean velocity of {near.sum()} pairs near 0.5 is {v[near].mean():.3f}, by the formula {formula:.3f}"
    )
    assert abs(v[near].mean() - formula) < 5 * v[near].std() / near.sum() ** 0.5 + 0.01

# %% [markdown]
# ## A deterministic way from noise to data
#
# Follow the mean velocity, `dx/dt = F(x, t)`, from `pi/2` down to 0: the distribution at every `t` is that of `x_t`,
# but now each point of noise has one point of data. One step from `t` to `u` along a constant `F` is a rotation,
#
#     x_u = cos(t - u) x_t - sin(t - u) F
#
# which is the sampler DDIM. Where it ends is known here: points keep their place within the distribution, whose
# standard deviation shrinks to `a`, so that `x(0) = a x_t / sqrt(cos(t)^2 a^2 + sin(t)^2)`. The error falls with the
# step:


# %%
def follow(x, t, steps):
    """The ODE from t to 0 in equal rotations; all points on the way."""
    angles = torch.linspace(t, 0, steps + 1, dtype=torch.float64)
    path = [x]
    for now, then in itertools.pairwise(angles):
        F = exact_velocity(path[-1], now.expand(len(x)))
        path.append((now - then).cos() * path[-1] - (now - then).sin() * F)
    return angles, torch.stack(path)


start = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
end = A * start / math.sqrt(math.cos(1.5) ** 2 * A**2 + math.sin(1.5) ** 2)
errors = {steps: float((follow(start, 1.5, steps)[1][-1] - end).abs().max()) for steps in (8, 16, 32, 64)}
print({steps: f"{error:.4f}" for steps, error in errors.items()})
assert 1.8 < errors[32] / errors[64] < 2.2  # first order: half the step, half the error

angles, path = follow(start, 1.5, 200)
plt.figure(figsize=(6, 3))
plt.fill_between(angles, *(sign * (angles.cos() ** 2 * A**2 + angles.sin() ** 2).sqrt() for sign in (-2, 2)), alpha=0.2)
plt.plot(angles, path[:, :, 0], color="C0", linewidth=1)
plt.xlabel("t: from data (0) to noise")
plt.ylabel("x")
plt.title("One point of noise, one of data; in the band lie 95%")

# %% [markdown]
# ## The consistency map
#
# A **consistency map** `f(x, t)` gives the end of that path at once. Written with a network `F` as
#
#     f(x, t) = cos(t) x - sin(t) F(x, t)
#
# it is right at `t = 0` whatever the network says: `f(x, 0) = x`. For our Gaussian the map is the formula above, and
# its `F` follows. It is another function than the velocity: that says where the path goes *now*, and this `F` is the
# one rotation that jumps to its end.
#
# What tells a consistency map from others? It is constant along the path, `df/dt = 0`, with
#
#     df/dt = -cos(t) (F - v) - sin(t) (x + dF/dt)
#
# where `v` is the velocity, and `dF/dt` the derivative of `F` along the path: that in the direction `(v, 1)` of `(x,
# t)`. `value_and_tangent` computes it exactly, of any module. At the exact map `df/dt` is zero; with the velocity in
# the place of `F` it is not.


# %%
def exact_map_field(x, t):
    """F of the exact consistency map of data N(0, A^2)."""
    c, s = t.cos()[:, None], t.sin()[:, None]
    return (c * x - A * x / (c**2 * A**2 + s**2).sqrt()) / s


def df_dt(field, x, t):
    """How a map changes along the exact path."""
    c, s = t.cos()[:, None], t.sin()[:, None]
    v = exact_velocity(x, t)
    F, dF = value_and_tangent(field, (x, t), (v, torch.ones_like(t)))
    return -c * (F - v) - s * (x + dF)


t = torch.linspace(0.1, 1.5, 5, dtype=torch.float64)
x = torch.ones(5, 1, dtype=torch.float64)
for name, field in (("of the exact map", exact_map_field), ("of the velocity", exact_velocity)):
    print(f"df/dt {name}:", " ".join(f"{float(value): .1e}" for value in df_dt(field, x, t)))
assert df_dt(exact_map_field, x, t).abs().max() < 1e-13
assert df_dt(exact_velocity, x, t).abs().max() > 0.1

# %% [markdown]
# ## The loss of sCM, by hand
#
# So train a network until `df/dt` is zero. sCM (arXiv 2410.11081) takes the direction `g = cos(t) df/dt` in which `F`
# should move, bounds its length, holds it fixed, and regresses `F` onto `F + g`:
#
#     g <- g / (|g| + 0.1 / sigma_d)
#     loss = mean |F - stopgrad(F) - g|^2
#
# (The paper's 0.1 is in the data's units, so that it is divided by sigma_d here.) With a diffusion model's velocity
# as `v` this is sCD, distillation. Typed out it is the library's `scd`, number for number:


# %%
def scd_by_hand(field, teacher, x0, z, t):
    """The loss and the direction of sCD for points (batch, dimension)."""
    c, s = t.cos()[:, None], t.sin()[:, None]
    x = c * x0 + s * z
    v = teacher(x, t)
    F, dF = value_and_tangent(field, (x, t), (v, torch.ones_like(t)))
    g = -(c**2) * (F.detach() - v) - c * s * (x + dF)
    g = g / (g.norm(dim=1, keepdim=True) + 0.1 / SIGMA_D)
    return (F - F.detach() - g).square().mean(), g


torch.manual_seed(0)
network = ResidualMLP((1,), width=16, blocks=1).double()
torch.nn.init.normal_(network.project.weight, std=0.3)  # which starts at zero
x0, z = A * torch.randn(64, 1, dtype=torch.float64), torch.randn(64, 1, dtype=torch.float64)
uniform = torch.rand(64, dtype=torch.float64)
theirs = scd(Fields(bind(network), exact_velocity), x0, Draws(uniform, z), ContinuousSettings(sigma_d=SIGMA_D))

normal = torch.special.ndtri(uniform)  # noise levels are log-normal in training: ln sigma ~ N(-1, 1.4^2)
t = torch.atan(torch.exp(1.4 * normal - 1.0) / SIGMA_D)
ours, _ = scd_by_hand(bind(network), exact_velocity, x0, z, t)
print(f"by hand {ours:.12f}, of the library {theirs.loss:.12f}")
assert torch.allclose(ours, theirs.loss, rtol=1e-9)

# %% [markdown]
# ## A mixture, and a network that learns its map
#
# Now data that no line fits: three Gaussians, together of unit variance. Their velocity has a formula
# (`trigbench.core.oracle`), and their map is the ODE, solved finely. The velocity plays the teacher, a perfect
# diffusion model; the student is a small residual network. Two things stand beside the loss: the part of the tangent
# that the network's own derivative brings comes in slowly (`tangent_warmup`), and what is kept is an average of the
# weights.
#
# The 1,500 steps take less than half a minute of one core. Where STEPS is set in the environment there are so many:
# the project's tests take 120, and what is asserted below leaves room for that.

# %%
mixture = oracle.standardised(
    oracle.Mixture(
        torch.tensor([0.3, 0.45, 0.25], dtype=torch.float64),
        torch.tensor([[-1.5], [0.2], [2.0]], dtype=torch.float64),
        torch.tensor([0.25, 0.35, 0.3], dtype=torch.float64),
    )
)
single = oracle.Mixture(*(part.float() for part in (mixture.weights, mixture.means, mixture.stds)))


def teacher(x, t):
    """The exact velocity, in the dtype of x."""
    return oracle.velocity(single, x, t.to(x.dtype))


STEPS, BATCH = int(os.environ.get("STEPS", "1500")), 256
torch.manual_seed(1)
student = ResidualMLP((1,), width=48, blocks=2)
optimiser = torch.optim.Adam(student.parameters(), lr=8e-3, betas=(0.9, 0.99))
average = {name: p.detach().clone() for name, p in student.named_parameters()}
norms = []
for step in range(STEPS):
    x0 = oracle.sample(single, torch.rand(BATCH), torch.randn(BATCH, 1))
    draws = Draws(torch.rand(BATCH, dtype=torch.float64), torch.randn(BATCH, 1))
    settings = ContinuousSettings(sigma_d=SIGMA_D, warmup=tangent_warmup(step, STEPS // 2))
    found = scd(Fields(bind(student), teacher), x0, draws, settings)
    optimiser.zero_grad()
    found.loss.backward()
    for group in optimiser.param_groups:
        group["lr"] = 8e-3 * (1 - step / STEPS)
    optimiser.step()
    average = update(average, dict(student.named_parameters()), half_life_beta(BATCH, half_life=5_000))
    norms.append(float(found.direction_norm.mean()))
field = bind(student, average)
print(f"norm of the direction: {sum(norms[:50]) / 50:.3f} in the first steps, {sum(norms[-50:]) / 50:.3f} in the last")

# %% [markdown]
# The loss itself says little, since its target moves. The exact map says all: one step from noise at the largest
# angle, learned and exact, point by point.

# %%
top = largest_angle(SIGMA_D)  # arctan(80 / 0.5): nothing of the data is left there
noise = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
exact = oracle.consistency_map(mixture, math.sin(top) * noise, torch.full((400,), top, dtype=torch.float64), 64)
with torch.no_grad():
    one = sample_consistency(field, noise[None].float(), [top])
error = float((one - exact).square().mean().sqrt())
print(f"root mean square error of the learned map, one step: {error:.3f}; the data have a standard deviation of 1")
assert error < 0.25

plt.figure(figsize=(6, 3))
plt.plot(noise, exact, color="black", label="exact map")
plt.plot(noise, one, color="C1", linestyle="--", label="learned, one step")
plt.xlabel("noise")
plt.ylabel("data")
plt.legend()
plt.title("Three plateaus, one for each mode")

# %% [markdown]
# ## One step and two
#
# A sample that is wrong can be mended: noise it again, to a middle angle, and map once more. How far samples are from
# the data is the distance of sorted samples to the exact quantiles (in one dimension that is the 2-Wasserstein
# distance).


# %%
def distance(samples):
    """Of sorted samples to as many quantiles of the mixture, which the exact map makes of those of noise."""
    quantiles = torch.special.ndtri((torch.arange(len(samples), dtype=torch.float64) + 0.5) / len(samples))[:, None]
    angle = torch.full((len(samples),), top, dtype=torch.float64)
    return float(
        (samples.sort(0).values - oracle.consistency_map(mixture, quantiles, angle, 24)).square().mean().sqrt()
    )


grid = torch.linspace(-2.5, 2.5, 300, dtype=torch.float64)[:, None]
shape = torch.exp(-((grid - mixture.means[:, 0]) ** 2) / (2 * mixture.stds**2)) / mixture.stds
density = shape @ mixture.weights / math.sqrt(2 * math.pi)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
distances = {}
for ax, times in zip(axes, ([top], [top, 1.1]), strict=True):
    draws = torch.randn(2, 3000, 1, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        samples = sample_consistency(field, draws[: len(times)], times)
    distances[len(times)] = distance(samples)
    ax.hist(samples[:, 0].numpy(), bins=80, range=(-2.5, 2.5), density=True, color="C1", alpha=0.6)
    ax.plot(grid, density, color="black")
    ax.set_title(f"{len(times)} step{'s' * (len(times) > 1)}: distance {distances[len(times)]:.3f}")
real = oracle.sample(mixture, torch.rand(3000, dtype=torch.float64), torch.randn(3000, 1, dtype=torch.float64))
print(f"as many fresh data are at {distance(real):.3f}")
assert max(distances.values()) < 0.25

# %% [markdown]
# ## Where to go on
#
# - Without a teacher: give `sct` the same batch. Its velocity is that of the one pair, `cos(t) z - sin(t) x0`, whose
#   mean is the teacher's; nothing else changes.
# - On a network and data of your own: [Bring your own network](bring_your_own_network.md).
# - Every method of the lineage under one protocol: `trigbench run oracle --budget smoke`, and
#   [results](../results.md).
