"""What every test shares: the package on the path, one thread, and a tiny corpus with trained models."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # where the package is not installed
    sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["REMASK_ALLOCATOR"] = "set"  # commands are not restarted to set the allocator
