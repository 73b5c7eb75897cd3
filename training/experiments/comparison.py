"""The control experiment: variants of one setting, trained with the same seeds on the same data, and compared.

Each run is the front door's own, one after the other, so that speeds can be compared too. Runs of one seed begin from
the same draw and see the same batches; the difference within such a pair is what the setting does, and how much it
varies over the seeds says whether that is more than chance (paired t-test).
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import east_asian_width

from training.backends.prepare import PreparedRun
from training.errors import ConfigError, UserError
from training.experiments.run_process import train_in_own_process
from training.language.messages import Message, say, translated
from training.record.reporter import read_report
from training.settings.declarations import find_key
from training.settings.layers import Layer
from training.settings.plain_yaml import parse_yaml
from training.settings.tree import TrainingConfig
from training.storage.atomic import write_atomically
from training.storage.run_files import RunFile

SCHEMA_VERSION = 1
COMPARISON_NAME = "comparison.json"
RUN_FILES = (RunFile(COMPARISON_NAME, artefact="comparison"),)
LEAST_SEEDS = 3
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """One setting, its values, and the seeds with which each value is trained."""

    key: str
    """Dotted name of the setting."""
    values: tuple[Any, ...]
    """The first is the reference."""
    seeds: tuple[int, ...]

    @property
    def setting(self) -> str:
        """Short name of the setting."""
        return self.key.rpartition(".")[2]

    def name(self, value: Any, seed: int) -> str:
        """Return the name of a run's directory, within the comparison's."""
        plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in str(value))
        return f"{self.setting}-{plain}-seed{seed}"


@dataclass(frozen=True)
class Difference:
    """A variant compared with the reference, over the seeds."""

    value: Any
    deltas: tuple[float, ...]
    """Loss of the variant less loss of the reference, seed by seed."""
    mean: float
    interval: tuple[float, float]
    """Confidence interval of the mean, 95 %."""
    p: float
    """p-value of a two-sided paired t-test."""

    @property
    def is_more_than_the_spread(self) -> bool:
        """True where the interval does not contain zero."""
        return self.interval[0] > 0.0 or self.interval[1] < 0.0

    @classmethod
    def of(cls, value: Any, deltas: Sequence[float]) -> Difference:
        """Return the difference that three or more pairs of runs show."""
        from scipy import stats

        mean, count = statistics.fmean(deltas), len(deltas)
        error = statistics.stdev(deltas) / math.sqrt(count)
        if error == 0.0:  # all pairs differ by the very same amount, as a rule by nothing
            return cls(value, tuple(deltas), mean, (mean, mean), 1.0 if mean == 0.0 else 0.0)
        low, high = stats.t.interval(CONFIDENCE, count - 1, loc=mean, scale=error)
        p = 2.0 * stats.t.sf(abs(mean) / error, count - 1)
        return cls(value, tuple(deltas), mean, (float(low), float(high)), float(p))


def parse_comparison(text: str, num_seeds: int, tree: type[TrainingConfig], first_seed: int) -> Comparison:
    """Return what `--compare attention=standard,autopoietic` asks for; the values are YAML.

    Args:
        text: as given.
        num_seeds: as `--compare-seeds` says.
        tree: the settings that there are.
        first_seed: the others follow it.

    Raises:
        ConfigError: not of this form, no such setting, or too few values or seeds.
    """
    word, equals, rest = text.partition("=")
    example = "--compare attention=standard,autopoietic"
    if not (equals and word and rest):
        raise ConfigError(f"--compare {text}: should be SETTING=VALUE,VALUE, as in {example}")
    try:
        key = find_key(word, tree)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--explain", "--compare", 1)) from None
    if key in ("task", "model.model"):
        raise ConfigError(f"--compare {text}: another {word} has other settings; compare runs of one {word}")
    if key in ("run.seed", "run.run_dir", "backend"):
        raise ConfigError(f"--compare {text}: {word} is not compared; each pair of runs has its own seed and directory")
    if key in declared(tree, "decides_loss"):
        raise ConfigError(
            f"--compare {text}: another {word} makes the loss one of other tokens, so no two can be compared"
        )
    try:
        values = tuple(parse_yaml(part) for part in rest.split(","))
    except ValueError as error:
        raise ConfigError(f"--compare {text}: a value is {error}; write them as in {example}") from error
    if any(isinstance(value, list | dict) for value in values):
        raise ConfigError(f"--compare {text}: lists are not compared; give single values, as in {example}")
    if len(values) < 2 or len({str(value) for value in values}) < len(values):
        raise ConfigError(f"--compare {text}: give two values or more, each once, as in {example}")
    if num_seeds < LEAST_SEEDS:
        raise ConfigError(f"--compare-seeds {num_seeds}: fewer than {LEAST_SEEDS} say nothing about their spread")
    comparison = Comparison(key, values, tuple(range(first_seed, first_seed + num_seeds)))
    if len({comparison.name(value, first_seed) for value in values}) < len(values):
        raise ConfigError(f"--compare {text}: two of the values would share a run directory; compare them one by one")
    return comparison


def declared(tree: type[TrainingConfig], name: str) -> frozenset[str]:
    """Return the dotted keys of settings that task and model family list under a name, such as `decides_loss`."""

    def keys() -> Iterator[str]:
        for section in ("data", "model"):
            options = tree.model_fields[section].annotation
            yield from (f"{section}.{setting}" for setting in getattr(options, name))

    return frozenset(keys())


def compare(comparison: Comparison, prepared: PreparedRun) -> int:
    """Train every variant with every seed, print the table, and write `comparison.json`. Return the exit code.

    Args:
        comparison: what is compared.
        prepared: the run that is varied. Where it resumes, an interrupted comparison goes on and finished runs stay as
            they are; where it overwrites, all of them are trained again.

    Raises:
        UserError: a variant cannot be trained so, or a run's record cannot be read.
    """
    runs: dict[tuple[Any, int], TrainingConfig] = {}
    request = prepared.request
    directory, tree = request.config.run.run_dir, type(request.config)
    for seed in comparison.seeds:
        for value in comparison.values:
            where = directory / comparison.name(value, seed)
            own = {comparison.key: value, "run.seed": seed, "run.run_dir": where}
            runs[value, seed] = prepared.varied(Layer("--compare", own)).request.config
    is_validated = bool(next(iter(runs.values())).data.validation_split)
    if comparison.key in declared(tree, "in_training_loss") and not is_validated:
        raise ConfigError(
            f"--compare {comparison.setting}: training losses are measured with it, so only validation losses can be "
            "compared; add --validation-split 0.1"
        )
    how = ["--resume"] if request.resume else ["--overwrite"] if request.overwrite else []
    for number, ((value, seed), config) in enumerate(runs.items(), 1):
        say(Message(
            "run {number} of {all}: {setting}={value}, seed {seed}",
            number=number, all=len(runs), setting=comparison.setting, value=value, seed=seed,
        ))  # fmt: skip
        if code := train_in_own_process(config, how):
            say(Message(
                "the comparison ends here; go on with: the same command and --resume ({directory})",
                directory=directory,
            ))  # fmt: skip
            return code
    figures = {run: figures_of_run(config.run.run_dir) for run, config in runs.items()}
    differences = [
        Difference.of(value, [
            figures[value, seed]["loss"] - figures[comparison.values[0], seed]["loss"] for seed in comparison.seeds
        ])
        for value in comparison.values[1:]
    ]  # fmt: skip
    metric = Message("validation loss") if is_validated else Message("loss of the last epoch")
    if not is_validated and any(_ends_inside_epoch(config.run.run_dir) for config in runs.values()):
        metric = Message("loss of the last epoch, which is not whole")
    for line in table(comparison, figures, differences, metric):
        say(line)
    document = {
        "schema_version": SCHEMA_VERSION,
        "setting": comparison.key,
        "values": list(comparison.values),
        "seeds": list(comparison.seeds),
        "metric": metric,
        "runs": [
            {"value": value, "seed": seed, "run_dir": runs[value, seed].run.run_dir.name, **found}
            for (value, seed), found in figures.items()
        ],
        "differences": [
            {
                "value": d.value, "deltas": list(d.deltas), "mean": d.mean, "interval": list(d.interval), "p": d.p,
                "more_than_the_spread": d.is_more_than_the_spread,
            }
            for d in differences
        ],
    }  # fmt: skip
    path = directory / COMPARISON_NAME
    write_atomically(path, (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode(), durable=True)
    say(Message("wrote {path}", path=path))
    return 0


def figures_of_run(run_dir: Path) -> dict[str, Any]:
    """Return what is compared of a run: loss at its end, share of its training questions answered, speed."""
    faults: list[str] = []
    report = read_report(run_dir, faults)
    if faults:
        raise UserError(f"{run_dir}: {faults[0]}, so there is nothing to compare; resuming the run writes it again")
    if report is None or report.get("state") != "finished":
        raise UserError(f"{run_dir}: the run is not finished, so there is nothing to compare; go on with --resume")
    last = (report["evaluations"] or report["epochs"] or [{}])[-1]
    if last.get("loss") is None:
        raise UserError(f"{run_dir}: its last loss is not finite, so there is nothing to compare")
    asked = [module for module in (report.get("recitation") or {}).values() if module.get("asked")]
    answered = sum(m["right"] for m in asked) / sum(m["asked"] for m in asked) if asked else None
    unit = "tokens" if any("tokens" in epoch for epoch in report["epochs"]) else "samples"
    count, seconds = sum(epoch.get(unit) or 0 for epoch in report["epochs"]), report.get("training_seconds")
    return {
        "loss": float(last["loss"]),
        "answered": answered,
        f"{unit}_per_second": count / seconds if seconds else None,
        "step": report["step"],
    }


def _ends_inside_epoch(run_dir: Path) -> bool:
    return any(epoch.get("unfinished") for epoch in (read_report(run_dir) or {}).get("epochs", [])[-1:])


def table(
    comparison: Comparison,
    figures: Mapping[tuple[Any, int], Mapping[str, Any]],
    differences: Sequence[Difference],
    metric: str,
) -> list[str]:
    """Return the comparison in lines: a row for each seed, the means, and a conclusion for each variant."""
    values = comparison.values
    width = max(12, *(len(str(value)) + 2 for value in values))
    lines: list[str] = [
        Message("{setting}: {metric} at the end", setting=comparison.setting, metric=metric),
        _padded(Message("seed")) + "".join(str(value).rjust(width) for value in values),
    ]
    for seed in comparison.seeds:
        lines.append(str(seed).ljust(12) + "".join(f"{figures[v, seed]['loss']:.4f}".rjust(width) for v in values))
    for name, key, form in (
        (Message("mean"), "loss", "{:.4f}"), (Message("answered"), "answered", "{:.1%}"),
        (Message("tokens/s"), "tokens_per_second", "{:,.0f}"), (Message("samples/s"), "samples_per_second", "{:,.0f}"),
    ):  # fmt: skip
        measured = [
            [figure for seed in comparison.seeds if (figure := figures[value, seed].get(key)) is not None]
            for value in values
        ]
        if all(len(row) == len(comparison.seeds) for row in measured):
            lines.append(_padded(name) + "".join(form.format(statistics.fmean(f)).rjust(width) for f in measured))
    lines += [conclusion(difference, values[0], len(comparison.seeds)) for difference in differences]
    return lines


def conclusion(difference: Difference, reference: Any, seeds: int) -> Message:
    """Say in one line how a variant differs from the reference, and whether that is more than chance."""
    found = {
        "value": difference.value, "reference": reference, "mean": difference.mean, "low": difference.interval[0],
        "high": difference.interval[1], "p": difference.p, "seeds": seeds,
    }  # fmt: skip
    if difference.is_more_than_the_spread:
        return Message(
            "{value} less {reference}: {mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f}, paired t-test "
            "p = {p:.3f}): more than the spread of {seeds} seeds",
            **found,
        )
    return Message(
        "{value} less {reference}: {mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f}, paired t-test "
        "p = {p:.3f}): not more than the spread of {seeds} seeds",
        **found,
    )


def _padded(name: Message) -> str:
    """Return a row's name in the chosen language, in the table's first twelve columns."""
    text = translated(name)
    return text + " " * max(1, 12 - sum(2 if east_asian_width(c) in "WF" else 1 for c in text))
