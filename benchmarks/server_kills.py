#!/usr/bin/env python3
"""Server killed again and again while jobs train: do they end with the weights of undisturbed runs, are rows right?

    python benchmarks/server_kills.py [--kills 20] [--jobs 12] [--slots 2]

A run is trained by train.py, undisturbed. Then a server (tools/serve.py) gets jobs with the same settings, and is ended
by SIGKILL at drawn moments while they train, and started again; every fourth job is stopped and resumed on the way.
Compared are the bytes of the final weights, the rows and curves of each server with those of the one before, what each
job's processes say of themselves, and what is left in the system at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.workload import parse
from tools.server.client import NoServerError, ServerClient, address_of, job_path
from training.experiments.jobs.files import JOB_MARK, AttemptFiles, JobFiles
from training.machine.processes import ProcessIdentity, kill_all_with, pids_with, start_of

JOBS = "/api/training/jobs"
SETTINGS = {
    "d_model": 32, "num_heads": 4, "d_ff": 64, "dropout": 0.1, "batch_size": 8, "save_steps": 5, "keep_last": 2,
    "report_batches": 1, "answer_samples": 0, "device": "cpu", "num_threads": 1, "validation_split": 0.1,
}  # fmt: skip
WEIGHTS = "final_model/model.safetensors"
ENDED = {"finished", "failed", "lost"}
SECONDS_TO_START = 120.0
SECONDS_TO_END = 1800.0
SECONDS_TO_GO = 60.0
LARGEST_PAUSE = 1.5
"""Longest time that a server lives once it answers."""


@dataclass
class Findings:
    """Figures of the whole experiment."""

    kills: int = 0
    kills_by_state: Counter[str] = field(default_factory=Counter)
    """Jobs that had not ended at the kills, by their state."""
    starts: list[float] = field(default_factory=list)
    """Seconds from the start of a server to its first answer."""
    wrong_rows: list[str] = field(default_factory=list)
    """Rows or curves that another server showed otherwise, though the run had ended."""


class Servers:
    """One server after the other on a root."""

    def __init__(self, root: Path, data: Path, slots: int, findings: Findings) -> None:
        self._root, self._findings = root, findings
        self._command = [
            *(sys.executable, str(ROOT / "tools" / "serve.py"), "--root", str(root), "--port", "0"),
            *("--data", str(data), "--slots", str(slots)),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.client = ServerClient(lambda: address_of(root))

    def start(self) -> None:
        """Start a server and wait until it answers."""
        begun = time.monotonic()
        (self._root / ".server" / "server.json").unlink(missing_ok=True)  # of the one that was killed
        with (self._root.parent / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        while True:
            try:
                self.client.ask("GET", JOBS)
                break
            except NoServerError:
                if self._process.poll() is not None or time.monotonic() - begun > SECONDS_TO_START:
                    raise
                time.sleep(0.02)
        self._findings.starts.append(time.monotonic() - begun)

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the row of each run, by its id."""
        return {row["id"]: row for row in self.client.ask("GET", JOBS, query={"limit": 1000})["jobs"]}

    def shown(self, job_id: str) -> tuple[str, str]:
        """Return what a run that has ended shows, in a form that can be compared: its row and its curve."""
        row = self.client.ask("GET", job_path(job_id))
        curve = self.client.ask("GET", job_path(job_id, "metrics", "history"), query={"points": 1000})
        return json.dumps(row, sort_keys=True), json.dumps(curve, sort_keys=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30)
    options = parse(parser, {"kills": 2, "jobs": 2, "slots": 2, "epochs": 12}, argv)
    with tempfile.TemporaryDirectory() as folder:
        experiment(Path(folder), options.kills, options.jobs, options.slots, options.epochs)


def experiment(folder: Path, kills: int, jobs: int, slots: int, epochs: int) -> None:
    """Train undisturbed, then as jobs of servers that are killed, and compare."""
    data, root = folder / "data", folder / "runs"
    write_data(data / "additions.json")
    settings = {**SETTINGS, "epochs": epochs}
    expected, seconds = undisturbed(folder / "reference", data / "additions.json", settings)
    print(f"undisturbed run: {seconds:.1f} s", flush=True)
    root.mkdir()
    findings = Findings()
    servers, draw = Servers(root, data, slots, findings), random.Random(0)
    try:
        disturb(servers, root, settings, kills, jobs, draw, findings, expected)
    finally:  # whatever goes wrong, nothing is left running
        servers.kill()
        for path in (root / ".server" / "jobs").glob("[0-9a-f]*"):
            for attempt in JobFiles(path).attempts():
                if (start := attempt.start()) is not None:
                    kill_all_with(JOB_MARK, start.mark)


def disturb(
    servers: Servers,
    root: Path,
    settings: Mapping[str, Any],
    kills: int,
    jobs: int,
    draw: random.Random,
    findings: Findings,
    expected: str,
) -> None:
    """Train jobs while their server is killed, and print what came out."""
    servers.start()
    ids: list[str] = []

    def submit() -> None:
        document = {"name": f"job {len(ids)}", "settings": settings, "dataset": "additions.json"}
        ids.append(servers.client.ask("POST", f"{JOBS}/start", document, key=str(len(ids)))["job_id"])

    for _ in range(jobs):
        submit()
    to_stop, shown = set(ids[3::4]), dict[str, tuple[str, str]]()
    until = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < until:
        rows = servers.rows()
        states = {job_id: rows[job_id]["state"] for job_id in ids}
        for job_id in ids:
            if job_id in to_stop and states[job_id] == "running" and rows[job_id]["step"] > 2:
                servers.client.ask("POST", job_path(job_id, "stop"))
                to_stop.remove(job_id)
            elif states[job_id] == "stopped":
                servers.client.ask("POST", job_path(job_id, "resume"))
        ended = {job_id for job_id in ids if states[job_id] in ENDED}
        compare(servers, ended, shown, findings)
        is_over = len(ended) == len(ids)
        if is_over and findings.kills >= kills:
            break
        if is_over:
            submit()
        time.sleep(draw.uniform(0.0, LARGEST_PAUSE))
        at_work = [job_id for job_id in ids if states[job_id] in ("running", "stopping")]
        if at_work and findings.kills < kills:
            findings.kills_by_state.update(states[job_id] for job_id in ids if job_id not in ended)
            servers.kill()
            findings.kills += 1
            servers.start()
    wait_for_processes(root, ids)
    report(root, servers, ids, expected, findings)


def write_data(path: Path) -> None:
    """Write forty questions with their answers."""
    rows = [{"input": f"{n} + 1 等于几？", "output": str(n + 1)} for n in range(40)]
    path.parent.mkdir()
    document = {"metadata": {"name": path.stem}, "data": {"additions": rows}}
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def undisturbed(run_dir: Path, data: Path, settings: dict[str, Any]) -> tuple[str, float]:
    """Train a run at the front door; return the digest of its weights, and its seconds."""
    flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    begun = time.monotonic()
    command = [sys.executable, str(ROOT / "train.py"), *flags, "--datasets", str(data), "--run-dir", str(run_dir)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return digest_of(run_dir), time.monotonic() - begun


def digest_of(run_dir: Path) -> str:
    """Return the SHA-256 of the final weights; empty: there are none."""
    path = run_dir / WEIGHTS
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def compare(servers: Servers, ended: set[str], shown: dict[str, tuple[str, str]], findings: Findings) -> None:
    """Compare what a server shows of runs that have ended with what the server before it has shown."""
    for job_id in ended:
        now = servers.shown(job_id)
        for before, after, what in zip(shown.get(job_id, now), now, ("row", "curve"), strict=True):
            if before != after:
                findings.wrong_rows.append(f"{what} of {job_id}: {difference(before, after)}")
        shown[job_id] = now


def difference(before: str, after: str) -> str:
    """Return the keys in which two documents differ, with both values."""
    old, new = json.loads(before), json.loads(after)
    return ", ".join(
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"[:200] for key in new if old.get(key) != new.get(key)
    )


def report(root: Path, servers: Servers, ids: Sequence[str], expected: str, findings: Findings) -> None:
    """Print what came out."""
    rows = servers.rows()
    same = [job_id for job_id in ids if digest_of(root / rows[job_id]["name"]) == expected]
    states = [rows[job_id]["state"] for job_id in ids]
    attempts = attempts_of(root, ids)
    processes = [process for attempt in attempts if (process := attempt.process()) is not None]
    left, zombies = processes_left(root, ids)
    print(
        f"{findings.kills} kills of the server, each while a job trained; {len(ids)} jobs in {len(attempts)} attempts, "
        f"{len({p.process for p in processes})} processes"
    )
    print(
        "jobs at the kills: " + ", ".join(f"{count} {state}" for state, count in findings.kills_by_state.most_common())
    )
    starting = findings.starts
    print(f"a server answers {statistics.median(starting):.2f} s after its start ({max(starting):.2f} at most)")
    print(f"jobs with the weights of the undisturbed run, byte for byte: {len(same)} of {len(ids)}")
    print(f"jobs shown as finished: {states.count('finished')} of {len(ids)}")
    print(f"rows and curves of ended runs that another server showed otherwise: {len(findings.wrong_rows)}")
    for line in findings.wrong_rows[:10]:
        print(f"    {line}")
    print(f"processes left: {left}; zombies: {zombies}")
    print(f"signals to a process that got the pid of one that has ended: {signals_to_strangers(processes)}")


def attempts_of(root: Path, ids: Sequence[str]) -> list[AttemptFiles]:
    """Return all starts of jobs."""
    return [attempt for job_id in ids for attempt in JobFiles(root / ".server" / "jobs" / job_id).attempts()]


def processes_left(root: Path, ids: Sequence[str]) -> tuple[int, int]:
    """Return how many processes of jobs there are, and how many zombies."""
    attempts = attempts_of(root, ids)
    starts = [start for attempt in attempts if (start := attempt.start()) is not None]
    processes = [process for attempt in attempts if (process := attempt.process()) is not None]
    alive = sum(len(list(pids_with(JOB_MARK, start.mark))) for start in starts)
    return alive, sum(is_zombie(process.pid) for process in processes)


def wait_for_processes(root: Path, ids: Sequence[str]) -> None:
    """Wait until the last process, which has said how it ended, is gone too; none may stay.

    Whoever took over the children of a killed server, which is the system's first process, may take a moment.
    """
    until = time.monotonic() + SECONDS_TO_GO
    while any(processes_left(root, ids)) and time.monotonic() < until:
        time.sleep(0.1)


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended and nobody has waited for it."""
    try:
        return re.search(r"\) Z ", Path(f"/proc/{pid}/stat").read_text()) is not None
    except OSError:
        return False


def signals_to_strangers(processes: Sequence[ProcessIdentity]) -> int:
    """Return how many signals meant for processes that have ended reach one that has their pid now."""
    own = start_of(os.getpid())
    assert own is not None
    with_own_pid = [ProcessIdentity(os.getpid(), p.host, p.started_at, p.process) for p in processes]
    return sum(identity.is_alive() is not False or identity.send(signal.SIGCONT) for identity in with_own_pid)


if __name__ == "__main__":
    main()
