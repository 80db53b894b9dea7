"""A compiled sCD step of modules of one's own: what moves is given. Compiling takes a minute."""

import torch

from trigbench import ContinuousSettings, Draws, Fields, bind, compiled_step, scd


class Network(torch.nn.Sequential):
    """Any module that is called (x, t, condition) will do."""

    def forward(self, x, t, condition=None):
        return super().forward(torch.cat([x, t[:, None]], 1))


student, teacher = (Network(torch.nn.Linear(3, 32), torch.nn.SiLU(), torch.nn.Linear(32, 2)) for _ in range(2))


def loss(weights, taught, x0, draws, r):
    """Of inputs alone: what it does not get stays as it is."""
    fields = Fields(student=bind(student, weights), teacher=bind(teacher, taught))
    return scd(fields, x0, draws, ContinuousSettings(warmup=r))


step, weights, taught = compiled_step(loss), dict(student.named_parameters()), dict(teacher.named_parameters())
for number in range(3):
    draws, r = Draws(torch.rand(64, dtype=torch.float64), torch.randn(64, 2)), torch.tensor(number / 2).double()
    value, gradients, watched = step(weights, taught, torch.randn(64, 2), draws, r)
    for name, parameter in weights.items():
        parameter.data -= 0.1 * gradients[name]  # or parameter.grad = gradients[name] for an optimiser
    print(f"step {number}: loss {value:.4f}, norm of the direction {watched.direction_norm.mean():.3f}")
