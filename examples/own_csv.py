"""Your own tables: a CSV of edges, a CSV of nodes; train, load the run, embed, draw.

python examples/own_csv.py                 # writes two small tables and reads them
python examples/own_csv.py --edges edges.csv --nodes nodes.csv --labels team --out run
"""

import argparse
import random
import tempfile
from pathlib import Path

from pyg_gunet.data import read_graph
from pyg_gunet.train import embed, fit, load_run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--edges")
parser.add_argument("--nodes")
parser.add_argument("--labels", default="team")
parser.add_argument("--out", help="the run's folder")
parser.add_argument("--quick", action="store_true", help="two epochs")
args = parser.parse_args()
scratch = tempfile.TemporaryDirectory()
if args.edges is None:  # friends, mostly of one team; age tells little of it
    args.edges, args.nodes = Path(scratch.name, "edges.csv"), Path(scratch.name, "nodes.csv")
    draw = random.Random(0)
    ids = [f"p{i}" for i in range(200)]
    team = {name: "ab"[i % 2] for i, name in enumerate(ids)}
    pairs = [draw.sample(ids, 2) for _ in range(4000)]
    pairs = [(a, b) for a, b in pairs if draw.random() < (0.3 if team[a] == team[b] else 0.03)]
    args.edges.write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in pairs))
    rows = (f"{n},{draw.gauss(30 + 5 * (team[n] == 'a'), 9):.0f},{team[n]}\n" for n in ids)
    args.nodes.write_text("id,age,team\n" + "".join(rows))

data = read_graph(args.edges, nodes=args.nodes, labels=args.labels)
data.x = (data.x - data.x.mean(0)) / data.x.std(0)
print(data)
out = args.out or Path(scratch.name, "run")
run = fit(data, "classify", out, epochs=2 if args.quick else 60)
print(f"test accuracy {run.figures['test_accuracy']:.3f}")

model, loaded = load_run(out, dataset=data)  # the best epoch, in eval mode
print(f"{type(model).__name__} of {sum(p.numel() for p in model.parameters())} parameters")
print("files:", ", ".join(sorted(path.name for path in Path(out).iterdir())))
embed(out, Path(scratch.name, "z.npz"), dataset=data)
