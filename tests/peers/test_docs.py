"""Blocks of README.md and docs/ that import optax keep their word, as tests/test_docs.py has the others do."""

from __future__ import annotations

import jax
import pytest

from tests.blocks import PAGES, Block, blocks
from tests.test_docs import run

BLOCKS = [block for page in PAGES for block in blocks(page) if block.language == "python" and block.uses_optax]


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in BLOCKS])
def test_block_runs(block: Block) -> None:
    with jax.enable_x64(False):
        run(block, block.text)
