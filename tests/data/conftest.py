"""What tests of files share."""

from __future__ import annotations

import pytest
from torch_geometric.utils import to_dense_adj


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def dense(data):
    weight = data.get("edge_weight")
    return to_dense_adj(data.edge_index, edge_attr=weight, max_num_nodes=data.num_nodes)[0]
