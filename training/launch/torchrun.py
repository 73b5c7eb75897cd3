"""Several processes through torchrun, as a plan: settings in, command out. Starts nothing, imports no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from training.backends.protocol import IS_ENDPOINT, LAUNCH_DIR, LOCAL_ADDRESS, LaunchPlan
from training.errors import ConfigError
from training.machine.hardware import count_cores
from training.settings.tree import LaunchConfig

FRONT_DOOR = Path(__file__).resolve().parents[1] / "train.py"
"""Script that each worker runs; it reads its backend from the resolved config."""

Device = Literal["auto", "cpu", "cuda", "mps"]


def check_ranks(launch: LaunchConfig, device: Device) -> None:
    """Refuse settings of several processes that contradict each other on any machine.

    Raises:
        ConfigError: names the first contradiction.
    """
    if launch.num_gpus is not None and device in ("cpu", "mps"):
        raise ConfigError(
            f"num_gpus={launch.num_gpus} and device={device} contradict each other; leave one of them out"
            + (f", or use --num-processes {launch.num_gpus} for ranks on the CPU" if device == "cpu" else "")
        )
    if launch.nnodes > 1 and launch.rdzv_endpoint is None:
        raise ConfigError(
            f"nnodes={launch.nnodes} needs a place to meet; give --rdzv-endpoint HOST:PORT, the same on each"
        )
    if launch.rdzv_endpoint is not None:
        parse_endpoint(launch.rdzv_endpoint)
    if _several(launch) and device == "mps":
        raise ConfigError(
            f"device=mps has one GPU, for one process, and {ranks_here(launch) * launch.nnodes} were asked for; "
            "use --device cpu or one process"
        )
    if _several(launch) and sys.platform == "win32":
        raise ConfigError("several processes need torchrun, which does not work on Windows; use one process, or WSL")


def ranks_here(launch: LaunchConfig) -> int:
    """Return the number of processes on each machine."""
    return launch.num_processes or launch.num_gpus or 1


def _several(launch: LaunchConfig) -> bool:
    return ranks_here(launch) > 1 or launch.nnodes > 1


def parse_endpoint(text: str) -> tuple[str, int]:
    """Split `10.0.0.1:29500` or `[fd00::1]:29500` into (host, port).

    Raises:
        ConfigError: no host, or no port from 1 to 65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or not host or (":" in host and not bracketed):
        raise ConfigError(f"rdzv_endpoint={text!r}: should be HOST:PORT, such as 10.0.0.1:29500")
    if not 1 <= int(port) <= 65535:
        raise ConfigError(f"rdzv_endpoint={text!r}: a port is a number from 1 to 65535")
    return host.strip("[]"), int(port)


def _is_loopback(endpoint: str | None) -> bool:
    host = (endpoint or "").rpartition(":")[0]
    return host in ("localhost", "[::1]") or host.startswith("127.")


def torchrun_plan(launch: LaunchConfig, device: Device, num_threads: int | None = None) -> LaunchPlan | None:
    """Return the torchrun command for the settings; None: one process is enough.

    Args:
        launch: how many processes on how many machines.
        device: what each rank computes on.
        num_threads: CPU threads of each rank; None: the cores shared evenly. Two ranks that both use every core are
            tens of times slower than two that share them.
    """
    if not _several(launch):
        return None
    ranks = ranks_here(launch)
    if launch.nnodes == 1:
        # A name for the machine that needs no DNS: laptops and containers often cannot resolve their own.
        where: tuple[str, ...] = ("--standalone", "--local-addr", "127.0.0.1")
    else:
        where = (
            *("--nnodes", str(launch.nnodes), "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", str(launch.rdzv_endpoint), "--rdzv-id", launch.rdzv_id),
            *("--local-addr", LOCAL_ADDRESS),
            # torchrun looks for the endpoint among the addresses of the host's name only, and would wait forever if
            # it is another's. A loopback address it knows.
            *(() if _is_loopback(launch.rdzv_endpoint) else ("--rdzv-conf", f"is_host={IS_ENDPOINT}")),
        )
    return LaunchPlan(
        command=(
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), *where),
            *("--log-dir", f"{LAUNCH_DIR}/torchrun", str(FRONT_DOOR)),
        ),
        environment={"OMP_NUM_THREADS": str(num_threads or max(1, count_cores() // ranks))},
        processes=ranks,
        device="cuda" if launch.num_gpus is not None else device,
        endpoint=launch.rdzv_endpoint if launch.nnodes > 1 else None,
    )
