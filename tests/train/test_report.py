"""The tables that a run prints."""

from __future__ import annotations

from pyg_gunet.train.report import print_seeds, summary


def test_figures_that_some_seeds_lack_are_averaged_over_the_others(capsys):
    one = {"dataset": "d", "epochs": 3, "test_pq": 0.5, "baselines": {"Otsu pq": None}}
    two = {"dataset": "d", "epochs": 5, "test_pq": None, "baselines": {"Otsu pq": 0.25}}
    print_seeds([two, one, {**one, "test_pq": 0.7}])
    lines = {line[2:40].strip(): line[40:].split() for line in capsys.readouterr().out.splitlines()}
    assert lines["test_pq"] == ["0.6", "0.14", "(2", "of", "3", "seeds)"]
    assert lines["Otsu pq (baseline)"] == ["0.25", "-", "(1", "of", "3", "seeds)"]
    assert lines["epochs"] == ["3.6667", "1.2"]


def test_a_baseline_keeps_its_name():
    figures = {"test_mean_iou": 0.5, "test_pq": 0.4, "baselines": {"pq": 0.3, "Otsu pq": 0.2}}
    assert summary(figures) == [
        ("test_mean_iou, ours", 0.5),
        ("test_mean_iou, pq", 0.3),
        ("test_pq, ours", 0.4),
        ("test_pq, Otsu", 0.2),
    ]
