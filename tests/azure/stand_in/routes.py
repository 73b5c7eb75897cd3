"""Which function answers which path."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.azure.stand_in.exchange import Reply, Request

Answer = Callable[..., Reply]
WORKSPACE = (
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<workspace>[^/]+)"
)


class Routes:
    """A table of `METHOD pattern -> answer(world, request, **groups)`; paths are the same in any case, as in Azure."""

    def __init__(self) -> None:
        self._table: list[tuple[str, re.Pattern[str], Answer]] = []

    def on(self, method: str, pattern: str) -> Callable[[Answer], Answer]:
        """A decorator; `method` may name several, as `GET|POST`."""

        def keep(answer: Answer) -> Answer:
            self._table.append((method, re.compile(pattern, re.IGNORECASE), answer))
            return answer

        return keep

    def find(self, request: Request) -> tuple[Answer, dict[str, Any]] | None:
        """The answer of a request with what the pattern's groups hold; None: nobody's."""
        for method, pattern, answer in self._table:
            found = pattern.fullmatch(request.path) if re.fullmatch(method, request.method) else None
            if found:
                return answer, found.groupdict()
        return None
