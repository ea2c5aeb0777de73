"""DiffGrad beside pytorch_optimizer's."""

from __future__ import annotations

import pytest
import pytorch_optimizer

from adamod_array import DiffGrad
from tests.peers.compare import assert_same, of_torch, ours

# add_(alpha, other) and addcmul_(value, a, b), since PyTorch 1.5
pytestmark = pytest.mark.filterwarnings(r"ignore:This overload of add(cmul)?_ is deprecated:UserWarning")


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_diffgrad_is_pytorch_optimizers(weight_decay: float, foreach: bool) -> None:
    """Without eps, which it adds to the uncorrected root; 1e-15 inside of that is nothing beside large gradients."""
    options = {"betas": (0.8, 0.99), "eps": 0.0, "weight_decay": weight_decay, "weight_decouple": True}
    peer = of_torch(pytorch_optimizer.DiffGrad, lr=0.01, foreach=foreach, **options)
    mine = ours(DiffGrad(0.8, 0.99, eps=0), 0.01, weight_decay)
    assert_same([x[5:] for x in mine], [x[5:] for x in peer])
