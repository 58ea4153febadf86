"""The Gaussian closed form against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from pyg_gunet.critic import gaussian_mutual_information


def _covariance(*lead: int, size: int = 5) -> torch.Tensor:
    root = torch.randn(*lead, size, size, dtype=torch.float64)
    return root @ root.mT + 0.5 * torch.eye(size, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_gaussian_mutual_information_is_a_kl() -> None:
    cov = _covariance(3)
    blocks = torch.zeros_like(cov)
    blocks[:, :2, :2], blocks[:, 2:, 2:] = cov[:, :2, :2], cov[:, 2:, 2:]
    zero = torch.zeros(3, 5, dtype=torch.float64)
    oracle = kl_divergence(MultivariateNormal(zero, cov), MultivariateNormal(zero, blocks))
    torch.testing.assert_close(gaussian_mutual_information(cov, 2), oracle)


def test_gradient() -> None:
    root = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    eye = torch.eye(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: gaussian_mutual_information(a @ a.mT + eye, 1), root)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(dtype: torch.dtype) -> None:
    cov = torch.tensor([[1.0, 0.5], [0.5, 1.0]]).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        out = gaussian_mutual_information(cov, 1)
    assert out.dtype == torch.float32
    assert float(out) == pytest.approx(-0.5 * math.log(0.75), rel=1e-5)


def test_bad_input_names_the_argument() -> None:
    eye = torch.eye(2)
    for cov, match in (
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "'cov' must be positive definite"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "'cov' must be symmetric"),
        (torch.eye(2)[:1], "'cov' must have shape"),
        (eye * math.nan, "'cov' must not be NaN"),
    ):
        with pytest.raises(ValueError, match=match):
            gaussian_mutual_information(cov, 1)
    with pytest.raises(TypeError, match="'cov' must be floating point"):
        gaussian_mutual_information(eye.long(), 1)
    with pytest.raises(ValueError, match="'x_channels' must be below"):
        gaussian_mutual_information(eye, 2)
