"""The processes (ranks) of a run: the number of this one, and the few things that all do or decide together.

Everything here goes over the host (gloo), a few numbers at a time; gradients are the engine's matter. A process that
no launcher started is a world of its own, and every method is then free.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from training.errors import ConfigError, UserError
from training.settings.rank_identity import RankIdentity, remedy

TIMEOUT = timedelta(minutes=30)
"""Longest wait for another rank. Rank 0 alone writes checkpoints meanwhile, and a large one takes minutes."""


RENDEZVOUS = timedelta(minutes=10)
"""Longest wait until all ranks have met: the machines of a cluster's job do not start at one moment."""
SECONDS_BEFORE_A_WORD = 10.0
"""Wait for the other ranks after which it is said."""


class Ranks:
    """This process among those of the run.

    Attributes:
        rank: number of this process, 0 to world_size - 1.
        local_rank: its number on this machine, and so the number of its GPU.
        world_size: how many processes share each global batch.
        device: where this process computes.
    """

    def __init__(self, device: torch.device, rank: int = 0, local_rank: int = 0, world_size: int = 1) -> None:
        self.device = device
        self.rank, self.local_rank, self.world_size = rank, local_rank, world_size

    @classmethod
    def join(cls, device: torch.device) -> Self:
        """Meet the other processes that torchrun (or another launcher that sets its variables) started.

        Args:
            device: `cuda` becomes the GPU with this process's local rank.

        Raises:
            ConfigError: the variables are none that a launcher sets, or the ranks cannot meet.
        """
        identity = RankIdentity.of_environment()
        if identity is None:
            return cls(device)
        if device.type == "cuda":
            device = torch.device("cuda", identity.local_rank)
            torch.cuda.set_device(device)
        # Numbers of the host travel over gloo also where gradients travel over NCCL: no wait for the device.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if not dist.is_initialized():
            store = PrefixStore("default_pg", _meet(identity))
            store.set_timeout(TIMEOUT)
            dist.init_process_group(
                backend, store=store, rank=identity.rank, world_size=identity.world_size, timeout=TIMEOUT
            )
        return cls(device, dist.get_rank(), identity.local_rank, dist.get_world_size())

    @property
    def is_main(self) -> bool:
        """Say whether this is rank 0, which alone reports and writes."""
        return self.rank == 0

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, in fp64; the same bits on every rank."""
        if self.world_size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(number) for number in sums.tolist()]

    def agree(self, number: int) -> int:
        """Return the largest number that any rank gave: all decide alike, whichever rank saw the reason."""
        if self.world_size == 1:
            return number
        largest = torch.tensor(number, dtype=torch.int64)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value on every rank; the values of the others are dropped."""
        if self.world_size == 1:
            return value
        box = [value if self.is_main else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return every rank's value, in the order of ranks, on rank 0; an empty list on the others."""
        if self.world_size == 1:
            return [value]
        box: list[Any] | None = [None] * self.world_size if self.is_main else None
        dist.gather_object(value, box)
        return box or []

    def on_main(self, act: Callable[[], object]) -> None:
        """Let rank 0 act while the others wait; an error of rank 0 is raised on all, so that none waits forever.

        Raises:
            UserError: rank 0's.
        """
        refusal: UserError | None = None
        if self.is_main:
            try:
                act()
            except UserError as error:
                refusal = error
        message = self.broadcast(None if refusal is None else str(refusal))
        if message is not None:
            raise refusal or UserError(message)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.agree(0)

    def leave(self) -> None:
        """End the group; the processes go on alone."""
        if dist.is_initialized():
            dist.destroy_process_group()
        self.rank, self.world_size = 0, 1


def _meet(identity: RankIdentity) -> Any:
    """Connect to the store through which the ranks find each other, and wait until all of them have.

    Raises:
        ConfigError: they have not within `RENDEZVOUS`, or another program uses the port.
    """
    place = f"{identity.endpoint}, as rank {identity.rank} of {identity.world_size}"
    ended = threading.Event()
    met: list[Any] = []

    def connect() -> None:
        try:
            met.append(next(rendezvous("env://", timeout=RENDEZVOUS))[0])
        except BaseException as error:
            met.append(error)
        ended.set()

    # In a thread: no signal would be handled within torch's own wait.
    threading.Thread(target=connect, name="rendezvous", daemon=True).start()
    if not ended.wait(SECONDS_BEFORE_A_WORD):
        print(f"waiting for the other ranks at {place}, for at most {_minutes(RENDEZVOUS)}", file=sys.stderr)
        ended.wait()
    (found,) = met
    if isinstance(found, dist.DistNetworkError) and "EADDRINUSE" in str(found):
        port = identity.endpoint.rpartition(":")[2]
        raise ConfigError(
            f"port {port}, where the ranks meet, is in use by another program; give the launcher another one "
            "(deepspeed: --master_port)"
        ) from found
    if isinstance(found, dist.DistStoreError | dist.DistNetworkError):
        raise ConfigError(
            f"the ranks did not meet at {place}, within {_minutes(RENDEZVOUS)}; start all of them, and check that each "
            f"reaches MASTER_ADDR and MASTER_PORT. {remedy()}"
        ) from found
    if isinstance(found, BaseException):
        raise found
    return found


def _minutes(time: timedelta) -> str:
    return f"{time.total_seconds() / 60:g} minutes"
