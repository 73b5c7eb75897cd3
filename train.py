#!/usr/bin/env python3
"""Front door: `python train.py --backend playground|deepspeed|huggingface|azure …` (see `--help`)."""

from training.launch.worker import leave
from training.train import main

if __name__ == "__main__":
    leave(main())
