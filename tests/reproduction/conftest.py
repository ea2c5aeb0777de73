"""docs/reproduction/ and docs/demo/ are programs: their modules are found as if one of them were run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
sys.path += [str(DOCS / "reproduction"), str(DOCS / "demo")]
os.environ.setdefault("MPLBACKEND", "agg")
