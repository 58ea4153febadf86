"""The picture of the README: kept nodes and reconstruction, top-k beside spread selection.

The same skip-free auto-encoder, the same steps, only `select` differs.

    python benchmarks/picture.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from _autoencoding_picture import draw
from _common import parser, record, write_json

import pyg_gunet

STEPS = {"grid": 600, "bunny": 250}
HIDDEN, LATENT = 64, 16


def fit(select: str, data, steps: int) -> tuple[str, float, torch.Tensor, torch.Tensor]:
    """Trains one auto-encoder: name, error, kept nodes, reconstruction."""
    torch.manual_seed(0)
    centre, scale = data.x.mean(dim=0), data.x.std()
    x = (data.x - centre) / scale
    model = pyg_gunet.GraphUNetAutoEncoder(x.size(1), HIDDEN, LATENT, depth=1, select=select)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(model(x, data.edge_index), x).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        z, hierarchy = model.encode(x, data.edge_index)
        out = model.decode(z, hierarchy)
        error = float(model.loss(out, x))
    return select, error, hierarchy.kept(1), out * scale + centre


def main() -> None:
    p = parser(__doc__ or "")
    p.add_argument("--out", default="benchmarks/results/spread.png")
    args = p.parse_args()
    rows, records = [], []
    for name in [args.name] if args.name else list(STEPS):
        data = pyg_gunet.load(name, args.root or "data")[0]
        steps = 5 if args.quick else STEPS[name]
        results = [fit(select, data, steps) for select in ("topk", "spread")]
        rows.append((name, data, results))
        for select, error, _, _ in results:
            print(f"{name}, {select}: MSE {error:.2e} of unit variance after {steps} steps")
            records.append(record("picture", name, select, "mse", error, None, 1))
    draw(rows, Path(args.out))
    print(f"wrote {args.out}")
    write_json(args.json, records)


if __name__ == "__main__":
    main()
