"""What `pip install 'pyg_gunet[train]'` brings, and what a package without it says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# By the names that they are imported by.
MODULES = frozenset(
    {"PIL", "jsonargparse", "matplotlib", "meshio", "mpl_toolkits", "networkx", "ogb", "pandas"}
    | {"pygsp", "pytorch_lightning", "shtab", "skimage", "sklearn", "tensorboard", "tqdm"}
    | {"trimesh", "yaml"}
)
ADVICE = "pip install 'pyg_gunet[train]' brings it"


@contextmanager
def extra() -> Iterator[None]:
    """Around what imports one of the extra's packages, or on a function that does: where it is
    missing, the error says what brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        text, name = str(error), (error.name or "").partition(".")[0]
        if name not in MODULES or ADVICE in text:
            raise
        raise ModuleNotFoundError(f"{text}; {ADVICE}", name=error.name) from error
