"""The part scores of shapes against their definition, shape by shape."""

from __future__ import annotations

import pytest
import torch

from pyg_gunet.functional import segmentation as seg


class TestPartIoU:
    parts = ((0, 1), (2, 3, 4))

    def by_definition(self, preds, target, batch, category):
        shapes = []
        for shape, kind in enumerate(category.tolist()):
            p, t = preds[batch == shape], target[batch == shape]
            ious = []
            for part in self.parts[kind]:
                union = int(((p == part) | (t == part)).sum())
                ious.append(int(((p == part) & (t == part)).sum()) / union if union else 1.0)
            shapes.append(sum(ious) / len(ious))
        return torch.tensor(shapes, dtype=torch.float64)

    def data(self):
        generator = torch.Generator().manual_seed(0)
        batch = torch.arange(5).repeat_interleave(12)
        category = torch.tensor([0, 1, 1, 0, 1])
        target = torch.where(category[batch] == 0, 0, 2)
        target += torch.randint(2, (60,), generator=generator)  # part 4 is never there
        logits = torch.randn(60, 5, generator=generator)
        return logits, target, batch, category

    def test_against_the_definition(self):
        logits, target, batch, category = self.data()
        legal = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], dtype=torch.bool)[category][batch]
        preds = logits.masked_fill(~legal, -1e9).argmax(1)
        expected = self.by_definition(preds, target, batch, category)
        for given in (logits, preds):
            found = seg.part_iou(given, target, batch, category, self.parts)
            torch.testing.assert_close(found.per_shape, expected, rtol=0, atol=1e-12)
            per_category = torch.stack([expected[category == c].mean() for c in (0, 1)])
            torch.testing.assert_close(found.per_category, per_category, rtol=0, atol=1e-12)
            torch.testing.assert_close(found.instance, expected.mean(), rtol=0, atol=1e-12)
            torch.testing.assert_close(found.category, per_category.mean(), rtol=0, atol=1e-12)

    def test_by_hand(self):
        # An absent part counts 1, a predicted one 0, a foreign one is a miss.
        batch, category = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 1])
        target = torch.tensor([0, 0, 0, 0, 2, 3])
        preds = torch.tensor([0, 0, 0, 1, 2, 0])
        found = seg.part_iou(preds, target, batch, category, self.parts)
        assert found.per_shape.tolist() == [1.0, 0.25, pytest.approx(2 / 3)]
        assert float(found.category) == pytest.approx((0.625 + 2 / 3) / 2)
        assert float(found.instance) == pytest.approx((1.25 + 2 / 3) / 3)

    def test_missing_category_and_empty_shape(self):
        target, batch = torch.tensor([0, 1]), torch.tensor([1, 1])
        found = seg.part_iou(target, target, batch, torch.tensor([1, 0]), self.parts)
        assert found.per_shape.isnan().tolist() == [True, False]
        assert found.per_category.isnan().tolist() == [False, True]
        assert float(found.category) == float(found.instance) == 1.0

    def test_part_iou_refuses_by_name(self):
        logits, target, batch, category = self.data()
        with pytest.raises(ValueError, match="'target'.*got 2 in shape 0 of category 0"):
            seg.part_iou(logits, torch.full_like(target, 2), batch, category, self.parts)
        with pytest.raises(ValueError, match=r"'target'.*\(got 9\)"):
            seg.part_iou(logits, torch.full_like(target, 9), batch, category, self.parts)
        with pytest.raises(ValueError, match="'category'.*got 2"):
            seg.part_iou(logits, target, batch, category + 1, self.parts)
        with pytest.raises(ValueError, match=r"'category'.*\[4\]"):
            seg.part_iou(logits, target, batch, category[:4], self.parts)
        with pytest.raises(TypeError, match="'category'.*float32"):
            seg.part_iou(logits, target, batch, category.float(), self.parts)
        with pytest.raises(ValueError, match="'preds'.*got nan in row 0"):
            seg.part_iou(logits * torch.nan, target, batch, category, self.parts)
        with pytest.raises(ValueError, match=r"'preds'.*\[60, 4\]"):
            seg.part_iou(logits[:, :4], target, batch, category, self.parts)
        with pytest.raises(ValueError, match="length.*59 and 60"):
            seg.part_iou(logits[:59], target, batch, category, self.parts)
        with pytest.raises(ValueError, match=r"'preds' must have shape \[N\].*scalar"):
            seg.part_iou(target[0], target, batch, category, self.parts)
        with pytest.raises(ValueError, match="'batch' must be sorted"):
            seg.part_iou(logits, target, batch.flip(0), category, self.parts)
        with pytest.raises(TypeError, match="'batch'.*float32"):
            seg.part_iou(logits, target, batch.float(), category, self.parts)
        with pytest.raises(ValueError, match="'parts' must be at most 1048576.*1048577"):
            seg.part_iou(logits, target, batch, category, [[2**20 + 1], [0]])
        with pytest.raises(ValueError, match="'parts'"):
            seg.part_iou(logits, target, batch, category, [[0, 1], []])
        with pytest.raises(ValueError, match="'parts'.*-1"):
            seg.part_iou(logits, target, batch, category, [[0, -1], [2]])
        with pytest.raises(ValueError, match="'preds'.*scalar"):
            seg.part_iou(torch.tensor(1), target, batch, category, self.parts)
        with pytest.raises(TypeError, match="'preds'.*int64"):
            seg.part_iou(logits.long(), target, batch, category, self.parts)
        with pytest.raises(TypeError, match="'parts'.*'ab'"):
            seg.part_iou(logits, target, batch, category, "ab")
        with pytest.raises(TypeError, match="'parts' must hold sequences of int.*1"):
            seg.part_iou(logits, target, batch, category, [1])
