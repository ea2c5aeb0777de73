"""The papers' experiments: ``python -m reproduction``. Its pages are in docs/reproduction."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "reproduction"
"""Where results.md, the figures and the stored runs go."""

sys.path.append(str(ROOT / "docs" / "demo"))  # mlp.py and the digits are the demo's
