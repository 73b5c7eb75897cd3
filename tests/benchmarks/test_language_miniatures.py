"""The benchmarks of language models run in their miniature mode; a file of its own, so that another worker runs it."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from benchmarks import gpu_diffusion, gpu_language
from tests.benchmarks.language_lines import LANGUAGE_LINES
from tests.benchmarks.test_miniatures import check_miniature


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGE_LINES)
def test_a_language_benchmark_s_figures_come_out(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = check_miniature(name, LANGUAGE_LINES[name], capsys)
    if name == "real_model":
        assert re.search(
            r"^resumed: adapter (\w+), of the run that was not killed \1: the same, bit", shown, re.MULTILINE
        )
    if name == "chat_against_trl":
        differences = re.findall(r"^first loss, .* difference (\S+)$", shown, re.MULTILINE)
        assert len(differences) == 2
        assert all(float(difference) <= 1e-5 for difference in differences)


@pytest.mark.parametrize("benchmark", [gpu_language, gpu_diffusion])
def test_the_gpu_s_benchmarks_are_refused_in_one_line_where_there_is_none(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        benchmark.main([])
    assert ended.value.code == 2
    shown = capsys.readouterr()
    name = benchmark.__name__.rpartition(".")[2]
    assert shown.err == f"{name}: no NVIDIA GPU here; --miniature shows on a CPU that it runs\n"
    assert not shown.out


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("NVIDIA H200", 989e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA A10", 125e12), ("NVIDIA L40S", 362e12), ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165e12), ("Tesla T4", None), ("CPU", None),
    ],
)  # fmt: skip
def test_the_data_sheet_knows_a_gpu_by_its_whole_name(name: str, figure: float | None) -> None:
    assert gpu_language.data_sheet_figure(name) == figure
