"""Resources of this machine: cores, GPUs, addresses, free ports. Asked before anything is started, without torch."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from training.errors import ConfigError

# Speaks torch's own protocol, so in a process of its own. Where another kind of program listens it fails or hangs.
_ASK_FOR_STORE = """
import sys, datetime, torch.distributed
torch.distributed.TCPStore(sys.argv[1], int(sys.argv[2]), is_master=False, timeout=datetime.timedelta(seconds=5))
"""
_SECONDS_TO_ANSWER = 30.0  # torch takes a second or two to import, more on a busy machine


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_gpus() -> int | None:
    """Return the number of GPUs that a CUDA program would see (CUDA_VISIBLE_DEVICES and MIG included); None: not known
    (AMD).

    Asks the driver itself, as torch would: a library call of milliseconds, and no context on any GPU.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None if Path("/dev/kfd").exists() else 0
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


class GpuIdentity(NamedTuple):
    """One GPU as its driver names it."""

    uuid: str
    name: str
    """Model of the GPU: "NVIDIA A100-SXM4-80GB"."""


def gpu_uuids() -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that a CUDA program would see, as CUDA_VISIBLE_DEVICES takes them, in its order.

    Empty: there is none, or the driver gives none (AMD). A part of a GPU (MIG) has a UUID of its own.
    """
    return tuple(gpu.uuid for gpu in gpu_identities())


def gpu_identities() -> tuple[GpuIdentity, ...]:
    """Return UUID and name of the GPUs that a CUDA program would see, in its order; empty as for `gpu_uuids`."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        uuid_of = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    except (OSError, AttributeError):
        return ()
    found = []
    for number in range(count_gpus() or 0):
        device, uuid, name = ctypes.c_int(0), (ctypes.c_ubyte * 16)(), ctypes.create_string_buffer(256)
        if (
            cuda.cuDeviceGet(ctypes.byref(device), number) != 0
            or uuid_of(uuid, device) != 0
            or cuda.cuDeviceGetName(name, len(name), device) != 0
        ):
            return ()
        kind = "MIG" if b" MIG " in name.value else "GPU"
        found.append(
            GpuIdentity(f"{kind}-{UUID(bytes=bytes(uuid))}", name.value.decode("utf-8", errors="backslashreplace"))
        )
    return tuple(found)


def address_towards(host: str, port: int) -> str:
    """Return the address by which `host` would see this machine. Sends nothing.

    Raises:
        ConfigError: the host's name has no address, or there is no way to it.
    """
    for family, kind, protocol, _, address in _resolve(host, port, socket.SOCK_DGRAM):
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.connect(address)
            except OSError:
                continue
            return str(probe.getsockname()[0])
    raise ConfigError(f"rdzv_endpoint={host}:{port}: this machine has no way to that address; check the network")


def free_port() -> int:
    """Return a TCP port of this machine on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def opens_meeting(host: str, port: int) -> bool:
    """Return whether the endpoint where machines meet is on this machine, and free for torchrun to open.

    False: it is another machine's, or another torchrun of this machine has opened it.

    Raises:
        ConfigError: another program has the port, or it may not be used.
    """
    is_here = False
    for family, kind, protocol, _, address in _resolve(host, port, socket.SOCK_STREAM):
        everywhere = ("::" if family == socket.AF_INET6 else "0.0.0.0", port)  # where torchrun will listen
        try:
            for wanted in (address, everywhere):
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(wanted)
            is_here = True
        except PermissionError:
            raise ConfigError(
                f"rdzv_endpoint={host}:{port}: this user may not use port {port}; choose one above 1023"
            ) from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                continue  # not an address of this machine
            if _is_meeting(host, port):
                return False
            raise ConfigError(
                f"rdzv_endpoint={host}:{port}: port {port} is in use by another program; choose another, the same on "
                "every machine"
            ) from None
    return is_here


def _resolve(
    host: str, port: int, kind: socket.SocketKind
) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    try:
        return socket.getaddrinfo(host, port, type=kind)  # type: ignore[return-value]  # sockets without IPv6: never here
    except (socket.gaierror, UnicodeError):
        raise ConfigError(f"rdzv_endpoint={host}:{port}: the host name {host!r} has no address; check it") from None


def _is_meeting(host: str, port: int) -> bool:
    """Return whether the program that listens there is another torchrun."""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK_FOR_STORE, host, str(port)],
            capture_output=True,
            timeout=_SECONDS_TO_ANSWER,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
