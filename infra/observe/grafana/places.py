"""Where things are: the root of the repository, and the modules that dashboards share with alerts."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

sys.path.append(str(ROOT / "infra/observe"))
