"""Speed of a layout relative to one process, by a rule: nothing is measured, so only the ratio is given. No torch.

    seconds of an update = operations / sustained rate + bytes moved / rate of the link + passes × time to issue them

The rates are those of one GPU that is described well, NVIDIA's A100 with PCIe; their ratio, not their size, decides
what the rule says. Waiting for the slowest rank, overlap of communication with computation, and what a launcher or a
library adds are not in it. docs/CHOOSING.md has the sources.
"""

from __future__ import annotations

from training.backends.placement import Placement
from training.forecast.memory import DeviceKind
from training.models.cost import FP32, BatchShape, ModelCost, count
from training.settings.tree import TrainingConfig

SUSTAINED = 0.4
"""Share of the peak rate that a training sustains (PaLM: 46 %, arXiv 2204.02311; others less)."""
OPERATIONS_PER_SECOND = {"fp32": SUSTAINED * 19.5e12, "half": SUSTAINED * 312e12}
"""Rate of an A100 in fp32 and in bf16 or fp16 (NVIDIA's data sheet of the A100 80 GB)."""
LINK_BYTES_PER_SECOND = 32e9
"""Rate of PCIe 4.0 x16 in one direction (the same data sheet); NVLink is nine times as fast."""
SECONDS_PER_TENSOR = 390e-6
"""Time in which Python and PyTorch issue the forward and backward operations of one parameter tensor, which a GPU waits
for if it is faster. Measured on a Xeon of 2.8 GHz: passes of an APT 16 wide, by its number of layers."""


def relative_speed(
    config: TrainingConfig,
    cost: ModelCost | None,
    batch: BatchShape | None,
    device: DeviceKind,
    placement: Placement,
    reference: TrainingConfig,
) -> float:
    """Estimate how many times as fast as one process a layout makes the same updates.

    On a CPU it is 1 for any number of ranks: they share its cores. Where the sizes of the network are not known, it is
    how many times fewer samples a rank has: more is not possible.

    Args:
        config: settings of the layout, with a resolved precision.
        cost: sizes and work of the network; None: not known.
        batch: its largest micro-batch, which gives the samples' length; None: not known.
        device: device of its ranks.
        placement: the layout.
        reference: settings of the one process, with a resolved precision and the same samples per update.
    """
    if device != "cuda":
        return 1.0
    samples = config.run.samples_per_update
    if cost is None or batch is None:
        return samples / -(-samples // placement.ranks)
    return update_seconds(reference, cost, batch, Placement()) / update_seconds(config, cost, batch, placement)


def update_seconds(config: TrainingConfig, cost: ModelCost, batch: BatchShape, placement: Placement) -> float:
    """Return the seconds of an update by the rule of this module.

    Args:
        config: settings of the layout, with a resolved precision.
        cost: sizes and work of the network.
        batch: a micro-batch of any size that has the samples' length.
        placement: the layout.
    """
    run = config.run
    share = -(-run.samples_per_update // placement.ranks)
    passes = -(-share // run.batch_size)
    whole = BatchShape(share, batch.width, max(1, round(share * batch.positions / batch.samples)))
    rate = OPERATIONS_PER_SECOND["half" if run.precision in ("bf16", "fp16") else "fp32"]
    # The backward pass has twice the operations of the forward pass, which checkpointing repeats.
    computing = (4.0 if run.gradient_checkpointing else 3.0) * cost.work(whole) / rate
    issuing = passes * len(cost.shapes) * SECONDS_PER_TENSOR
    return max(computing, issuing) + moved_bytes(cost, passes, placement) / LINK_BYTES_PER_SECOND


def moved_bytes(cost: ModelCost, passes: int, placement: Placement) -> float:
    """Return the bytes that a GPU sends over its link in one update.

    Volumes of arXiv 1910.02054, section 7, for fp32: a ring's all-reduce sends the gradients twice, less what a rank
    keeps. DDP and ZeRO 1 do that once in an update. ZeRO 2 reduces the gradients after each pass and gathers the
    weights once; ZeRO 3 gathers them for each forward and each backward pass. Offloading sends gradients to the host
    and weights back, and reads and writes the optimizer's state there, in the host's memory that all ranks share:
    gradient, weight and two moments, 28 bytes of each parameter.

    Args:
        cost: sizes of the network.
        passes: forward passes of a rank in an update.
        placement: the layout.
    """
    trained, weights = FP32 * count(cost, cost.frozen), FP32 * count(cost)
    others = 1.0 - 1.0 / placement.ranks
    stage = placement.zero_stage or 0
    if stage == 3:
        moved = others * passes * (trained + 2 * weights)
    elif stage == 2:
        moved = others * (passes + 1) * trained
    else:
        moved = others * 2 * trained
    if placement.cpu_offload:
        moved += (passes + 1) * trained / placement.ranks + 7 * trained
    if placement.param_offload:
        moved += 2 * passes * weights / placement.ranks
    return moved
