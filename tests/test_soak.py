"""A few rounds of ``python -m tests.soak``, and that it finds what it looks for."""

from __future__ import annotations

import mmap

from tests import soak


def test_rounds_leave_nothing_and_give_their_figures_again(monkeypatch):
    some = ("classify_graphs", "critic", "levels", "scores")  # the others take their time
    monkeypatch.setattr(soak, "WORK", {name: soak.WORK[name] for name in some})
    found = soak.soak(0.0)
    assert found["rounds"] == 1
    assert found["figures"] > 15
    assert found["changed"] == []
    assert found["files"] == 0
    assert found["memory"] < soak.LIMIT


def test_leaks_and_changes_are_found(monkeypatch, tmp_path):
    kept = []

    def leak(seed, folder):
        pages = mmap.mmap(-1, 2**25)  # from the system: malloc could hand out freed memory again
        pages.write(bytes(2**25))
        kept.append((pages, (tmp_path / str(len(kept))).open("w")))
        return {"same": 1.0, "count": float(len(kept))}

    monkeypatch.setattr(soak, "WORK", {"leak": leak})
    said = []
    found = soak.soak(0.0, said.append)
    for pages, file in kept:
        pages.close()
        file.close()
    assert found["changed"] == ["leak: count"]
    assert found["files"] == 1  # of the last round: those before the first tenth do not count
    assert found["memory"] > soak.LIMIT
    assert len(said) == found["rounds"] == 1
