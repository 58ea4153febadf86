"""The Kullback-Leibler divergence is not symmetric: two pictures.

    python examples/kl_forward_reverse.py --out kl.png

A Gaussian Q is fitted to a mixture P of two modes, from samples alone: a critic learns
r = log p/q, and Q follows its gradient. KL(P || Q) makes Q spread over both modes, KL(Q || P) makes
it pick one. Both have known answers, the moments of P and, with modes so far apart, those of a mode
at ln 2 = 0.69 nats. Both fits start at the same place, to the right of the middle.
"""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from pyg_gunet.critic import KLCritic, fit_critic

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", default="kl_forward_reverse.png")
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(args.seed)


def sample_p(n: int) -> torch.Tensor:
    """Two round modes at (-2, 0) and (2, 0) with deviation 0.5."""
    side = 2.0 * (torch.rand(n, 1) < 0.5) - 1.0
    return 0.5 * torch.randn(n, 2) + torch.cat([2 * side, torch.zeros(n, 1)], dim=1)


def fit(direction: str) -> tuple[torch.Tensor, torch.Tensor, KLCritic]:
    """Mean and deviations of the fitted Gaussian."""
    mean = torch.tensor([1.0, 0.3], requires_grad=True)
    log_std = torch.zeros(2, requires_grad=True)
    critic = KLCritic(2, 64)
    ours = torch.optim.Adam([mean, log_std], lr=1e-2)
    critics = torch.optim.Adam(critic.parameters(), lr=2e-3)
    for step in range(args.steps):
        for _ in range(4 if step else 300):  # Q must not move before the critic knows it
            with torch.no_grad():
                q = mean + log_std.exp() * torch.randn(256, 2)
            critics.zero_grad()
            critic.loss(sample_p(256), q).backward()
            critics.step()
        q = mean + log_std.exp() * torch.randn(256, 2)
        ours.zero_grad()
        if direction == "reverse":
            loss = -critic.penalty(q)  # KL(Q || P) = -E_Q[r]
        else:
            # KL(P || Q) = sup E_P[T] - E_Q[e^T] + 1 at T = r (Nowozin et al. 2016): only the
            # second term moves with Q. The cut keeps an untrained critic from throwing Q away.
            loss = -critic.log_ratio(q).clamp(max=5.0).exp().mean()
        loss.backward()
        ours.step()
    return mean.detach(), log_std.detach().exp(), critic


figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True, sharey=True)
points = sample_p(3000)
print(f"P: mean {points.mean(0).tolist()}, deviations {points.std(0).tolist()}")
for axis, direction in zip(axes, ("forward", "reverse")):
    mean, std, critic = fit(direction)

    def sample_q(n: int, mean: torch.Tensor = mean, std: torch.Tensor = std) -> torch.Tensor:
        return mean + std * torch.randn(n, 2)

    fit_critic(critic, lambda draw=sample_q: (sample_p(256), draw(256)), 500)
    there = critic.estimate(sample_p(5000), sample_q(5000))
    back = critic.estimate(sample_p(5000), sample_q(5000), direction="reverse")
    print(f"{direction}: mean {mean.tolist()}, deviations {std.tolist()}\n  {there}\n  {back}")
    axis.scatter(*points.T, s=2, c="0.6", label="P")
    angle = torch.linspace(0, 2 * torch.pi, 100)
    for radius in (1.0, 2.0):
        circle = mean[:, None] + radius * std[:, None] * torch.stack([angle.cos(), angle.sin()])
        axis.plot(*circle, c="C3", label="Q, 1 and 2 deviations" if radius == 1 else None)
    name = r"KL(P $\|$ Q)" if direction == "forward" else r"KL(Q $\|$ P)"
    read = there if direction == "forward" else back
    axis.set_title(f"least {name}: {float(read.value):.2f} nats")
    axis.legend(loc="upper right")
figure.tight_layout()
figure.savefig(args.out, dpi=120)
print(f"wrote {args.out}")
