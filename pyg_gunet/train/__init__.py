"""Training on Lightning: tasks, :func:`fit`, :func:`evaluate`, :func:`predict`, :func:`embed`."""

from pyg_gunet.extras import extra

with extra():
    from pyg_gunet.train.autoencode import AutoEncode
    from pyg_gunet.train.classify import Classify, ClassifyGraphs
    from pyg_gunet.train.config import TASKS
    from pyg_gunet.train.data import GraphData, Graphs, Images, OneGraph
    from pyg_gunet.train.masked import MaskedAutoEncode
    from pyg_gunet.train.module import GraphModule
    from pyg_gunet.train.output import embed, predict
    from pyg_gunet.train.regress import Regress
    from pyg_gunet.train.restore import evaluate, load_run, validate
    from pyg_gunet.train.run import Run, fit
    from pyg_gunet.train.segment import Segment

__all__ = [
    "TASKS",
    "AutoEncode",
    "Classify",
    "ClassifyGraphs",
    "GraphData",
    "GraphModule",
    "Graphs",
    "Images",
    "MaskedAutoEncode",
    "OneGraph",
    "Regress",
    "Run",
    "Segment",
    "embed",
    "fit",
    "load_run",
    "predict",
    "evaluate",
    "validate",
]
