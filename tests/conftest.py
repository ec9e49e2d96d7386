"""No fixtures: each test says what it needs. Only where the scripts are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
