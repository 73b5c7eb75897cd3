"""TensorBoard's own reader finds the run in the event files."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import FrontDoor, TinyDataset
from tests.support.tracked_runs import SLOW, assert_same, config_of, recorded, scalars, train, train_in_two_parts
from training.checkpoints.run_directory import RunDirectory

pytestmark = SLOW


def test_tensorboard_shows_a_resumed_run_as_one_curve(tmp_path: Path) -> None:
    config = config_of(tmp_path / "run", track="tensorboard")
    training, validation = train_in_two_parts(config)
    assert len(training) == 15
    assert_same(scalars(tmp_path / "run", "train/loss"), training, precision=1e-6)  # its files hold single precision
    assert_same(scalars(tmp_path / "run", "eval/loss"), validation, precision=1e-6)
    assert len(list((tmp_path / "run" / "logs").glob("events.out.tfevents.*"))) == 2


def test_tensorboard_shows_settings_and_tags(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    config = config_of(tmp_path / "run", track="tensorboard")
    train(config)
    board = EventAccumulator(str(tmp_path / "run" / "logs"))
    board.Reload()
    [text] = board.Tensors("run")
    assert config.curve_hash() in text.tensor_proto.string_val[0].decode()
    content = board.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    table = HParamsPluginData.FromString(content).session_start_info.hparams
    assert table["optimizer.learning_rate"].number_value == 0.02
    assert table["run.batch_size"].number_value == 4


def test_a_run_of_the_front_door_is_followed_to_what_its_model_answers(
    front_door: FrontDoor, tiny_dataset: TinyDataset, tiny_flags: list[str], tmp_path: Path
) -> None:
    where: list[str | Path] = ["--datasets", tiny_dataset(), "--run-dir", tmp_path / "run"]
    done = front_door([*tiny_flags, *where, "--epochs", "2", "--answer-samples", "4", "--track", "tensorboard"])
    assert done.exit_code == 0
    assert f"track   tensorboard: tensorboard --logdir {tmp_path / 'run' / 'logs'}" in done.stderr
    assert_same(scalars(tmp_path / "run", "train/loss"), recorded(tmp_path / "run")[0], precision=1e-6)
    [(step, share)] = scalars(tmp_path / "run", "recitation/accuracy")
    assert step == 4
    assert 0.0 <= share <= 1.0


def test_overwriting_a_run_deletes_what_its_trackers_wrote_and_no_file_of_the_user_s(tmp_path: Path) -> None:
    config = config_of(tmp_path / "run", track="tensorboard")
    train(config)
    (tmp_path / "run" / "logs" / "mine.txt").write_text("keep")
    (tmp_path / "run" / "wandb").mkdir()
    RunDirectory(tmp_path / "run", overwrite=True).release()
    assert [path.name for path in (tmp_path / "run" / "logs").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "run" / "trackers.json").exists()
    assert not (tmp_path / "run" / "wandb").exists()
