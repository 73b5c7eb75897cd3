"""The benchmarks of diffusion run in their miniature mode; a file of its own, so that another worker runs it."""

from __future__ import annotations

import pytest

from benchmarks import diffusion_vectors
from tests.benchmarks.diffusion_lines import DIFFUSION_LINES
from tests.benchmarks.test_miniatures import check_miniature


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFUSION_LINES)
def test_a_diffusion_benchmark_s_figures_come_out(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_miniature(name, DIFFUSION_LINES[name], capsys)


def test_the_published_network_has_the_size_that_its_settings_give() -> None:
    network = diffusion_vectors.PublishedNetwork()
    assert sum(p.numel() for p in network.parameters()) == 296_450
