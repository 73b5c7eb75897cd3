"""How a config becomes a run: the class of the config, what is chosen, the layers, and the run that is planned."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import training
from training.backends.prepare import (
    PreparedRun,
    choose,
    config_class,
    config_class_of,
    layers_of,
    prepare,
    prepare_config,
)
from training.backends.registry import BACKENDS
from training.errors import ConfigError
from training.models.apt.family import APTFamily
from training.models.apt.options import APTOptions
from training.settings.declarations import leaf_names
from training.settings.layers import FLAGS, Layer, resolve
from training.settings.tree import BATCH_SIZES, ModelOptions, RunConfig, TaskOptions, TrainingConfig
from training.settings.yaml_files import flatten
from training.tasks.hlbd.options import HLBDOptions

if TYPE_CHECKING:
    from tests.conftest import FrontDoor

PLAYGROUND = BACKENDS.load("playground")
DEEPSPEED = BACKENDS.load("deepspeed")
AZURE = BACKENDS.load("azure")
THEIRS = '''
from pydantic import Field
from training.settings.section import Section
from training.settings.tree import ModelOptions, TaskOptions

class NoiseOptions(TaskOptions):
    """How the noise is made."""

    loudness: float = Field(0.5, description="Standard deviation of the noise.")

class Noise:
    name = "noise"
    Options = NoiseOptions
    inputs = "tokens"
    metrics = ()
    prepare = conclude = None

class LinearOptions(ModelOptions):
    """The network: one matrix."""

    width: int = Field(8, ge=1, description="Columns of the matrix.")

class Linear:
    name = "linear"
    Options = LinearOptions
    inputs = "tokens"
    build = save = load = parameter_groups = memory = None

class Plain(Noise):
    class Options(Section):
        """No task's options."""

class Rows(Noise):
    inputs = "vectors"

class Clashing(Noise):
    class Options(TaskOptions):
        """Two settings of one name."""

        epochs: int = Field(3, description="Also a setting of the run.")
'''


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a task and a model family of the user's own in `theirs.py`."""
    (tmp_path / "theirs.py").write_text(THEIRS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    return tmp_path


# -- the class of the config ---------------------------------------------------------------------------------------


def test_a_config_has_the_settings_of_task_family_and_backends() -> None:
    tree = config_class(AZURE, DEEPSPEED)
    assert tree.__name__ == "TrainingConfig"
    assert issubclass(tree, TrainingConfig)
    config = tree()
    assert isinstance(config.data, HLBDOptions)
    assert isinstance(config.model, APTOptions)
    sections = {name: type(section) for name, section in config if name in ("azure", "deepspeed")}
    assert sections == {"azure": AZURE.Options, "deepspeed": DEEPSPEED.Options}
    assert (config.task, config.model.model) == ("hlbd", "apt")


def test_a_class_is_made_once() -> None:
    assert config_class(PLAYGROUND) is config_class(PLAYGROUND, task="hlbd", model="apt")
    assert config_class(PLAYGROUND) is not config_class(DEEPSPEED)


def test_a_task_and_a_family_of_the_users_own_bring_their_settings(theirs: Path) -> None:
    tree = config_class(PLAYGROUND, task="theirs:Noise", model="theirs:Linear")
    names = leaf_names(tree)
    assert names["loudness"] == "data.loudness"
    assert names["width"] == "model.width"
    assert {"datasets", "d_model"}.isdisjoint(names)
    assert names["validation_split"] == "data.validation_split", "every task has it"
    config = tree.from_dict({"data": {"loudness": 2}, "model": {"width": 3}})
    assert (config.task, config.model.model) == ("theirs:Noise", "theirs:Linear")
    assert (config.data.loudness, config.model.width) == (2.0, 3)
    assert tree.from_dict(config.to_dict()) == config, "a worker reads the same run from its file"
    assert config.curve_hash() != config_class()().curve_hash()


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("theirs:Plain", "--task theirs:Plain: its Options are not a subclass of training.settings.tree.TaskOptions"),
        ("theirs:Clashing", "--task theirs:Clashing: its option 'epochs' has the name of a setting of section 'run'"),
        ("theirs:Linear", "--task theirs:Linear: theirs:Linear is not a task (it has no 'metrics')"),
        ("theirs:Rows", "--task theirs:Rows gives vectors, --model apt takes tokens; choose a model family that takes"),
    ],
)
def test_options_that_cannot_be_used_are_refused(task: str, reason: str, theirs: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        config_class(task=task)
    assert reason in str(refused.value)


def test_options_of_two_backends_with_one_name_are_refused() -> None:
    told = "--backend deepspeed: its option 'device' has the name of a setting of --backend playground"
    with pytest.raises(ConfigError, match=told):
        config_class(PLAYGROUND, DEEPSPEED)


def test_a_saved_config_says_which_class_it_is_of(theirs: Path) -> None:
    tree = config_class(DEEPSPEED, task="theirs:Noise")
    saved = yaml.safe_load(tree.from_dict({"backend": "deepspeed", "data": {"loudness": 3}}).to_yaml())
    assert config_class_of(saved) is tree
    assert config_class_of({"run": {"epochs": 3}}) is config_class(PLAYGROUND)


def test_the_public_names_are_imported_when_they_are_used() -> None:
    program = (
        "import sys, training; before = set(sys.modules); training.TrainingConfig()\n"
        "print({'pydantic', 'yaml', 'torch'} & before, {'pydantic', 'yaml', 'torch'} & set(sys.modules) == "
        "{'pydantic', 'yaml'}, hasattr(training, 'no_such_name'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set() True False\n", "")
    assert training.TrainingConfig is training.config_class() is config_class()
    assert training.Trainer.__module__ == "training.loop.trainer"


# -- what is chosen ------------------------------------------------------------------------------------------------


def chosen(choice: Any) -> tuple[str, str, str]:
    return choice.backend.name, choice.task, choice.model


def test_without_a_word_it_is_apt_on_hlbd_in_this_process() -> None:
    assert chosen(choose()) == ("playground", "hlbd", "apt")


@pytest.mark.parametrize(
    "text",
    [
        "backend: deepspeed\ntask: theirs:Noise\nmodel: theirs:Linear\n",
        "backend: deepspeed\ntask: theirs:Noise\nmodel: {model: theirs:Linear, width: 3}\n",
        "backend: deepspeed\ntask: theirs:Noise\nmodel.model: theirs:Linear\nwidth: 3\n",
    ],
    ids=["names", "in the section", "dotted"],
)
def test_a_config_file_chooses_and_a_flag_comes_before_it(text: str, theirs: Path) -> None:
    file = theirs / "c.yaml"
    file.write_text(text, encoding="utf-8")
    assert chosen(choose(config_file=file)) == ("deepspeed", "theirs:Noise", "theirs:Linear")
    flagged = choose(backend="huggingface", task="hlbd", model="apt", config_file=file)
    assert chosen(flagged) == ("huggingface", "hlbd", "apt")


def test_a_resumed_run_chooses_task_and_family_but_no_backend(theirs: Path) -> None:
    run = theirs / "run"
    run.mkdir()
    tree = config_class(DEEPSPEED, task="theirs:Noise", model="theirs:Linear")
    tree.from_dict({"backend": "deepspeed", "data": {"loudness": 3}}).to_yaml(run / "config.yaml")
    choice = choose(resume=str(run))
    assert chosen(choice) == ("playground", "theirs:Noise", "theirs:Linear")
    assert prepare(choice).request.config.data.loudness == 3.0
    with pytest.raises(ConfigError, match="the run was trained with --task theirs:Noise, not hlbd; leave --task out"):
        prepare(choose(resume=str(run), task="hlbd"))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"backend": "deepsped"}, "--backend deepsped: unknown backend; .*did you mean 'deepspeed'"),
        ({"backend": ""}, "--backend : unknown backend"),
        ({"task": "hlbdd"}, "--task hlbdd: unknown task; choose from hlbd, chat, text, diffusion; did you mean 'hlbd'"),
        ({"task": ""}, "--task : unknown task"),
        ({"model": "atp"}, "--model atp: unknown model family; choose from apt"),
        ({"inner_backend": "deepspeed"}, "--inner-backend deepspeed: --backend playground trains by itself"),
        ({"backend": "azure", "inner_backend": "azure"}, "--inner-backend azure: it trains nothing itself"),
    ],
)
def test_a_name_that_nothing_has_is_refused(names: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        _ = choose(**names).config_class  # type: ignore[arg-type]


def test_the_section_of_the_backend_inside_is_there_too() -> None:
    choice = choose(backend="azure", inner_backend="deepspeed")
    assert {"azure", "deepspeed"} <= set(choice.config_class.model_fields)
    preset = choice.preset()
    assert preset is not None
    assert preset.name == "preset deepspeed"


# -- layers --------------------------------------------------------------------------------------------------------


def test_layers_are_a_list_from_the_preset_to_the_flags(tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "c.yaml"
    run.mkdir()
    (run / "config.yaml").write_text("run: {epochs: 7}\nbackend: deepspeed\nvocab_size: 40\n", encoding="utf-8")
    file.write_text("epochs: 8\n", encoding="utf-8")
    choice = choose(config_file=file, resume=str(run))
    layers = layers_of(choice, [Layer(FLAGS, {"run.epochs": 9})], defaults=[Layer("--early-stopping")])
    names = ["preset playground", "--early-stopping", f"the resumed run ({run})", str(file), FLAGS]
    assert [layer.name for layer in layers] == [*names, "the chosen backend"]
    assert layers[2].settings == {"run.epochs": 7, "run.run_dir": run, "model.vocab_size": 40}, "not its backend"


def test_the_chosen_backend_is_in_the_config_and_known_by_who_chose_it(tmp_path: Path) -> None:
    flagged = prepare(choose(backend="deepspeed"), [Layer(FLAGS, {"backend": "deepspeed"})]).request
    assert (flagged.config.backend, flagged.origins["backend"]) == ("deepspeed", "--backend")
    file = tmp_path / "c.yaml"
    file.write_text("backend: deepspeed\n", encoding="utf-8")
    from_file = prepare(choose(config_file=file)).request
    assert (from_file.config.backend, from_file.origins["backend"]) == ("deepspeed", str(file))
    from_script = prepare(choose(backend="huggingface", config_file=file)).request
    assert (from_script.config.backend, from_script.origins["backend"]) == ("huggingface", "the chosen backend")


# -- batch sizes ---------------------------------------------------------------------------------------------------

OF_THE_DOCUMENT = ["--train-batch-size", "256", "--gradient-accumulation", "4"]
BACKENDS_OF_OURS = ["playground", "deepspeed", "huggingface", "azure"]


def explained(front_door: FrontDoor, word: str, *args: str | Path) -> tuple[str, str]:
    """Return a setting's value and who set it, as `--explain` says."""
    told = front_door([*args, "--dry-run", "--explain", word])
    assert told.exit_code == 0, told.stderr
    found = re.search(r" = (.*)\n(?:.*\n)*  set by   (.*)\n", told.stdout)
    assert found, told.stdout
    return found[1], found[2]


@pytest.mark.parametrize("backend", BACKENDS_OF_OURS)
def test_a_batch_size_that_nobody_gave_gives_way(backend: str, front_door: FrontDoor) -> None:
    flags = ["--backend", backend, *OF_THE_DOCUMENT, "--num-gpus", "4"]
    source = "global_batch_size=256 and gradient_accumulation_steps=4 on 4 ranks"
    assert explained(front_door, "batch_size", *flags) == ("16", source)
    assert explained(front_door, "global_batch_size", *flags) == ("256", "--global-batch-size")
    refused = front_door([*flags, "--batch-size", "8", "--dry-run"])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: global_batch_size=256 is not batch_size=8 × gradient_accumulation_steps=4")
    uneven = front_door(["--backend", backend, *OF_THE_DOCUMENT, "--num-gpus", "3", "--dry-run"])
    assert (uneven.exit_code, uneven.stderr.count("\n")) == (2, 1), "85⅓ samples are no batch"


def test_in_a_worker_the_launcher_says_how_many_ranks_there_are(
    front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    flags = ["--backend", "deepspeed", "--zero-stage", "3", "--cpu-offload", *OF_THE_DOCUMENT]
    assert explained(front_door, "batch_size", *flags)[0] == "16"


def test_a_file_that_the_user_named_is_explicit(front_door: FrontDoor, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("batch_size: 8\n", encoding="utf-8")
    refused = front_door([*OF_THE_DOCUMENT, "--num-processes", "4", "--config", file, "--dry-run"])
    assert "batch_size=8" in refused.stderr


@pytest.mark.parametrize(("ranks", "micro", "steps"), [(2, "16", "None"), (4, "16", "4"), (8, "16", "None")])
def test_a_resumed_run_keeps_its_global_batch_on_another_number_of_ranks(
    ranks: int, micro: str, steps: str, front_door: FrontDoor, tmp_path: Path
) -> None:
    settings = "run: {global_batch_size: 256, batch_size: 16, gradient_accumulation_steps: 4}\n"
    (tmp_path / "config.yaml").write_text(settings, encoding="utf-8")
    flags: list[str | Path] = ["--load-checkpoint", tmp_path, "--num-processes", str(ranks)]
    found = [explained(front_door, name, *flags)[0] for name in ("global_batch_size", "batch_size")]
    assert [*found, explained(front_door, "gradient_accumulation_steps", *flags)[0]] == ["256", micro, steps]
    again = explained(front_door, "batch_size", *flags, *OF_THE_DOCUMENT)
    assert again[0] == str(256 // (4 * ranks))
    refused = front_door([*flags, "--batch-size", "16", "--gradient-accumulation", "3", "--dry-run"])
    assert "global_batch_size=256 is not batch_size=16" in refused.stderr, "the curve is the resumed run's"


def test_a_config_made_in_python_is_explicit_where_it_was_given_a_value() -> None:
    tree = config_class(PLAYGROUND)
    sizes = {"global_batch_size": 256, "gradient_accumulation_steps": 4}
    launch = {"num_processes": 4}
    assert prepare_config(tree.from_dict({"run": sizes, "launch": launch})).request.config.run.batch_size == 16
    with pytest.raises(ConfigError, match="is not batch_size=32"):
        prepare_config(tree.from_dict({"run": {**sizes, "batch_size": 32}, "launch": launch}))


@given(
    st.integers(1, 400),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 9),
    st.sets(st.sampled_from(BATCH_SIZES)),
)
def test_batch_sizes_multiply_out_or_are_refused_and_explicit_ones_stay(
    whole: int, micro: int, steps: int, ranks: int, explicit: set[str]
) -> None:
    run = RunConfig(global_batch_size=whole, batch_size=micro, gradient_accumulation_steps=steps)
    try:
        fitting = run.multiplied_out(ranks, explicit)
    except ConfigError:
        assert "gradient_accumulation_steps" in explicit
        assert "batch_size" in explicit or whole % (steps * ranks)
        return
    found = fitting.gradient_accumulation_steps
    assert found is None or fitting.batch_size * found * ranks == whole
    assert all(getattr(fitting, name) == getattr(run, name) for name in explicit)
    assert fitting.samples_per_update == whole


# -- the run -------------------------------------------------------------------------------------------------------


def same_run(one: PreparedRun, other: PreparedRun) -> bool:
    return one.request.config == other.request.config and one.plan == other.plan


@pytest.mark.parametrize("name", ["playground", "deepspeed", "huggingface"])
def test_preparing_a_run_prints_nothing_and_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [Layer("mine", {"launch.num_processes": 2, "run.run_dir": "run", "run.epochs": 2})]
    prepared = prepare(choose(backend=name), settings, overwrite=True)
    assert same_run(prepared, prepare(choose(backend=name), settings, overwrite=True))
    assert tuple(capfd.readouterr()) == ("", "")
    assert list(tmp_path.iterdir()) == []
    request = prepared.request
    assert (request.config.backend, request.config.run.epochs) == (name, 2)
    assert (request.resume, request.resume_from, request.start_from, request.overwrite) == (False, None, None, True)
    assert request.origins["run.epochs"] == "mine"
    assert prepared.plan is not None
    assert prepared.plan.processes == 2


def test_a_resumed_run_is_asked_for_by_name_or_by_the_run_directory(tmp_path: Path) -> None:
    newest = prepare(choose(resume=True)).request
    assert (newest.resume, newest.resume_from) == (True, None)
    named = prepare(choose(resume=str(tmp_path / "checkpoint_step_3")), start_from=tmp_path).request
    assert (named.resume, named.resume_from, named.start_from) == (True, tmp_path / "checkpoint_step_3", tmp_path)


def test_a_run_is_varied_by_another_layer_and_checked_again() -> None:
    prepared = prepare(choose(), [Layer(FLAGS, {"run.seed": 3})], overwrite=True)
    other = prepared.varied(Layer("--compare", {"run.seed": 4}))
    assert (prepared.request.config.run.seed, other.request.config.run.seed) == (3, 4)
    assert (prepared.request.origins["run.seed"], other.request.origins["run.seed"]) == ("--seed", "--compare")
    assert other.request.overwrite
    assert other.backend is prepared.backend
    with pytest.raises(ConfigError, match=r"min_lr=1 is above"):
        prepared.varied(Layer("--compare", {"schedule.min_lr": 1}))
    with pytest.raises(ConfigError, match="precision=fp16 needs a GPU"):
        prepared.varied(Layer("--compare", {"run.precision": "fp16", "playground.device": "cpu"}))


def test_a_config_that_is_there_already_is_checked_and_planned_alike() -> None:
    config = config_class(PLAYGROUND).from_dict({"run": {"epochs": 3}, "playground": {"device": "cpu"}})
    prepared = prepare_config(config)
    assert prepared.request.config is config
    assert prepared.plan is None
    assert prepared.varied(Layer("a trial", {"run.epochs": 4})).request.config == config.model_copy(
        update={"run": config.run.model_copy(update={"epochs": 4})}
    )
    wrong = config.model_copy(update={"run": config.run.model_copy(update={"precision": "fp16"})})
    with pytest.raises(ConfigError, match="precision=fp16 needs a GPU"):
        prepare_config(wrong)


# -- configs of before there were several tasks and families -------------------------------------------------------

OLD = {
    "backend": "playground",
    "model": {"d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 96, "vocab_size": 50},
    "data": {"datasets": ["a.json"], "pairs": "full", "label_smoothing": 0.1, "validation_split": 0.1},
    "optimizer": {"learning_rate": 0.001},
    "run": {"run_dir": "run", "epochs": 3},
}


@pytest.mark.parametrize("form", ["nested", "flat", "dotted"])
def test_a_file_that_names_no_task_means_apt_on_hlbd(form: str, tmp_path: Path) -> None:
    dotted = flatten(OLD, config_class(), "it")
    flat = {key.rpartition(".")[2]: value for key, value in dotted.items()}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"nested": OLD, "flat": flat, "dotted": dotted}[form]), encoding="utf-8")
    config = prepare(choose(config_file=file)).request.config
    assert (config.task, config.model.model, config.model.d_model, config.data.pairs) == ("hlbd", "apt", 64, "full")


def test_the_hash_of_a_curve_is_the_one_that_older_records_hold() -> None:
    # As the program wrote it before it had several tasks.
    assert config_class()().curve_hash() == "5616c4efeaa836f1"


def test_what_every_task_and_family_has_is_declared_once() -> None:
    assert set(TaskOptions.model_fields) == {"validation_split", "length_window"}
    assert set(ModelOptions.model_fields) == {"model"}
    assert {"validation_split", "length_window"} <= set(HLBDOptions.model_fields)
    assert next(iter(APTOptions.model_fields)) == "model"


def test_the_networks_shape_is_apt_s_options_without_the_family() -> None:
    options = APTOptions(d_model=64, num_heads=4, dropout=0.5)
    shape = options.network(vocab_size=30)
    assert type(shape).__name__ == "ModelConfig"
    assert (shape.d_model, shape.dropout, shape.vocab_size) == (64, 0.5, 30)
    assert APTOptions(vocab_size=40).network(30).vocab_size == 40, "a larger vocabulary may be asked for"
    assert "model" not in shape.model_dump()


# -- a model by its place --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a finished APT."""
    directory = tmp_path_factory.mktemp("run") / "final_model"
    family = APTFamily()
    options = APTOptions(d_model=32, num_layers=1, num_heads=2, d_ff=48, vocab_size=300)
    family.save(directory, family.build(options, 300), options, 300, {})
    return directory


def test_a_config_in_python_takes_what_the_command_line_takes_for_a_model(small_model: Path) -> None:
    tree = config_class(task="text")
    for config in (
        tree.from_dict({"model": str(small_model)}),
        tree.from_dict({"model": {"model": str(small_model.parent)}}),
        tree.from_dict({"base_model": str(small_model)}),
        config_class(task="text", model=str(small_model)).from_dict({}),
    ):
        assert (config.model.model, config.model.base_model) == ("apt", str(small_model))
        assert (config.model.d_model, config.model.vocab_size) == (32, 300), "the shape is the model's"
        assert type(config).from_dict(config.to_dict()) == config


def test_a_model_of_another_family_than_the_class_s_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"settings of the model family apt.* config_class\(model='huggingface'\)"):
        config_class().from_dict({"model": str(tmp_path)})
    assert config_class(task="chat", model=str(tmp_path)).from_dict({}).model.base_model == str(tmp_path)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--d-model", "64"], "--d-model: d_model is 32 in the model that training starts from ("),
        (["--attention", "standard"], "--attention: attention is autopoietic in the model"),
        (["--base-model", "{base}", "--d-model", "64"], "--d-model: d_model is 32"),
        (["--model", "apt", "--base-model", "no_such"], "--base-model: no model in no_such ("),
    ],
)
def test_a_setting_that_the_model_cannot_have_is_one_line(
    flags: list[str], told: str, small_model: Path, front_door: FrontDoor
) -> None:
    words = [word.format(base=small_model) for word in flags]
    refusal = front_door(["--task", "text", "--model", str(small_model), *words, "--dry-run"])
    assert refusal.exit_code == 2
    assert refusal.stderr.startswith(f"error: {told}")
    assert refusal.stderr.count("\n") == 1


def test_settings_that_do_not_change_the_network_s_shape_may_be_others(small_model: Path) -> None:
    given = {"model.model": str(small_model), "model.dropout": 0.1, "model.d_model": 32, "model.max_seq_len": 64}
    model = prepare(choose(task="text", model=str(small_model)), [Layer(FLAGS, given)]).request.config.model
    assert (model.dropout, model.max_seq_len, model.d_model, model.num_layers) == (0.1, 64, 32, 1)


def test_a_task_starts_with_settings_that_fit_it_under_those_of_the_user() -> None:
    def run_of(**settings: Any) -> RunConfig:
        layers = [Layer("mine", settings)] if settings else []
        choice = choose(task="chat")
        return resolve(choice.config_class, layers_of(choice, layers)).config.run

    assert (run_of().epochs, str(run_of().run_dir)) == (3, "runs/chat")
    assert run_of(**{"run.epochs": 7}).epochs == 7
    hlbd = choose()
    assert resolve(hlbd.config_class, layers_of(hlbd)).config.run.epochs == 100
