"""The two other AdaMods: the authors' package, and pytorch_optimizer's."""

from __future__ import annotations

from typing import Any

import adamod
import numpy as np
import pytest
import pytorch_optimizer

from adamod_array import AdaMod, init, step
from tests.peers.compare import assert_same, of_torch, ours

# add_(alpha, other) and addcmul_(value, a, b), since PyTorch 1.5
pytestmark = pytest.mark.filterwarnings(r"ignore:This overload of add(cmul)?_ is deprecated:UserWarning")


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("beta3", [0.9, 0.999])
@pytest.mark.parametrize(("betas", "eps"), [((0.9, 0.999), 1e-8), ((0.8, 0.99), 1e-3)])
def test_the_reference_is_the_authors_package(
    betas: tuple[float, float], eps: float, beta3: float, weight_decay: float
) -> None:
    peer = of_torch(adamod.AdaMod, lr=0.01, betas=betas, beta3=beta3, eps=eps, weight_decay=weight_decay)
    assert_same(ours(AdaMod(*betas, beta3, eps, variant="reference"), 0.01, weight_decay), peer)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_reference_is_pytorch_optimizers(weight_decay: float, foreach: bool) -> None:
    peer = of_torch(
        pytorch_optimizer.AdaMod, lr=0.01, betas=(0.9, 0.99, 0.999), weight_decay=weight_decay, foreach=foreach
    )
    assert_same(ours(AdaMod(0.9, 0.99, 0.999, variant="reference"), 0.01, weight_decay), peer)


def test_the_paper_and_its_authors_code_agree_at_the_first_step_and_part_at_the_second() -> None:
    # but for eps, which the one adds to the corrected root and the other to the uncorrected
    peer, paper = of_torch(adamod.AdaMod, lr=0.01, eps=0.0), ours(AdaMod(eps=0), 0.01)
    assert_same(paper[:1], peer[:1])
    with pytest.raises(AssertionError, match="numbers are off"):
        assert_same(paper[:2], peer[:2])


@pytest.mark.parametrize(("t", "ratio"), [(1, 1.0), (10, 2.16), (100, 1.26)])
def test_how_far_the_paper_and_its_authors_code_are_apart(t: int, ratio: float) -> None:
    def last(variant: str) -> Any:
        state = init(AdaMod(variant=variant), np.zeros(1), lr=1e-3)
        for _ in range(t):
            before = state.params
            state = step(state, np.ones(1))
        return before - state.params

    assert (last("reference") / last("paper"))[0] == pytest.approx(ratio, abs=0.01)
