"""The Kullback-Leibler divergence is not symmetric: two pictures.

    python examples/kl_forward_reverse.py --out kl.png

A Gaussian Q follows a critic of r = log p/q to a mixture P of two modes. KL(P || Q) spreads Q over
both, KL(Q || P) picks one: at ln 2 = 0.69 nats, with modes so far apart.
"""

import argparse

import matplotlib.pyplot as plt
import torch

from pyg_gunet.critic import KLCritic, fit_critic

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", help="the picture's file")
parser.add_argument("--quick", action="store_true", help="two steps")
args = parser.parse_args()
steps, warm = (2, 5) if args.quick else (400, 300)
torch.manual_seed(0)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True, sharey=True)


def sample_p(n: int) -> torch.Tensor:
    """Two round modes at (-2, 0) and (2, 0) with deviation 0.5."""
    side = 2.0 * (torch.rand(n, 1) < 0.5) - 1.0
    return 0.5 * torch.randn(n, 2) + torch.cat([2 * side, torch.zeros(n, 1)], dim=1)


for axis, direction in zip(axes, ("forward", "reverse")):
    moments = torch.tensor([[1.0, 0.3], [0.0, 0.0]], requires_grad=True)  # mean, log deviation
    critic, q = KLCritic(2, 64), torch.optim.Adam([moments], lr=1e-2)
    critics = torch.optim.Adam(critic.parameters(), lr=2e-3)

    def sample_q(n: int, moments: torch.Tensor = moments) -> torch.Tensor:
        return moments[0] + moments[1].exp() * torch.randn(n, 2)

    for step in range(steps):
        for _ in range(4 if step else warm):  # Q must not move before the critic knows it
            critics.zero_grad()
            critic.loss(sample_p(256), sample_q(256).detach()).backward()
            critics.step()
        q.zero_grad()
        if direction == "reverse":
            critic.penalty(sample_q(256)).neg().backward()  # KL(Q || P) = -E_Q[r]
        else:  # KL(P || Q) = sup E_P[T] - E_Q[e^T] + 1 at T = r: its second term moves with Q
            critic.log_ratio(sample_q(256)).clamp(max=5.0).exp().mean().neg().backward()
        q.step()
    fit_critic(critic, lambda draw=sample_q: (sample_p(256), draw(256).detach()), warm)
    print(f"{direction}: mean {moments[0].tolist()}, deviations {moments[1].exp().tolist()}")
    with torch.no_grad():
        points, drawn = sample_p(5000), sample_q(5000)
        print(critic.estimate(points, drawn), critic.estimate(points, drawn, direction="reverse"))
    axis.scatter(*points.T, s=2, c="0.6")
    axis.scatter(*drawn.T, s=2, c="tab:orange", alpha=0.3)
    axis.set_title(f"the {direction} divergence is least")
if args.out:
    figure.savefig(args.out, dpi=120)
