"""The store of a root, with an index that was just brought up to date, as every sub-command opens it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import UserError, printable

if TYPE_CHECKING:
    from training.experiments.store.index import ExperimentStore


@contextlib.contextmanager
def opened_store(root: Path) -> Iterator[ExperimentStore]:
    """Give a block the store of a root. What the disk refuses to read is named on stderr.

    Raises:
        UserError: there is no run below it.
    """
    from training.experiments.store.index import ExperimentStore
    from training.experiments.store.query import Query

    with ExperimentStore(root) as store:
        for line in store.refresh().unreadable:
            print(f"experiments: {printable(line)}", file=sys.stderr)
        if store.count(Query(archived=None)) == 0:
            raise UserError(f"no run below {root}; give --root the directory above your run directories")
        yield store
