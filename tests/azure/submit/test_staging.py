"""What goes along with a job: all that it needs, and nothing that is private."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.azure.configs import azure_config
from tests.support.language_data import tiny_model, topics_file
from training.azure.settings.inner_run import CHECKOUT, CODE, inner_config
from training.azure.submit.staging import Staging
from training.errors import ConfigError, DataError, UserError
from training.settings.tree import TrainingConfig

if TYPE_CHECKING:
    from tests.conftest import FrontDoor, TinyDataset


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout in which everything lies about that must stay."""
    root = tmp_path / "checkout"
    for name in (
        "training/loop/trainer.py", "training/tracking/secrets.py", "apt_model/model.py", "configs/small.yaml",
        "train.py", "pyproject.toml", "constraints.txt", "README.md", ".env", ".git/config", ".venv/bin/python",
        "notes.txt",
        "runs/default/model.safetensors", "training/__pycache__/loop.pyc", "training/.env", "training/id_rsa",
        "training/server.pem", "configs/my_credentials.json", "extra/callbacks.py", "extra/api.key", "tools/tool.py",
    ):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return root


def names(staging: Staging) -> list[str]:
    return [name for name, _ in staging.files]


JOB = ["job/config.yaml", "job/data/HLBD_Hardcore_Full.json"]


def test_code_data_and_config_go_along_and_nothing_private(checkout: Path) -> None:
    staging = Staging.make(azure_config(), checkout=checkout)
    assert names(staging) == sorted([
        *JOB, "apt_model/model.py", "configs/small.yaml", "constraints.txt", "pyproject.toml", "train.py",
        "training/loop/trainer.py", "training/tracking/secrets.py",
    ])  # fmt: skip
    assert staging.left_out == [
        ("configs/my_credentials.json", "named like a secret"),
        ("training/.env", "hidden"),
        ("training/id_rsa", "named like a secret"),
        ("training/server.pem", "named like a secret"),
    ]


def test_what_else_a_job_needs_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = azure_config(azure={"snapshot_include": ["extra", "notes.txt", "training/loop/trainer.py"]})
    staging = Staging.make(config, checkout=checkout)
    assert {"extra/callbacks.py", "notes.txt"} < set(names(staging))
    assert "extra/api.key" not in names(staging)
    assert len(set(names(staging))) == len(names(staging))
    monkeypatch.chdir(checkout / "extra")  # as every path on the command line: from here
    assert "extra/callbacks.py" in names(
        Staging.make(azure_config(azure={"snapshot_include": ["callbacks.py"]}), checkout=checkout)
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("missing.py", "no such file or directory, neither here nor in"),
        ("..", "it is outside of the checkout"),
        ("/etc/hostname", "it is outside of the checkout"),
        (".", "this is the whole checkout; name what the job needs of it"),
    ],
)
def test_what_cannot_be_included_is_refused(
    given: str, told: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    with pytest.raises(ConfigError) as caught:
        Staging.make(azure_config(azure={"snapshot_include": [given]}), checkout=checkout)
    assert str(caught.value).startswith(f"--snapshot-include {given}: {told}")


def test_links_are_followed_only_to_files_within_the_checkout(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("mine", encoding="utf-8")
    training = checkout / "training"
    for link, target in {
        "inside.py": training / "loop" / "trainer.py",
        "nowhere.py": training / "gone.py",
        "outside.txt": tmp_path / "private.txt",
        "folder": checkout / "extra",
        "round": training,
        "key.txt": checkout / ".env",
    }.items():
        (training / link).symlink_to(target)
    staging = Staging.make(azure_config(), checkout=checkout)
    assert [name for name in names(staging) if name.startswith("training/")] == [
        "training/inside.py", "training/loop/trainer.py", "training/tracking/secrets.py",
    ]  # fmt: skip
    told = dict(staging.left_out)
    assert told["training/nowhere.py"] == "a symbolic link that leads nowhere"
    assert told["training/outside.txt"].startswith("a symbolic link out of the checkout")
    assert told["training/folder"].startswith("a symbolic link to a directory")
    assert told["training/round"].startswith("a symbolic link to a directory")
    assert told["training/key.txt"] == "a symbolic link; what it leads to is hidden"
    with staging:
        assert not (staging.path / "training" / "inside.py").is_symlink()


def test_it_is_on_disk_only_while_it_is_needed(checkout: Path) -> None:
    staging = Staging.make(azure_config(), checkout=checkout)
    with staging:
        path = staging.path
        found = {p.relative_to(path).as_posix(): p.stat().st_size for p in path.rglob("*") if p.is_file()}
        assert found == dict(staging.files)
        assert staging.total_bytes == sum(found.values())
    assert not path.exists()


def test_a_copy_can_be_kept(checkout: Path, tmp_path: Path) -> None:
    config = azure_config(azure={"snapshot_dir": tmp_path / "kept"})
    with Staging.make(config, checkout=checkout) as staging:
        pass
    assert (tmp_path / "kept" / "job" / "config.yaml").is_file()
    assert len([p for p in (tmp_path / "kept").rglob("*") if p.is_file()]) == len(staging.files)
    with pytest.raises(ConfigError, match="there is something already; give an empty directory or a new one"):
        Staging.make(config, checkout=checkout).__enter__()


def test_too_much_is_refused_with_the_largest_files(checkout: Path) -> None:
    (checkout / "training" / "weights.bin").write_bytes(b"0" * 3_000_000)
    with pytest.raises(ConfigError) as caught:
        Staging.make(azure_config(azure={"snapshot_limit_mb": 2}), checkout=checkout)
    told = str(caught.value)
    assert told.startswith(
        "snapshot_limit_mb=2: 3.05 MB would be uploaded, the largest are training/weights.bin (3.00 MB)"
    )
    assert told.endswith("leave them out, or give --snapshot-limit-mb 4")
    Staging.make(azure_config(azure={"snapshot_limit_mb": 4}), checkout=checkout)


def test_how_much_goes_along_is_told(checkout: Path) -> None:
    lines = Staging.make(azure_config(), checkout=checkout).describe()
    assert re.fullmatch(r"goes along: 9 files, 4[67]\.\d KB", lines[0])
    assert any(line.split() == ["job/data/", "44.7", "KB"] for line in lines)
    assert "left out: training/id_rsa (named like a secret)" in lines


# -- data and files --------------------------------------------------------------------------------------------------


def test_data_of_the_same_name_do_not_overwrite_each_other(tiny_dataset: TinyDataset, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = tiny_dataset("a.json"), tiny_dataset("b/A.json")
    config = azure_config(data={"datasets": [str(first), str(second), str(first)]})
    with Staging.make(config) as staging:
        datasets = inner_config(config).data.datasets
        assert datasets == ("job/data/a.json", "job/data/2/A.json", "job/data/a.json")
        assert (staging.path / datasets[0]).read_bytes() == first.read_bytes()
        assert (staging.path / datasets[1]).read_bytes() == second.read_bytes()


def test_data_that_are_not_there_are_refused() -> None:
    with pytest.raises(DataError, match=r"nothing\.json: no such data file"):
        Staging.make(azure_config(data={"datasets": ["nothing.json"]}))


def test_a_file_that_the_inner_backend_s_options_name_goes_along(tmp_path: Path) -> None:
    document = tmp_path / "mine.json"
    document.write_text('{"zero_optimization": {"stage": 1}}', encoding="utf-8")
    config = azure_config("huggingface", huggingface={"deepspeed": str(document)})
    assert str(inner_config(config).huggingface.deepspeed) == "job/files/mine.json"  # type: ignore[attr-defined]
    with Staging.make(config) as staging:
        assert (staging.path / "job/files/mine.json").read_text(encoding="utf-8") == document.read_text(
            encoding="utf-8"
        )
    preset = azure_config("huggingface", huggingface={"deepspeed": "ds_config"})
    assert str(inner_config(preset).huggingface.deepspeed) == "ds_config"  # type: ignore[attr-defined]


def test_a_run_from_here_goes_along_with_its_newest_checkpoint(finished_run: Path) -> None:
    found = names(Staging.make(azure_config(), start=finished_run))
    start = [name for name in found if name.startswith("job/start/")]
    assert {name.split("/")[2] for name in start} == {
        "progress.jsonl", "experiment_report.json", "config.yaml", "checkpoint_epoch_2",
    }  # fmt: skip
    assert "job/start/checkpoint_epoch_2/manifest.json" in start
    shutil.rmtree(finished_run / "checkpoint_epoch_2")
    shutil.rmtree(finished_run / "checkpoint_epoch_1")
    with pytest.raises(UserError, match="no checkpoint to go on from"):
        Staging.make(azure_config(), start=finished_run)


# -- the run inside --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["playground", "deepspeed", "huggingface"])
def test_the_front_door_reads_the_inner_run_s_config(inner: str, front_door: FrontDoor) -> None:
    config = azure_config(
        inner, {"vm_size": "Standard_NC96ads_A100_v4"}, launch={"num_gpus": 4, "nnodes": 2}, run={"epochs": 3}
    )
    with Staging.make(config) as staging:
        done = front_door(["--config", staging.path / "job" / "config.yaml", "--dry-run", "--datasets",
                           "HLBD_Hardcore_Full.json"])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    settings = yaml.safe_load(done.stdout)
    assert settings["backend"] == inner
    assert settings["launch"]["num_gpus"] == 4
    assert settings["launch"]["nnodes"] == 1
    assert settings["run"]["epochs"] == 3
    assert inner in settings
    assert "azure" not in settings


def test_the_curve_is_the_same_inside_as_outside() -> None:
    config = azure_config("deepspeed", {"vm_size": "Standard_NC48ads_A100_v4"}, launch={"num_gpus": 2})
    inside = inner_config(config)
    same = inside.model_copy(update={"data": config.data})
    assert same.curve_hash() == config.curve_hash()


def test_the_job_logs_to_the_workspace_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def tracked(azure: dict[str, bool] | None = None, **track: object) -> TrainingConfig:
        return inner_config(azure_config(azure=azure, track=track))

    assert tracked().track.track == ("mlflow",)
    assert tracked(track="tensorboard,mlflow").track.track == ("mlflow", "tensorboard")
    assert tracked({"track_in_workspace": False}).track.track == ()
    elsewhere = tracked(track="mlflow", mlflow_tracking_uri="https://mlflow.example.org").track
    assert (elsewhere.track, elsewhere.mlflow_tracking_uri) == (("mlflow",), "https://mlflow.example.org")
    monkeypatch.setenv("WANDB_MODE", "offline")  # which does not reach the job
    assert tracked(track="wandb").track.wandb_mode == "offline"


def test_the_checkout_has_all_that_is_named_as_code() -> None:
    assert [name for name in CODE if not (CHECKOUT / name).exists()] == []
    staging = Staging.make(azure_config())
    assert "training/tracking/secrets.py" in names(staging)
    assert staging.left_out == []


# -- a model of this machine -------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model in a directory, as a clone of its repository leaves it."""
    directory = tmp_path / "mine" / "llama"
    shutil.copytree(tiny_model(), directory)
    (directory / ".git").mkdir()
    (directory / ".git" / "objects").write_bytes(b"the weights once more")
    return directory


def text_config(model: Path, **data: object) -> TrainingConfig:
    settings = {"datasets": [str(topics_file())], **data}
    return azure_config(task="text", family="huggingface", model={"base_model": str(model)}, data=settings)


@pytest.mark.slow
def test_a_model_of_this_machine_goes_along_and_the_job_finds_it(
    model: Path, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = text_config(model)
    assert inner_config(config).model.model_dump()["base_model"] == "job/model/llama"
    with Staging.make(config) as staging:
        staged = staging.path / "job" / "model" / "llama"
        assert {p.name for p in staged.iterdir()} == {p.name for p in model.iterdir()} - {".git"}
        assert ("job/model/llama/.git/objects", "hidden") in staging.left_out
        monkeypatch.chdir(staging.path)
        words = ["--config", "job/config.yaml", "--device", "cpu", "--max-steps", "1", "--answer-samples", "0"]
        done = front_door([*words, "--max-seq-len", "32", "--run-dir", model.parent / "run"])
    assert done.exit_code == 0, done
    assert (model.parent / "run" / "final_model" / "config.json").is_file()


@pytest.mark.slow
def test_a_tokenizer_and_a_saved_dataset_go_along_as_directories(model: Path, tmp_path: Path) -> None:
    import datasets

    saved = tmp_path / "saved"
    datasets.Dataset.from_dict({"text": ["one", "two"]}).save_to_disk(saved)
    config = text_config(model, tokenizer=str(tiny_model("gpt2")), datasets=[str(saved), str(topics_file())])
    inside = inner_config(config).data.model_dump()
    assert inside["tokenizer"] == f"job/model/{tiny_model('gpt2').name}"
    assert inside["datasets"] == ("job/data/saved", f"job/data/{topics_file().name}")
    assert {"job/data/saved/state.json", "job/model/tiny_gpt2/tokenizer.json"} < set(names(Staging.make(config)))


@pytest.mark.slow
def test_an_adapter_whose_base_stays_here_is_refused_in_one_line(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    described = {"base_model_name_or_path": str(tiny_model())}
    (adapter / "adapter_model.safetensors").touch()
    (adapter / "adapter_config.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(ConfigError, match="which no job finds; give a model that is whole") as refused:
        inner_config(text_config(adapter))
    assert "\n" not in str(refused.value)


def test_a_name_on_the_hub_stays_as_it_is() -> None:
    family = {"base_model": "meta/llama-9"}
    config = azure_config(task="text", family="huggingface", data={"datasets": [str(topics_file())]}, model=family)
    assert inner_config(config).model.model_dump()["base_model"] == "meta/llama-9"


def test_an_apt_that_a_run_goes_on_from_goes_along(finished_run: Path) -> None:
    model = {"base_model": str(finished_run / "final_model")}
    config = azure_config(model=model)
    assert inner_config(config).model.model_dump()["base_model"] == "job/model/final_model"
    assert "job/model/final_model/model.safetensors" in names(Staging.make(config))
