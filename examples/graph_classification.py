"""Graph classification: a GraphUNet with two GIN convolutions a level, read off at every level.

python examples/graph_classification.py                  # the digits as pixel graphs, built in
python examples/graph_classification.py --root data --name TU/MUTAG
python examples/graph_classification.py --root data --name TU/NCI1 --splits NCI1_splits.json
"""

import argparse
import json
from pathlib import Path

import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GIN

from pyg_gunet import GraphUNet, HierarchicalReadout, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", default="data")
parser.add_argument("--name", default="digits")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--splits", type=Path, help="folds of Errica et al. 2020: the first is used")
parser.add_argument("--quick", action="store_true", help="two epochs on few graphs")
args = parser.parse_args()
torch.manual_seed(0)
dataset = load(args.name, args.root)
if args.splits:
    fold = json.loads(args.splits.read_text())[0]
    parts = fold["model_selection"][0]["train"], fold["test"]
else:
    order = torch.randperm(len(dataset))[: 100 if args.quick else 1000].tolist()
    parts = order[len(order) // 5 :], order[: len(order) // 5]
graphs = list(dataset)
for data in graphs:
    data.y = data.digit if "digit" in data else data.y
train, test = ([graphs[i] for i in part] for part in parts)
words = {"select": "spread", "reduce": "mean", "connect": "contract", "lift": "interpolate"}
net = GraphUNet(
    *(dataset.num_features, 32, 32, 2), norm="batch", dropout=0.1, **words,
    conv=lambda channels, out: GIN(channels, out, num_layers=2, norm="batch_norm"),
)  # fmt: skip
classes = 1 + max(int(data.y) for data in graphs)
model, loss = HierarchicalReadout(net, classes), torch.nn.CrossEntropyLoss()
loader = DataLoader(train, max(len(train) // 26, 8), shuffle=True, drop_last=True)
steps = (2 if args.quick else args.epochs) * len(loader)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, steps, pct_start=0.2)
for _ in range(steps // len(loader)):
    for data in loader:
        optimizer.zero_grad()
        loss(model(data.x, data.edge_index, data.batch), data.y).backward()
        optimizer.step()
        schedule.step()
model.eval()
with torch.no_grad():
    (data,) = DataLoader(test, len(test))
    right = model(data.x, data.edge_index, data.batch).argmax(-1) == data.y
print(f"test accuracy {right.float().mean():.3f}")
