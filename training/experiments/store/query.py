"""A question to the index: which runs, in which order. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.errors import UserError
from training.experiments.store.conditions import Condition, parse_condition
from training.experiments.store.names import Name, Names

DEFAULT_SORT = "-started_at"
MOST_SORTED_BY = 8


@dataclass(frozen=True)
class Query:
    """Which runs are wanted, and in which order. Each field that is given leaves fewer runs.

    Example:
        >>> Query(where="learning_rate<1e-3 and val_loss<2", tags=("baseline",), sort="val_loss", limit=10)
    """

    text: str = ""
    """Part of the name, note, tags, task, model or backend, in any case."""
    where: str = ""
    """A condition (`training.experiments.store.conditions`)."""
    states: Sequence[str] = ()
    """The state is one of these."""
    tags: Sequence[str] = ()
    """The run has all of these tags."""
    ids: Sequence[str] = ()
    """The id is one of these."""
    archived: bool | None = False
    """True: only archived runs; None: these too."""
    sort: str = DEFAULT_SORT
    """Names with commas between them, each with `-` in front for the highest first. Unknown values come last."""
    limit: int | None = None
    offset: int = 0


def condition_of(query: Query, names: Names) -> Condition:
    """Return what a run must fulfil, as SQL.

    Raises:
        UserError: the condition cannot be used.
    """
    parts: list[Condition] = []
    if query.archived is not None:
        parts.append(Condition("runs.archived = ?", (int(query.archived),)))
    if query.ids:
        parts.append(_one_of("runs.id", query.ids))
    if query.states:
        parts.append(_one_of(names.find("state", "").sql, query.states))
    for tag in query.tags:
        parts.append(Condition("EXISTS (SELECT 1 FROM tags WHERE run = runs.id AND tag = ?)", (tag,)))
    if query.text:
        columns = " || char(10) || ".join(
            f"IFNULL({column}, '')" for column in ("name", "note", "task", "model", "backend")
        )
        tagged = "EXISTS (SELECT 1 FROM tags WHERE run = runs.id AND instr(folded(tag), folded(?)) > 0)"
        parts.append(Condition(f"(instr(folded({columns}), folded(?)) > 0 OR {tagged})", (query.text, query.text)))
    if query.where.strip():
        parts.append(parse_condition(query.where, names))
    if not parts:
        return Condition("1")
    return Condition(" AND ".join(part.sql for part in parts), tuple(v for part in parts for v in part.parameters))


def order_of(query: Query, names: Names) -> Condition:
    """Return the order of the runs, as the terms behind ORDER BY. Runs of equal standing are in order of name.

    Raises:
        UserError: nothing bears one of the names.
    """
    terms: list[str] = []
    parameters: tuple[str | float | int, ...] = ()
    words = [word.strip() for word in query.sort.split(",") if word.strip()]
    if len(words) > MOST_SORTED_BY:
        raise UserError(f"--sort: runs are sorted by up to {MOST_SORTED_BY} names, got {len(words)}")
    for word in words:
        name = sortable(word.removeprefix("-"), names, "--sort")
        terms.append(f"{name.sql} {'DESC' if word.startswith('-') else 'ASC'} NULLS LAST")
        parameters += name.parameters
    return Condition(", ".join([*terms, "runs.name ASC", "runs.id ASC"]), parameters)


def sortable(text: str, names: Names, flag: str) -> Name:
    """Return a name by which runs can be sorted or grouped.

    Raises:
        UserError: nothing bears it, or it stands for several values of a run.
    """
    try:
        name = names.find(text, "in it")
    except UserError as error:
        raise UserError(f"{flag} {text}: {str(error).replace(' in it', '', 1)}") from error
    if name.kind == "set":
        raise UserError(f"{flag} {text}: a run may have several tags; give a setting, a figure or a column")
    return name


def _one_of(sql: str, values: Sequence[str]) -> Condition:
    return Condition(f"{sql} IN ({', '.join('?' * len(values))})", tuple(values))
