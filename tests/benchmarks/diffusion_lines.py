"""Lines that the miniatures of the diffusion benchmarks print; see `LINES` in `test_miniatures.py`."""

from __future__ import annotations

RATIO = "{} ({} to {})"
DIFFUSION_LINES = {
    "diffusion_against_diffusers": [
        "round 1, updates/s: ours {}, diffusers {}",
        f"ours / diffusers, the same updates: {RATIO}   goal 1",
        "diffusers at learning rate {}: held-out loss {} after {} updates in {} s",
        "ours, in half of the time: held-out loss {} after {} updates in {} s",
    ],
    "diffusion_digits": [
        "120 digits, UNet2DModel with {} parameters, {} updates of {} in {} s",
        "120 samples by heun in {} steps, guidance {}: {} s",
        "Fréchet distance of 120 digits to the real second half: samples {}, real first half {}",
        "classifier on real digits, taught on: samples {}, real digits {}   goal 0.95",
        "two-sample test against the real second half: samples {}, real first half {}",
        "memorised:",
    ],
    "diffusion_vectors": [
        "moons: {} parameters, {} updates in {} s",
        "moons: the published method here {} bits, {} updates in {} s; published 0.09",
        "moons: new real points",
        "moons: ours {} bits, published 0.09; ours / published {}   goal 0.5",
    ],
    "gpu_diffusion": [
        "CPU: {} Tflop/s in a matrix product, fp32",
        "UNet2DModel: {} parameters, {} Gflop a forward pass, {} ms per update, {} images/s, MFU {} of the matrix",
        "drawing by ddim in 2 steps: {} images/s",
    ],
}
"""Benchmark -> the start of each line that must come out."""
