#!/usr/bin/env python3
"""The front door: `python train.py --backend playground|deepspeed|huggingface|azure …` (see `--help`)."""

from training.train import main
from training.worker import leave

if __name__ == "__main__":
    leave(main())
