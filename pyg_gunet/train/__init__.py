"""Training on pytorch-lightning: tasks, :func:`fit`, :func:`evaluate`, :func:`embed`."""

import pyg_gunet.train.autoencode
import pyg_gunet.train.classify
import pyg_gunet.train.classify_graphs
import pyg_gunet.train.segment  # noqa: F401  (all register their task)
from pyg_gunet.settings import Settings
from pyg_gunet.train.run import Run, embed, evaluate, fit
from pyg_gunet.train.tasks import TASKS, GraphModule, Splits, Task, register_task

__all__ = [
    "TASKS",
    "GraphModule",
    "Run",
    "Settings",
    "Splits",
    "Task",
    "embed",
    "evaluate",
    "fit",
    "register_task",
]
