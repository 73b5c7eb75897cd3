"""The schema of a run's record: each event with its keys, as data, and a reader that checks every line. No torch.

A record may come from another version of this program, from a disk that damaged it or from someone else's tool. A line
that does not fit is skipped and counted by whoever reads; no reader further on meets a missing key, a wrong type, a
number that no float holds or a document nested a thousand levels deep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeGuard

from training.storage.json_files import parse_json
from training.tasks.metrics import LANGUAGE_METRICS, Metric

SCHEMA_VERSION = 1
LARGEST_INTEGER = 2**63
"""Bound of every count and step; a larger one is damage."""

RESUMED_RUN = "the resumed run"
"""Begins the name of the layer of settings that a resumed run takes over."""

Event = dict[str, Any]
Check = Callable[[object], bool]


def is_number(value: object) -> TypeGuard[float]:
    """Say whether a value is a finite number of usual size; True and False are none."""
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is int and -LARGEST_INTEGER < value < LARGEST_INTEGER


def is_count(value: object) -> bool:
    """Say whether a value is a whole number from 0 on."""
    return type(value) is int and 0 <= value < LARGEST_INTEGER


def is_measured(value: object) -> bool:
    """Say whether a value is a number, or None for one that was not finite."""
    if type(value) is float:
        return math.isfinite(value)
    return value is None or (type(value) is int and -LARGEST_INTEGER < value < LARGEST_INTEGER)


def is_count_or_none(value: object) -> bool:
    """Say whether a value is a whole number from 0 on, or None."""
    return value is None or (type(value) is int and 0 <= value < LARGEST_INTEGER)


def is_text_or_none(value: object) -> bool:
    """Say whether a value is a string or None."""
    return value is None or isinstance(value, str)


def is_text(value: object) -> bool:
    """Say whether a value is a string."""
    return isinstance(value, str)


def is_flag(value: object) -> bool:
    """Say whether a value is True or False."""
    return isinstance(value, bool)


def is_mapping(value: object) -> bool:
    """Say whether a value is a mapping; JSON's have strings as keys."""
    return isinstance(value, dict)


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _mapping_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _none_or(check: Check) -> Check:
    return lambda value: value is None or check(value)


is_texts = _list_of(is_text)


class EventSchema(NamedTuple):
    """Keys of one event next to `event` and `time`, with the check that each value must pass."""

    required: Mapping[str, Check]
    optional: Mapping[str, Check] = {}
    """Checked where they are there. Further keys, such as a task's own facts and figures, are allowed."""


RUN_FACTS: Mapping[str, Check] = {
    "run_id": is_text_or_none, "backend": is_text_or_none, "device": is_text_or_none,
    "num_parameters": is_count_or_none, "num_train_samples": is_count_or_none,
    "steps_per_epoch": is_count_or_none, "total_steps": is_count_or_none, "num_epochs": is_count_or_none,
    "curve_hash": is_text_or_none, "metrics": _list_of(is_mapping), "data": _list_of(is_mapping),
    "data_fingerprint": is_text_or_none, "vocab_size": is_count_or_none, "world_size": is_count_or_none,
    "weights_fingerprint": _none_or(_list_of(is_measured)), "settings_from": _none_or(_mapping_of(is_text)),
}  # fmt: skip
"""Facts that a run states in its first event."""

EVENTS: Mapping[str, EventSchema] = {
    "run_started": EventSchema({}, RUN_FACTS),
    "run_resumed": EventSchema({"step": is_count}, RUN_FACTS),
    "metrics_declared": EventSchema({"metrics": _list_of(is_mapping)}),
    "introduced": EventSchema({"lines": is_texts}),
    "resumed_from": EventSchema(
        {"path": is_text, "step": is_count}, {"total_steps": is_count_or_none, "differences": is_texts}
    ),
    "step": EventSchema({"step": is_count}, {
        "epoch": is_count_or_none, "batch": is_count_or_none, "loss": is_measured, "grad_norm": is_measured,
        "learning_rate": is_measured, "tokens": is_count_or_none, "samples": is_count_or_none,
        "loss_tokens": is_measured, "loss_weight": is_measured,
        "tokens_per_second": is_measured, "samples_per_second": is_measured,
        "forward_ms": is_measured, "backward_ms": is_measured, "clipped": is_flag, "skipped": is_flag,
        "batch_hash": is_text_or_none, "weights_fingerprint": _none_or(_list_of(is_measured)), "nonfinite": is_texts,
    }),
    "eval": EventSchema(
        {"step": is_count}, {"epoch": is_count_or_none, "loss": is_measured, "nonfinite": is_texts}
    ),
    "best": EventSchema({"step": is_count}, {"epoch": is_count_or_none, "loss": is_measured}),
    "checkpoint": EventSchema({"path": is_text, "step": is_count}, {"bytes": is_count_or_none}),
    "estimate": EventSchema({}, {"step": is_count, "peak_memory_bytes": is_measured, "checkpoint_bytes": is_measured,
                                 "training_seconds": is_measured}),
    "memory": EventSchema({"kind": is_text, "peak_bytes": _list_of(is_count)}, {"step": is_count}),
    "warning": EventSchema({"message": is_text}, {"step": is_count_or_none}),
    "said": EventSchema({"lines": is_texts}),
    "samples": EventSchema({"step": is_count, "files": is_texts}),
    "run_finished": EventSchema({}, {"reason": is_text_or_none}),
    "run_stopped": EventSchema({}, {"reason": is_text_or_none}),
    "run_failed": EventSchema({}, {"error": is_text_or_none, "traceback": is_text_or_none}),
    "final_model": EventSchema({"path": is_text, "step": is_count}, {"lines": is_texts}),
    "conclusion": EventSchema({"figures": is_mapping}, {"lines": is_texts}),
    "recitation": EventSchema({"modules": is_mapping}),  # of records from before `conclusion`
}  # fmt: skip
"""Every event that this program writes or wrote. One of another name is let through and changes nothing."""


def _compiled(schema: EventSchema) -> tuple[frozenset[str], dict[str, Check]]:
    return frozenset(schema.required), {"time": is_number, **schema.optional, **schema.required}


_CHECKS = {name: _compiled(schema) for name, schema in EVENTS.items()}
_OF_UNKNOWN = _compiled(EventSchema({}, {"step": is_count_or_none}))


def fits(event: object) -> bool:
    """Say whether a value is an event of this schema: what every reader may rely on."""
    if not isinstance(event, dict) or not isinstance(name := event.get("event"), str):
        return False
    required, checks = _CHECKS.get(name, _OF_UNKNOWN)
    if not required <= event.keys():
        return False
    for key, value in event.items():  # a loop: a long log has a million events with a dozen keys each
        check = checks.get(key)
        if check is not None and not check(value):
            return False
    return True


def parse_event(line: bytes) -> Event | None:
    """Return the event of one line of a log, or None where it is none. NaN and Infinity read as None."""
    try:
        event = parse_json(line, lenient=True)
    except ValueError:
        return None
    return event if fits(event) else None


def number(value: object) -> float | None:
    """Return a finite number as a float, or None for anything else."""
    return float(value) if is_number(value) else None


def loss_weight(event: Mapping[str, Any]) -> object:
    """Return what the loss of an update was divided by: tokens with a loss, `loss_weight` where there are no tokens."""
    return event.get("loss_tokens", event.get("loss_weight", 1))


def integer(value: object) -> int | None:
    """Return a whole number of usual size, or None for anything else."""
    return value if type(value) is int and -LARGEST_INTEGER < value < LARGEST_INTEGER else None


def mapping(value: object) -> dict[str, Any]:
    """Return a mapping, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str | None:
    """Return a string, or None for anything else."""
    return value if isinstance(value, str) else None


def declared_metrics(facts: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Return the metrics that a run declares in its first event or in its report.

    As `training.tasks.metrics.metrics_of`, for records of unknown origin: what is no metric is left out.
    """
    if facts.get("metrics") is None:
        return LANGUAGE_METRICS
    declared = facts["metrics"]
    return tuple(
        Metric.from_dict(metric)
        for metric in (declared if isinstance(declared, list) else ())
        if isinstance(metric, dict)
        and all(isinstance(metric.get(key), str) for key in ("name", "label", "better"))
        and all(isinstance(metric.get(key, ""), str) for key in ("form", "derived", "at"))
    )


# -- the report ----------------------------------------------------------------------------------------------------


def is_row(value: object) -> bool:
    """Say whether a value is an update or a measurement, as a report keeps it: figures by name, none of them nested."""
    return (
        isinstance(value, dict)
        and is_count(value.get("step"))
        and is_count_or_none(value.get("epoch"))
        and is_measured(value.get("loss"))
        and all(is_measured(v) or isinstance(v, bool | str) or is_texts(v) for v in value.values())
    )


def _is_epoch(value: object) -> bool:
    return is_row(value) and isinstance(value, dict) and is_count(value.get("epoch"))


def _is_part(name: str) -> Check:
    """Return the check of an entry that an event left in the report."""
    schema = EVENTS[name]
    return lambda value: (
        isinstance(value, dict)
        and all(key in value and check(value[key]) for key, check in schema.required.items())
        and all(check(value[key]) for key, check in schema.optional.items() if key in value)
        and is_measured(value.get("time"))
    )


def _is_column(value: object) -> bool:
    return isinstance(value, list) and all(is_measured(v) or isinstance(v, bool) for v in value)


def _is_answered(value: object) -> bool:
    return isinstance(value, dict) and is_count(value.get("right")) and is_count(value.get("asked"))


REPORT: Mapping[str, Check] = {
    **RUN_FACTS,
    "started_at": is_measured, "resumed_at_steps": _list_of(is_count), "state": is_text, "updated_at": is_measured,
    "step": is_count, "batch": is_count, "training_seconds": is_measured,
    "latest": lambda value: value == {} or is_row(value), "best": _none_or(_is_part("best")),
    "curve": _mapping_of(_is_column), "curve_stride": is_count,
    "estimate": _mapping_of(_mapping_of(is_measured)), "memory": _none_or(_is_part("memory")),
    "num_warnings": is_count, "num_skipped_updates": is_count, "loss_not_finite_at": is_count_or_none,
    "ended_at": is_measured, "reason": is_text_or_none,
    "error": is_text_or_none, "traceback": is_text_or_none, "recitation": _mapping_of(_is_answered),
}  # fmt: skip
"""Keys of a report, with the check that each value must pass. Further ones, a task's own figures, are allowed."""

REPORT_LISTS: Mapping[str, Check] = {
    "epochs": _is_epoch, "evaluations": is_row, "checkpoints": _is_part("checkpoint"), "warnings": _is_part("warning"),
    "sample_files": _is_part("samples"),
}  # fmt: skip
"""Lists of a report, with the check of their entries."""


_EMPTY: Mapping[str, dict[str, Any] | list[Any]] = {
    "latest": {},
    "curve": {},
    **{key: [] for key in REPORT_LISTS if key != "sample_files"},  # which only a run that draws samples has
}


def checked_report(report: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what of a report is of its declared type, and the names of what is not: `latest`, `epochs[3]`.

    What every report has, and this one lacks, is there and empty.
    """
    fitting: dict[str, Any] = {}
    left_out: list[str] = []
    for key, value in report.items():
        if (check := REPORT.get(key)) is not None:
            is_good = check(value)
        elif (entry := REPORT_LISTS.get(key)) is not None and isinstance(value, list):
            left_out += [f"{key}[{n}]" for n, item in enumerate(value) if not entry(item)]
            value, is_good = [item for item in value if entry(item)], True
        else:
            is_good = key not in REPORT_LISTS
        if is_good:
            fitting[key] = value
        else:
            left_out.append(key)
    return {**{key: empty.copy() for key, empty in _EMPTY.items()}, "step": 0, **fitting}, left_out
