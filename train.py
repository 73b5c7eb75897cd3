#!/usr/bin/env python3
"""Front door: `python train.py --backend playground|deepspeed|huggingface|azure …` (see `--help`)."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:  # with PYTHONSAFEPATH Python does not put it there
    sys.path.insert(0, str(ROOT))

from training.machine.startup import begin

if __name__ == "__main__":
    begin()

from training.launch.worker import leave
from training.train import main

if __name__ == "__main__":
    leave(main())
