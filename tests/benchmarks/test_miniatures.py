"""Every benchmark runs in its miniature mode and its figures come out, finite and positive; no speed is asserted."""

from __future__ import annotations

import argparse
import importlib
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.workload import parse
from tests.benchmarks.diffusion_lines import DIFFUSION_LINES
from tests.benchmarks.language_lines import LANGUAGE_LINES, RATIO

ROOT = Path(__file__).resolve().parents[2]
LINES = {
    "attention": [
        "round 1: autopoietic {} ms, standard {} ms per update",
        "round 2: autopoietic {} ms, standard {} ms per update",
        f"autopoietic / standard: {RATIO}   goal",
    ],
    "backends": ["playground {} {} ({})", "huggingface {} {} ({})"],
    "estimate": [
        # Errors are signed shares of the fact, and may be 0.
        "default {} +-% {} +-% {} {} +-% {} {} +-% {} +-% to +-%",
        "memory: dry run",
        "updates:",
        "whole run:",
    ],
    "experiments": [
        "first look: {} s, {} MB read",
        "look, nothing new: {} ms ({} to {})",
        "look, with a search for new runs: {} ms",
        "look, 10 updates more in one run: {} ms, {} bytes read",
        "list of all runs: {} ms ({} to {}), target",
        "list of {} runs by a condition, sorted: {} ms",
        "list in groups: {} ms",
        "command `list`: {} ms",
    ],
    "landscape": [
        "round 2: {} s for the surface, {} s for {} bare forward passes: {}",
        f"surface / bare forward passes: {RATIO}, target",
    ],
    "monitor": [
        "first table, whole command: {} s ({} to {}; Python's start alone {} s;",
        "first look, in the process: {} s, {} MB read",
        "refresh, nothing new: {} s, 0 bytes read",
        "refresh, 10 updates more in each run: {} s, {} bytes read of {} written",
    ],
    "server": [
        "14 runs of 200 steps, {} MB of logs",
        "first list, with the index made: {} s",
        "list of 14 runs: {} ms ({} to {}); target: under 100 ms",
        "comparison of 6 runs, first: {} ms ({} to {}); target: under 1,000 ms",
        "comparison of 6 runs, again: {} ms ({} to {})",
        "an event with a client: {} ms ({} to {}); target: under 1,000 ms",
        "server's memory before 3 clients watch: {} MB; in the first half of {} minutes at most {} MB",
        f"an update beside the server / without it: {RATIO}; target: 1.01 at most",
        "CPU time of the server meanwhile: {}% of one core",
    ],
    "server_kills": [
        "undisturbed run: {} s",
        "2 kills of the server, each while a job trained; {} jobs in {} attempts, {} processes",
        "jobs at the kills:",
        "a server answers {} s after its start",
        "jobs with the weights of the undisturbed run, byte for byte: {} of {}",
        "jobs shown as finished: {} of {}",
        "rows and curves of ended runs that another server showed otherwise: 0",
        "processes left: 0; zombies: 0",
        "signals to a process that got the pid of one that has ended: 0",
    ],
    "stabilizer": [
        *(f"seed 1: {arm} loss {{}}" for arm in ("clean, clipping", "spikes, no clipping", "spikes, DBC-DAC rank 8")),
        *(f"  {arm} {RATIO}" for arm in ("spikes, clipping", "spikes, no clipping", "clean, DBC-DAC rank 8")),
        f"time of an update with DBC-DAC / without (miniature): {RATIO}",
    ],
    "throughput": [
        "round 1: ours {} tokens/s, bare loop {}, ours in fp32 {}, transformers' Trainer {} ({} parameters)",
        "ours / bare loop, step by step: {} ({} to {}, the middle half)   goal",
        f"ours / transformers' Trainer: {RATIO}   goal",
        f"ours in fp32 / transformers' Trainer: {RATIO}",
        f"share of the time in the reporter: {RATIO}   goal",
    ],
}
"""The start of each line that must come out; `{}` stands for a positive figure, `+-%` for a share with its sign."""


def pattern_of(line: str) -> str:
    """Return the regular expression of a line in `LINES`; any number of spaces may stand where it has one."""
    escaped = re.escape(line.strip()).replace(r"\ ", " ")
    spaced = re.sub(" +", r" +", escaped)
    return r"^ *" + spaced.replace(r"\{\}", r"([\w.,]+)").replace(r"\+\-%", r"[+-][\d.]+%")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LINES.keys() - {"server_kills"}))
def test_a_benchmark_s_figures_come_out(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_miniature(name, LINES[name], capsys)


@pytest.mark.slow
def test_jobs_end_as_undisturbed_ones_though_their_server_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    shown = check_miniature("server_kills", LINES["server_kills"], capsys)
    for line in ("jobs with the weights of the undisturbed run, byte for byte", "jobs shown as finished"):
        done, of = re.search(rf"^{line}: (\d+) of (\d+)$", shown, re.MULTILINE).groups()  # type: ignore[union-attr]
        assert done == of, shown
    attempts, processes = re.search(r" jobs in (\d+) attempts, (\d+) processes", shown).groups()  # type: ignore[union-attr]
    assert attempts == processes, shown


def check_miniature(name: str, lines: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a benchmark's miniature, look for the lines, and return what it printed."""
    importlib.import_module(f"benchmarks.{name}").main(["--miniature"])
    shown = capsys.readouterr().out
    for line in lines:
        found = re.search(pattern_of(line), shown, flags=re.MULTILINE)
        assert found, f"no line {line!r} in:\n{shown}"
        for figure in found.groups():
            value = float(figure.rstrip(",").replace(",", ""))
            assert math.isfinite(value), found[0]
            assert value > 0, found[0]
    return shown


def test_every_benchmark_is_tested_and_run_by_make() -> None:
    shared = {"workload", "language_data", "diffusion_runs", "sample_quality"}
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - shared
    assert benchmarks == {*LINES, *LANGUAGE_LINES, *DIFFUSION_LINES}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^benchmark:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    with_targets_of_their_own = {"gpu_diffusion", "gpu_language", "real_model"}
    assert benchmarks - with_targets_of_their_own == set(re.findall(r"benchmarks/(\w+)\.py", recipe[1]))
    assert with_targets_of_their_own < set(re.findall(r"benchmarks/(\w+)\.py", makefile))


def test_a_flag_that_is_given_wins_over_the_miniature() -> None:
    def steps(*words: str) -> int:
        parser = argparse.ArgumentParser()
        parser.add_argument("--steps", type=int, default=40)
        found: int = parse(parser, {"steps": 2}, words).steps
        return found

    assert (steps(), steps("--miniature"), steps("--miniature", "--steps", "7")) == (40, 2, 7)
