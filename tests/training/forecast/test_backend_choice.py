"""`--backend auto`: which layout is chosen on described machines and why, what never changes, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.backends.test_backend_contract import ECHO, bring
from training.backends.prepare import Choice, choose, prepare
from training.backends.protocol import Availability
from training.errors import ConfigError
from training.forecast import backend_choice
from training.forecast.backend_choice import MARGIN, Decision, Verdict, choose_here, decide
from training.forecast.choice_table import WIDTH, columns, folded, shown, table_lines
from training.language.messages import choose_language
from training.machine.description import Gpu, Machine
from training.settings.layers import Layer
from training.settings.registry import Entry
from training.settings.tree import RunConfig

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset

ROOT = Path(__file__).resolve().parents[3]
GB = 10**9
MISSING = Availability(False, "deepspeed is not installed", "pip install -e '.[deepspeed]' -c constraints.txt")
SMALL = {"model.d_model": 256, "model.num_layers": 6, "model.num_heads": 8, "model.d_ff": 1024}
MEDIUM = {"model.d_model": 1024, "model.num_layers": 24, "model.num_heads": 16, "model.d_ff": 4096}
LARGE = {"model.d_model": 2048, "model.num_layers": 24, "model.num_heads": 16, "model.d_ff": 8192}
HUGE = {"model.d_model": 4096, "model.num_layers": 32, "model.num_heads": 32, "model.d_ff": 11008}
MODELS = {"6 M": SMALL, "400 M": MEDIUM, "1.6 B": LARGE, "6.5 B": HUGE}
"""Numbers of parameters, rounded -> settings of the network."""


def machine(gpus: int, gigabytes: float | None, host: float | None = 256.0) -> Machine:
    """A machine with some GPUs of one kind."""
    size = None if gigabytes is None else int(gigabytes * GB)
    name = "unknown device" if gigabytes is None else f"NVIDIA with {gigabytes:g} GB"
    return Machine(32, None if host is None else int(host * GB), (Gpu(name, size),) * gpus)


def decided(
    where: Machine,
    values: Mapping[str, Any],
    available: Mapping[str, Availability] | None = None,
    config_file: Path | None = None,
) -> Decision:
    """The decision for settings of any backend, given over a config file."""

    def find(name: str) -> Choice:
        return choose(backend=name, config_file=config_file)

    def read(choice: Choice) -> tuple[list[Layer], list[Layer]]:
        return [Layer("test", values)], []

    return decide(find, read, where, available or {})


class Case(NamedTuple):
    """One row of the table in docs/CHOOSING.md."""

    gpus: int
    gigabytes: int | None
    """Free on each GPU; None: not known."""
    host: int
    model: str
    expected: str
    """Flags of the choice, or how the refusal begins."""
    has_deepspeed: bool = True

    def decision(self) -> Decision:
        """The decision on this machine, with bf16 and 512 samples per update."""
        return decided(
            machine(self.gpus, self.gigabytes, self.host),
            {**MODELS[self.model], "run.precision": "bf16", "run.global_batch_size": 512},
            {} if self.has_deepspeed else {"deepspeed": MISSING},
        )

    def row(self, decision: Decision) -> str:
        """The row in Markdown, from the decision."""
        gpus = f"{self.gpus} × {self.gigabytes or '?'} GB" if self.gpus else "0"
        where = f"| {gpus} | {self.host} GB | {'✓' if self.has_deepspeed else '–'} | {self.model} "
        chosen = decision.chosen
        if chosen is None or chosen.need is None:
            return f"{where}| `exit code 2` | – | – |"
        return f"{where}| `{chosen.flags}` | {chosen.need.peak / GB:.1f} GB | {chosen.speed:.2f} |"


ONE, ALL_4, ALL_8 = "--backend playground", "--backend playground --num-gpus 4", "--backend playground --num-gpus 8"
NOTHING = "--backend auto: nothing fits here; the nearest is --backend "
CASES = (
    Case(0, 0, 16, "6 M", ONE),
    Case(0, 0, 16, "1.6 B", f"{NOTHING}playground --batch-size 1: each rank needs 31.1 GB and may use 14.1 GB"),
    Case(1, 8, 32, "6 M", ONE),
    Case(1, 8, 32, "400 M", "--backend deepspeed --cpu-offload"),
    Case(1, 8, 32, "1.6 B", f"{NOTHING}deepspeed --cpu-offload --batch-size 1: each rank needs"),
    Case(1, 24, 64, "1.6 B", "--backend deepspeed --cpu-offload"),
    Case(1, 80, 128, "1.6 B", ONE),
    Case(4, 8, 64, "400 M", "--backend deepspeed --num-gpus 4"),
    Case(4, 24, 128, "6 M", ALL_4),
    Case(4, 24, 128, "1.6 B", "--backend deepspeed --num-gpus 4"),
    Case(4, 24, 128, "1.6 B", f"{NOTHING}playground --batch-size 1: each rank needs", has_deepspeed=False),
    Case(8, 24, 256, "6.5 B", f"{NOTHING}deepspeed --num-gpus 8 --zero-stage 3 --cpu-offload --param-offload"),
    Case(8, 80, 512, "6 M", ALL_8),
    Case(8, 80, 512, "1.6 B", ALL_8),
    Case(8, 80, 512, "6.5 B", "--backend deepspeed --num-gpus 8"),
    Case(8, None, 512, "1.6 B", ALL_8),
)
IDS = [f"{case.gpus}x{case.gigabytes}-{case.model}{'' if case.has_deepspeed else '-alone'}" for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_on_a_described_machine(case: Case) -> None:
    decision = case.decision()
    found = decision.chosen.flags if decision.chosen is not None else str(decision.refusal)
    assert found.startswith(case.expected)
    if decision.chosen is not None:
        assert decision.prepared.plan is None or decision.prepared.plan.processes == case.gpus
        if decision.chosen.verdict is Verdict.FITS and case.gpus:
            assert decision.chosen.need is not None
            assert decision.chosen.need.peak <= (1.0 - MARGIN) * (case.gigabytes or 0) * GB
        fitting = [candidate for candidate in decision.candidates if candidate.verdict is decision.chosen.verdict]
        assert round(decision.chosen.speed, 2) == max(round(candidate.speed, 2) for candidate in fitting)
    for page in ("docs/CHOOSING.md", "docs/zh-CN/CHOOSING.md"):
        assert case.row(decision) in (ROOT / page).read_text(encoding="utf-8").splitlines(), case.row(decision)


# -- what is chosen, and why ---------------------------------------------------------------------------------------


def test_memory_that_is_not_known_is_neither_none_nor_enough() -> None:
    unknown = decided(machine(4, None), SMALL)
    assert unknown.chosen is not None
    local = [candidate for candidate in unknown.candidates if candidate.placement is not None]
    assert {candidate.verdict for candidate in local} == {Verdict.UNKNOWN}
    assert "memory could not be compared" in list(table_lines(unknown))[-1]
    one_known = Machine(32, 256 * GB, (Gpu("NVIDIA", 80 * GB), Gpu("NVIDIA", None)))
    verdicts = {c.placement.ranks: c.verdict for c in decided(one_known, SMALL).candidates if c.placement is not None}
    assert verdicts == {1: Verdict.FITS, 2: Verdict.UNKNOWN}


def test_gpus_that_are_not_counted_are_used_by_one_process_and_not_taken_for_a_processor() -> None:
    amd = Machine(32, 256 * GB, (Gpu(),), counts_gpus=False)
    decision = decided(amd, SMALL)
    assert decision.chosen is not None
    assert decision.chosen.device == "cuda"
    assert decision.chosen.layout == {}
    assert "GPUs that the driver neither counts nor measures" in list(table_lines(decision))[1]
    given = decided(amd, {**SMALL, "launch.num_gpus": 4})
    assert given.prepared.request.config.launch.num_gpus == 4, "the user knows how many there are"


def test_smaller_micro_batches_are_chosen_only_where_nobody_gave_them() -> None:
    where, wide = machine(1, 10, host=8), {**MEDIUM, "run.global_batch_size": 256}
    chosen = decided(where, wide).chosen
    assert chosen is not None
    assert chosen.layout["run.batch_size"] < 32
    assert chosen.prepared is not None
    assert chosen.prepared.request.config.run.samples_per_update == 256
    refused = decided(where, {**wide, "run.batch_size": 256})
    assert refused.chosen is None
    assert re.search(
        r"nearest is .*: each rank needs .* and may use 8.8[0-9]* GB, .* too little; ", str(refused.refusal)
    )
    assert "--batch-size" in str(refused.refusal), "it names what the user could give instead"


def test_a_layout_that_the_user_gave_is_kept() -> None:
    where = machine(8, 80)
    for key, value in {"launch.num_gpus": 2, "launch.num_processes": 4}.items():
        decision = decided(where, {**SMALL, key: value})
        ranks = {candidate.placement.ranks for candidate in decision.candidates if candidate.placement is not None}
        assert ranks == {value}
        assert getattr(decision.prepared.request.config.launch, key.removeprefix("launch.")) == value
    refused = decided(where, {**SMALL, "launch.num_gpus": 16})
    assert "it needs 16 GPUs, and there are 8 here" in str(refused.refusal)


def test_batch_sizes_that_need_a_number_of_ranks_decide_it() -> None:
    sizes = {"run.global_batch_size": 256, "run.batch_size": 16, "run.gradient_accumulation_steps": 4}
    chosen = decided(machine(4, 80), {**SMALL, **sizes}).chosen
    assert chosen is not None
    assert chosen.placement is not None
    assert chosen.placement.ranks == 4
    with pytest.raises(ConfigError, match="global_batch_size=256 is not batch_size=16"):
        decided(machine(1, 80), {**SMALL, **sizes})


def test_features_that_a_backend_lacks_rule_it_out_with_its_own_reason() -> None:
    decision = decided(machine(4, 80), {**SMALL, "optimizer.optimizer": "muon"})
    reasons = {candidate.backend: candidate.reason for candidate in decision.candidates}
    assert "ZeRO cuts the weights into flat slices" in reasons["deepspeed"]
    assert decision.prepared.request.config.backend == "playground"
    averaged = decided(machine(8, 24), {**HUGE, "optimizer.ema_decay": 0.999, "run.precision": "bf16"})
    stages = {c.placement.zero_stage for c in averaged.candidates if c.placement is not None}
    assert 3 not in stages, "ZeRO 3 spreads the weights, of which an average needs all"


def test_fp16_is_no_arithmetic_of_a_processor() -> None:
    refused = decided(machine(0, 0), {**SMALL, "run.precision": "fp16"})
    assert "precision=fp16 needs a GPU" in str(refused.refusal)


def test_a_plug_in_takes_part_and_a_broken_one_hides_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    bring(monkeypatch, broken=Entry("no_such_module:Backend", "from package broken-plug-in"), echo=ECHO)
    decision = decided(machine(2, 24), SMALL)
    by_name = {candidate.backend: candidate for candidate in decision.candidates}
    assert (by_name["echo"].verdict, by_name["broken"].verdict) == (Verdict.CANNOT, Verdict.CANNOT)
    assert "no_such_module" in by_name["broken"].reason
    alone = [c for c in decision.candidates if c.backend == "echo" and c.verdict is Verdict.FITS]
    assert [c.placement.ranks for c in alone if c.placement is not None] == [1]


def test_a_backend_that_trains_elsewhere_is_never_chosen() -> None:
    decision = decided(machine(0, 0, host=0.1), MEDIUM)
    assert decision.chosen is None
    azure = next(candidate for candidate in decision.candidates if candidate.backend == "azure")
    assert azure.verdict is Verdict.ELSEWHERE
    assert "azure" not in str(decision.refusal)


# -- what never changes --------------------------------------------------------------------------------------------


@given(
    sizes=st.fixed_dictionaries(
        {},
        optional={
            "batch_size": st.integers(1, 512),
            "gradient_accumulation_steps": st.integers(1, 8),
            "global_batch_size": st.integers(1, 2048),
        },
    ),
    gpus=st.sampled_from([0, 1, 4, 8]),
    gigabytes=st.sampled_from([1, 8, 80]),
)
@settings(max_examples=12)
def test_no_candidate_has_another_curve(sizes: dict[str, int], gpus: int, gigabytes: float) -> None:
    values = {"model.d_model": 512, "model.num_layers": 2, **{f"run.{name}": size for name, size in sizes.items()}}
    try:
        decision = decided(machine(gpus, gigabytes), values)
    except ConfigError as error:
        refusal = str(error)
        with pytest.raises(ConfigError, match=re.escape(refusal)):  # so is whoever names a backend
            prepare(choose(backend="playground"), [Layer("test", values)])
        return
    asked = RunConfig(**{"batch_size": 32, **sizes}).samples_per_update
    runs = [candidate.prepared.request.config for candidate in decision.candidates if candidate.prepared is not None]
    assert {config.run.samples_per_update for config in runs} <= {asked}
    assert len({config.curve_hash() for config in runs}) <= 1
    for config in runs:
        assert all(getattr(config.run, name) == size for name, size in sizes.items()), "and no setting of the user's"


# -- the table -----------------------------------------------------------------------------------------------------


@pytest.fixture
def _english() -> Iterator[None]:
    yield
    choose_language(None)


@pytest.mark.usefixtures("_english")
@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_the_table_fits_a_terminal_in_every_language(language: Any) -> None:
    choose_language(language)
    where = machine(8, 24)
    for decision in (decided(where, LARGE, {"deepspeed": MISSING}), decided(where, LARGE)):
        lines = [line for text in table_lines(decision) for line in shown(text)]
        assert max(map(columns, lines)) <= WIDTH
        assert any(line.startswith("[1] ") for line in lines)
    names = ("backend ", "后端 ", "playground ", "deepspeed ", "huggingface ", "azure ")
    rows = [line for line in lines if line.startswith(names)]
    assert len(rows) > 5
    assert {columns(row.rpartition("  ")[0]) for row in rows} == {57}, "the columns stand below each other"


def test_folding_keeps_every_word_and_indents_what_follows() -> None:
    text = "one two " * 30 + "/a/path/without/a/space/" + "x" * 90
    lines = folded(text)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert all(line.startswith("    ") for line in lines[1:])
    chinese = folded("这是一行很长的中文，" * 12)
    assert max(map(columns, chinese)) <= WIDTH
    assert not any(line.strip().startswith("，") for line in chinese)


# -- the front door ------------------------------------------------------------------------------------------------


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`on(machine(4, 24))`: the front door finds itself on a described machine."""

    def stand(where: Machine) -> None:
        monkeypatch.setattr(backend_choice, "this_machine", lambda: where)

    return stand


def plan_of(shown_text: str) -> tuple[dict[str, Any], list[str]]:
    """The resolved settings of a dry run, and its comments."""
    return yaml.safe_load(shown_text), [line for line in shown_text.splitlines() if line.startswith("# ")]


def test_a_dry_run_shows_the_table_and_the_plan(front_door: FrontDoor, on: Any) -> None:
    on(machine(4, 24))
    shown_run = front_door(["--backend", "auto", "--dry-run"])
    assert (shown_run.exit_code, shown_run.stderr) == (0, "")
    config, comments = plan_of(shown_run.stdout)
    assert (config["backend"], config["run"]["run_dir"]) == ("playground", "auto_output")
    assert comments[0] == "# choice of a backend and a layout for this run (--backend auto)"
    assert "NVIDIA with 24 GB" in comments[1]
    assert max(map(len, comments[: next(n for n, line in enumerate(comments) if "computed from" in line)])) <= 80
    assert any(line.startswith("# chosen: --backend playground") for line in comments)
    assert any(line.startswith("# [1] it trains elsewhere, which may cost money") for line in comments)


def test_explain_says_that_auto_chose(front_door: FrontDoor, on: Any, tmp_path: Path) -> None:
    on(machine(8, 24))
    path = tmp_path / "auto.yaml"
    path.write_text(yaml.safe_dump({"backend": "auto", **{k.partition(".")[2]: v for k, v in LARGE.items()}}))
    for key, value in {"backend": "deepspeed", "num_gpus": 8}.items():
        told = front_door(["--config", path, "--precision", "bf16", "--explain", key]).stdout.splitlines()
        assert told[0].endswith(f"{key} = {value}")
        assert told[2] == "  set by   --backend auto"
    assert (
        "set by   --precision" in front_door(["--config", path, "--precision", "bf16", "--explain", "precision"]).stdout
    )


def test_a_flag_of_one_backend_leaves_that_backend_alone(front_door: FrontDoor, on: Any) -> None:
    on(machine(4, 24))
    shown_run = front_door(["--backend", "auto", "--zero-stage", "3", "--dry-run"])
    config, comments = plan_of(shown_run.stdout)
    assert (config["backend"], config["deepspeed"]["zero_stage"]) == ("deepspeed", 3)
    assert any("--zero-stage belongs to --backend deepspeed" in line for line in comments)
    assert (
        plan_of(front_door(["--backend", "auto", "--compile", "--dry-run"]).stdout)[0]["playground"]["compile"] is True
    )


def test_the_sections_of_a_file_name_the_backends_that_it_was_written_for(
    front_door: FrontDoor, on: Any, tmp_path: Path
) -> None:
    on(machine(1, 24))
    path = tmp_path / "mine.yaml"
    path.write_text("backend: auto\ndeepspeed: {zero_stage: 3}\n")
    config, comments = plan_of(front_door(["--config", path, "--dry-run"]).stdout)
    assert (config["backend"], config["deepspeed"]["zero_stage"]) == ("deepspeed", 3)
    assert any("has a section deepspeed, and none playground" in line for line in comments)


def test_the_help_is_that_of_any_backend(front_door: FrontDoor) -> None:
    assert front_door(["--backend", "auto", "--help"]) == front_door(["--help"])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["--zero-stage", "2", "--compile"],
            r"no backend has all of these settings \(playground: --zero-stage belongs",
        ),
        (["--learning-rate", "abc"], r"^error: learning_rate = 'abc' \(from --learning-rate\): should be a number"),
        (["--zero-stagee", "2"], r"^error: unknown flag --zero-stagee"),
        (["--batch-size", "0"], r"^error: batch_size = '0' \(from --batch-size\): "),
        (["--nnodes", "2", "--rdzv-endpoint", "a:1"], r"--backend auto looks at one machine, and nnodes=2"),
        (
            ["--device", "cuda"],
            r"no backend can make this run here; the nearest is --backend playground: it needs a GPU",
        ),
        (["--inner-backend", "deepspeed"], r"--inner-backend deepspeed: --backend playground trains by itself"),
        (["--sweep", "learning_rate=1e-4|1e-3"], r"--sweep and --backend auto do not go together"),
        (["--resume", "no_such_run"], r"--resume no_such_run: no such checkpoint or run"),
        (["--d-model", "8192", "--num-layers", "400"], r"nothing fits here; the nearest is .* TB too little; "),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], reason: str, front_door: FrontDoor, on: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    on(machine(0, 0, host=16))
    refused = front_door(["--backend", "auto", *words])
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert re.search(reason, refused.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_command_where_only_its_backend_has_the_settings(
    front_door: FrontDoor, on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(machine(4, 24))
    monkeypatch.setattr(backend_choice, "available_here", lambda: {"deepspeed": MISSING})
    refused = front_door(["--backend", "auto", "--zero-stage", "2"])
    assert refused.exit_code == 2
    assert "nearest is --backend deepspeed: deepspeed is not installed; run: pip install" in refused.stderr
    assert "cannot [" in refused.stdout


def test_ranks_of_a_launcher_do_not_choose(front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500}
    for name, value in identity.items():
        monkeypatch.setenv(name, str(value))
    refused = front_door(["--backend", "auto", "--dry-run"])
    assert "--backend auto plans the processes itself, and a launcher started this one" in refused.stderr


def test_elsewhere_a_backend_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--backend auto: train.py chooses one for this machine"):
        choose(backend="auto")


# -- a real run, and how it goes on --------------------------------------------------------------------------------


def test_a_run_of_auto_says_in_its_config_what_was_chosen_and_goes_on_with_it(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    words: list[str | Path] = ["--backend", "auto", *tiny_flags, "--datasets", tiny_dataset(), "--run-dir"]
    words += [tmp_path / "run", "--save-interval", "1"]
    done = front_door([*words, "--epochs", "1"])
    assert done.exit_code == 0, done
    assert "chosen: --backend playground: " in done.stdout
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert saved["backend"] == "playground"
    whole = front_door([*words[:-3], tmp_path / "whole", *words[-2:], "--epochs", "2"])
    assert whole.exit_code == 0, whole
    gone_on = front_door([*words, "--epochs", "2", "--resume"])
    assert gone_on.exit_code == 0, gone_on
    assert "backend playground, kept from the run in" in gone_on.stdout
    weights = [(tmp_path / name / "final_model" / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert weights[0] == weights[1], "bit for bit"


def test_a_run_that_goes_on_keeps_the_layout_that_was_chosen_on_another_machine(
    front_door: FrontDoor, on: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--backend", "auto", "--precision", "bf16", "--dry-run"]
    for key, value in LARGE.items():
        words += [f"--{key.partition('.')[2].replace('_', '-')}", str(value)]
    on(machine(8, 24))
    first, _ = plan_of(front_door(words).stdout)
    assert first["backend"] == "deepspeed"
    run = tmp_path / "auto_output"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(first), encoding="utf-8")
    on(machine(1, 80))
    for resume in (["--resume"], ["--resume", "auto_output"]):
        kept, comments = plan_of(front_door([*words, *resume]).stdout)
        assert comments[0].startswith("# backend deepspeed, kept from the run in auto_output: ")
        assert [kept[part] for part in ("launch", "deepspeed", "run")] == [
            first[part] for part in ("launch", "deepspeed", "run")
        ]
    fewer, _ = plan_of(front_door([*words, "--resume", "--num-gpus", "1"]).stdout)
    assert fewer["launch"]["num_gpus"] == 1, "what the user says now wins"
    first["backend"] = "azure"
    (run / "config.yaml").write_text(yaml.safe_dump(first), encoding="utf-8")
    refused = front_door([*words, "--resume"])
    assert refused.exit_code == 2
    assert "was trained by --backend azure, which is never chosen by itself" in refused.stderr


def test_python_chooses_too() -> None:
    decision = choose_here([Layer("mine", {"run.epochs": 3})], machine=machine(1, 24))
    assert decision.prepared.request.config.run.epochs == 3
    assert decision.prepared.request.config.backend == "playground"
