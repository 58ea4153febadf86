"""Average ranks of the auto-encoding table, and what a child of a benchmark is given."""

from __future__ import annotations

import pytest


def cells(**errors: float) -> dict:
    return {method: [{"mse": str(error)}] for method, error in errors.items()}


@pytest.mark.parametrize(
    "tolerance, expected", [(1e-6, {"a": 1.5, "b": 1.5, "c": 3}), (0, {"a": 2, "b": 1, "c": 3})]
)
def test_errors_within_the_tolerance_share_a_rank(tolerance, expected):
    from _autoencoding_table import ranks

    table = {"ring": cells(a=1.5e-6, b=1.0e-6, c=9e-6, none=0.0), "half": cells(a=1.0, none=0.0)}
    assert ranks(table, tolerance) == {m: [rank] for m, rank in expected.items()}


def test_a_child_has_what_is_added_to_its_environment(tmp_path, monkeypatch):
    from _common import in_child

    monkeypatch.setenv("KEPT", "1")
    script = tmp_path / "child.py"
    script.write_text(
        "import json, os, sys\nprint(json.dumps([os.environ[k] for k in sys.argv[1:]]))"
    )
    assert in_child(str(script), "KEPT", "ADDED", ADDED="2") == ["1", "2"]
    with pytest.raises(RuntimeError, match="child.py KEPT ADDED failed"):
        in_child(str(script), "KEPT", "ADDED")
