"""The blocks of README.md and docs/ that import what only this session has."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from tests.blocks import PEERS, Block
from tests.test_docs import BLOCKS, run

# add_(alpha, other) and addcmul_(value, a, b), since PyTorch 1.5, of the authors' adamod
pytestmark = pytest.mark.filterwarnings(r"ignore:This overload of add(cmul)?_ is deprecated:UserWarning")

OF_PEERS = [block for block in BLOCKS if block.language == "python" and block.imports & PEERS]


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in OF_PEERS])
def test_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False):
        run(block, block.text)


def test_every_one_of_them_is_imported() -> None:
    assert set().union(*(block.imports for block in OF_PEERS)) >= PEERS
