"""What several test files share lies in modules beside them, which are no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
