#!/usr/bin/env python3
"""Server on many long runs: times of its answers, how fast an event arrives, its memory, and a training next to it.

    python benchmarks/server.py [--runs 200] [--steps 10000] [--watchers 20] [--minutes 10] [--updates 200]

The records are written by the reporter itself, then copied. `tools/serve.py` runs in a process of its own; this process
asks it over HTTP. A comparison is asked for runs that nobody has looked at before (first), and then again. An event's
time is from before its line is written to when a client has it. While so many clients watch a run that goes on, the
memory of the server is looked at each second. The training's updates are timed in turns with the server at work and
stopped (SIGSTOP), while a client watches the run that is trained. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from shutil import copytree
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.monitor import Recorder
from benchmarks.workload import MINIATURE_MODEL, UpdateTimes, load_rows, make_trainer, parse, spread
from training.engines.results import UpdateResult
from training.experiments.store.identity import run_id_of
from training.loop.callbacks import RunView
from training.record.log import LOG_NAME

COMPARED = 6
EVENTS = 20
UPDATES_A_TURN = 20
LEFT_OUT = 3
"""Updates at the beginning of each turn that are not counted: the caches are still the other's."""
JOBS = "/api/training/jobs"


class Client:
    """Requests to the server on a root.

    Args:
        root: directory of runs; the server has written down there where it is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        address = json.loads((root / ".server" / "server.json").read_text(encoding="utf-8"))
        self.port = int(address["url"].rpartition(":")[2])
        self.headers = {"Authorization": f"Bearer {(root / '.server' / 'token').read_text(encoding='utf-8').strip()}"}
        self._streams: list[http.client.HTTPConnection] = []

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection that can ask several times."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def ask(self, connection: http.client.HTTPConnection, path: str) -> bytes:
        """Return the body of an answer."""
        connection.request("GET", path, headers=self.headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body.decode()}")
        return body

    def events(self, path: str) -> Iterator[str]:
        """Yield the lines of a stream of events until it is ended, by the server or `end_streams`."""
        with closing(self.connection()) as connection:
            self._streams.append(connection)
            try:
                connection.request("GET", path, headers=self.headers)
                answer = connection.getresponse()
                while line := answer.readline():
                    yield line.decode().rstrip("\n")
            except (OSError, http.client.HTTPException):  # the server was ended
                return

    def end_streams(self) -> None:
        """End all streams of events: threads that read them would disturb what is measured next."""
        for connection in self._streams:
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)
        self._streams.clear()


class Server(Client):
    """`tools/serve.py` in a process of its own, and requests to it.

    Args:
        root: directory of runs.
    """

    def __init__(self, root: Path) -> None:
        command = [sys.executable, str(ROOT / "tools" / "serve.py"), "--root", str(root), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not (root / ".server" / "server.json").exists():
            if self.process.poll() is not None:
                raise SystemExit("the server has ended")
            time.sleep(0.05)
        super().__init__(root)

    def memory_bytes(self) -> int:
        """Return how much memory the process holds."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise SystemExit("the system does not say how much memory a process holds; run this on Linux")

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has taken so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End the process."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(60)


def timed(act: Callable[[], Any]) -> float:
    """Return the seconds that something takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def shown(seconds: Sequence[float]) -> str:
    """Return the median with the least and the largest, in milliseconds."""
    return "{:.1f} ms ({:.1f} to {:.1f})".format(
        *(1e3 * value for value in (statistics.median(seconds), min(seconds), max(seconds)))
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--watchers", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--updates", type=int, default=400)
    options = parse(
        parser,
        {"runs": 14, "steps": 200, "repetitions": 1, "watchers": 3, "minutes": 0.02, "updates": 40},
        argv,
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        recorder = make_runs(root, options.runs, options.steps)
        size = (root / "run_000" / LOG_NAME).stat().st_size
        print(f"{options.runs} runs of {options.steps:,} steps, {options.runs * size / 1e6:.0f} MB of logs")
        server = Server(root)
        try:
            lists(server, options.repetitions)
            comparisons(server, options.runs, options.repetitions)
            latencies(server, recorder)
            memory(server, recorder, options.watchers, options.minutes)
            beside(server, options.updates, is_miniature=options.miniature)
        finally:
            server.end()


def make_runs(root: Path, runs: int, steps: int) -> Recorder:
    """Write the records of finished runs, and return the recorder of one more that goes on."""
    first = Recorder(root / "run_000", steps)
    first.train(steps)
    first.reporter.run_finished(reason="all steps done")
    for n in range(1, runs - 1):
        copytree(root / "run_000", root / f"run_{n:03d}")
    live = Recorder(root / "live", steps)
    live.train(steps)
    return live


def lists(server: Server, repetitions: int) -> None:
    """Time the list of runs."""
    with closing(server.connection()) as connection:
        first = timed(lambda: server.ask(connection, JOBS))
        again = [timed(lambda: server.ask(connection, JOBS)) for _ in range(4 * repetitions)]
        found = json.loads(server.ask(connection, JOBS))
    print(f"first list, with the index made: {first:.3f} s")
    print(f"list of {len(found['jobs'])} runs: {shown(again)}; target: under 100 ms")


def comparisons(server: Server, runs: int, repetitions: int) -> None:
    """Time the comparison of six runs, each time others, and then the same ones again."""
    first, again = [], []
    with closing(server.connection()) as connection:
        for n in range(min(repetitions, (runs - 1) // COMPARED)):
            names = (f"run_{m:03d}" for m in range(n * COMPARED, (n + 1) * COMPARED))
            path = "/api/training/compare?ids=" + ",".join(run_id_of(server.root, server.root / name) for name in names)
            first.append(timed(lambda path=path: server.ask(connection, path)))  # type: ignore[misc]
            again.append(timed(lambda path=path: server.ask(connection, path)))  # type: ignore[misc]
    print(f"comparison of {COMPARED} runs, first: {shown(first)}; target: under 1,000 ms")
    print(f"comparison of {COMPARED} runs, again: {shown(again)}")


def latencies(server: Server, recorder: Recorder) -> None:
    """Time events from before they are written to when a client has them."""
    with closing(server.connection()) as connection:
        run_id = run_id_of(server.root, server.root / "live")
        place = json.loads(server.ask(connection, f"{JOBS}/{run_id}/metrics/history?points=2"))["position"]
    arrived: dict[str, float] = {}
    news = threading.Condition()

    def watch() -> None:
        for line in server.events(f"{JOBS}/{run_id}/events?since={place}"):
            with news:
                if line.startswith("event: "):
                    arrived[line.removeprefix("event: ") + str(len(arrived))] = time.perf_counter()
                    news.notify_all()

    threading.Thread(target=watch, daemon=True).start()
    with news:
        news.wait_for(lambda: any(name.startswith("state") for name in arrived), 30)
    seconds = []
    for n in range(EVENTS):
        time.sleep(0.05 + 0.01 * (n % 7))  # at any time between two looks of the server
        with news:
            count = sum(name.startswith("step") for name in arrived)
        started = time.perf_counter()
        recorder.train(1)
        with news:
            if not news.wait_for(lambda: sum(name.startswith("step") for name in arrived) > count, 30):  # noqa: B023
                raise SystemExit("an event did not arrive within 30 s")
            seconds.append(max(at for name, at in arrived.items() if name.startswith("step")) - started)
    server.end_streams()
    print(f"an event with a client: {shown(seconds)}; target: under 1,000 ms")


def memory(server: Server, recorder: Recorder, watchers: int, minutes: float) -> None:
    """Look at the server's memory while clients watch a run that goes on, and others the list."""
    run_id = run_id_of(server.root, server.root / "live")
    counts = [0] * watchers
    before = server.memory_bytes()

    def watch(number: int) -> None:
        path = "/api/events" if number % 4 == 3 else f"{JOBS}/{run_id}/events"
        for line in server.events(path):
            counts[number] += line.startswith("event: ")

    for number in range(watchers):
        threading.Thread(target=watch, args=(number,), daemon=True).start()
    samples = []
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        recorder.train(10)
        time.sleep(min(1.0, 30 * minutes))
        samples.append(server.memory_bytes())
    server.end_streams()
    half = len(samples) // 2
    first, second = max(samples[: half or 1]), max(samples[half:])
    print(
        f"server's memory before {watchers} clients watch: {before / 1e6:.1f} MB; in the first half of {minutes:g} "
        f"minutes at most {first / 1e6:.1f} MB, in the second {second / 1e6:.1f} MB; "
        f"{sum(counts):,} events sent, {min(counts):,} or more to each"
    )


class InTurnsWithServer(UpdateTimes):
    """Callback that lets the server work in every other turn of updates, and stops it in the ones between.

    Args:
        server: the server.
    """

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Record the time of the update, and change turns where one is over."""
        super().on_step(trainer, result)
        turn, place = divmod(len(self.seconds), UPDATES_A_TURN)
        if place == 0:
            self._server.process.send_signal(signal.SIGCONT if turn % 2 == 0 else signal.SIGSTOP)
        self.resume()


def beside(server: Server, updates: int, *, is_miniature: bool) -> None:
    """Time the updates of a training below the root with the server at work and stopped, in turns."""
    settings: dict[str, Any] = {**(MINIATURE_MODEL if is_miniature else {}), "max_steps": updates, "epochs": 1000}
    dataset = load_rows("HLBD_Hardcore_Full_V2.json", 64 if is_miniature else None)
    run_id = run_id_of(server.root, server.root / "trained" / "run")
    command = [sys.executable, __file__, "--watch", str(server.root), run_id]
    times = InTurnsWithServer(server)
    taken = server.cpu_seconds()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        try:
            make_trainer(dataset, settings, str(server.root / "trained"), times).train()
        finally:
            server.process.send_signal(signal.SIGCONT)
            watching.terminate()
    taken = server.cpu_seconds() - taken
    at_work = sum(seconds for number, seconds in enumerate(times.seconds) if number // UPDATES_A_TURN % 2 == 0)
    medians = [
        statistics.median(times.seconds[start + LEFT_OUT : start + UPDATES_A_TURN])
        for start in range(0, len(times.seconds) - UPDATES_A_TURN + 1, UPDATES_A_TURN)
    ]
    ratios = [work / still for work, still in zip(medians[::2], medians[1::2], strict=False)]
    print(f"an update beside the server / without it: {spread(ratios)}; target: 1.01 at most")
    print(f"CPU time of the server meanwhile: {taken / at_work:.2%} of one core")


def watch_from_here(root: Path, run_id: str) -> None:
    """Watch a run and the list as a page does, in this process, until it is ended."""
    client = Client(root)
    threading.Thread(target=lambda: list(client.events("/api/events")), daemon=True).start()
    print("ready", flush=True)
    while True:
        for _ in client.events(f"{JOBS}/{run_id}/events"):
            pass
        time.sleep(0.5)  # the run has not begun yet


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch_from_here(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
