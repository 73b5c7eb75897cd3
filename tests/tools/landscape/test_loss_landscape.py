"""`tools/loss_landscape.py` as a user calls it, on a real run: true, cached, and clear about what it cannot do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from mpl_toolkits.mplot3d import Axes3D

from apt_model.tokenizer import DynamicTagTokenizer
from tests.conftest import FrontDoor, write_tiny_dataset
from tests.support.measured_surfaces import quadratic_surface
from tools.landscape.figure import draw
from tools.landscape.measurement import Budget
from tools.landscape.probe import Probe
from tools.landscape.study import Result, Settings, study
from tools.landscape.subject import find_subject
from tools.landscape.surface import read_surface
from tools.loss_landscape import main
from tools.loss_landscape import run as command
from training.checkpoints.finished_model import load_trained_model
from training.errors import UserError
from training.loop.weight_snapshots import snapshot_files, snapshot_path
from training.tasks.batch_plan import mix, shuffled
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import load_corpus
from training.tasks.language_modeling import LanguageModeling

UNLIMITED = 1e9


def measure(run_dir: Path, **settings: object) -> Result:
    return study(run_dir, Settings(**{"resolution": 5, "num_samples": 8, **settings}), Budget(UNLIMITED))  # type: ignore[arg-type]


def loss_by_hand(model: Path, data: Path, num_samples: int) -> float:
    """Return the mean loss per token on the probe's samples, one sample at a time."""
    trained = load_trained_model(model)
    tokenizer = DynamicTagTokenizer.from_dict(trained.artefacts["tokenizer"])
    dataset = HLBDDataset(load_corpus([data]).samples, tokenizer, 256)
    task = LanguageModeling(trained.family, trained.options, tokenizer.vocab_size)
    chosen = shuffled(len(dataset), mix(0, len(dataset)))[:num_samples]
    with torch.no_grad():
        batches = [task.collate([dataset[int(i)]]) for i in chosen]
        losses = [float(task.loss(trained.model, batch).loss) for batch in batches]
    return sum(losses) / sum(batch.weight for batch in batches)


# -- true ----------------------------------------------------------------------------------------------------------


def test_the_origin_is_the_checkpoints_loss_and_the_path_is_the_runs(finished_run: Path, tmp_path: Path) -> None:
    surface = measure(finished_run).surface
    assert surface.directions == "pca"
    assert (surface.center, surface.center_step) == ("checkpoint_epoch_2", 4)
    by_hand = loss_by_hand(finished_run / "checkpoint_epoch_2", tmp_path / "tiny.json", 8)
    assert surface.center_loss == pytest.approx(by_hand, rel=1e-6)
    subject = find_subject(finished_run)
    probe = Probe(subject.prepared.objective, subject.prepared.train, 8, 0, torch.device("cpu"))
    checkpoint = load_trained_model(finished_run / "checkpoint_epoch_2").model
    assert surface.center_loss == probe.loss(checkpoint), "to the last bit"
    assert surface.losses[surface.betas == 0.0, surface.alphas == 0.0].tolist() == [surface.center_loss]
    assert surface.path_steps.tolist() == [0, 1, 2, 3, 4]
    assert surface.path_distance[-1] == 0.0
    assert surface.path_loss[-1] == surface.path_plane_loss[-1] == surface.center_loss
    assert surface.path_loss[0] > surface.path_loss[-1], "it has learned something"
    assert surface.explained_variance is not None
    assert 0.9 < surface.explained_variance.sum() <= 1.0 + 1e-9
    assert surface.alphas[0] < surface.path_plane[:, 0].min()
    assert surface.alphas[-1] > surface.path_plane[:, 0].max()


def test_all_of_a_run_is_as_it_was_but_for_the_cache(
    finished_run: Path, tree: Callable[[], dict[str, bytes | None]]
) -> None:
    before = tree()
    result = measure(finished_run)
    after = tree()
    new = set(after) - set(before)
    assert new == {"run/landscape", f"run/landscape/{result.file.name}"}
    assert all(after[name] == content for name, content in before.items())


def test_two_runs_of_the_command_give_the_same_surface(finished_run: Path) -> None:
    one = measure(finished_run)
    shutil.rmtree(finished_run / "landscape")
    other = measure(finished_run)
    assert one.surface.key == other.surface.key
    assert np.array_equal(one.surface.losses, other.surface.losses)
    assert np.array_equal(one.surface.path_loss, other.surface.path_loss)


def test_a_final_model_alone_is_measured_in_random_directions(finished_run: Path) -> None:
    by_checkpoint = measure(finished_run, directions="random").surface
    for path in [*finished_run.glob("checkpoint_*"), finished_run / "snapshots"]:
        shutil.rmtree(path)
    for name in ("final_model.pt", "final_model"):
        surface = measure(finished_run).surface
        assert (surface.center, surface.center_step, surface.directions) == (name, 4, "random")
        assert np.array_equal(surface.losses, by_checkpoint.losses)
        assert surface.path_steps.tolist() == [4]
        path = finished_run / name
        path.unlink() if path.is_file() else shutil.rmtree(path)


def test_a_run_at_work_is_measured_at_its_newest_snapshot(finished_run: Path) -> None:
    for path in [*finished_run.glob("checkpoint_*"), finished_run / "final_model"]:
        shutil.rmtree(path)
    (finished_run / "final_model.pt").unlink()
    surface = measure(finished_run).surface
    assert (surface.center, surface.center_step) == (snapshot_path(finished_run, 4).name, 4)
    assert surface.path_steps.tolist() == [0, 1, 2, 3, 4]


def test_another_centre_can_be_asked_for(finished_run: Path) -> None:
    by_name = measure(finished_run, checkpoint=Path("checkpoint_epoch_1"))
    assert (by_name.surface.center, by_name.surface.center_step) == ("checkpoint_epoch_1", 2)
    by_path = measure(finished_run, checkpoint=finished_run / "checkpoint_epoch_1")
    assert by_path.forward_passes == 0


# -- cached --------------------------------------------------------------------------------------------------------


def test_what_is_known_costs_no_forward_pass(finished_run: Path) -> None:
    first = measure(finished_run)
    assert first.forward_passes == 25 + 2 * 4
    again = measure(finished_run)
    assert again.forward_passes == 0
    assert np.array_equal(again.surface.losses, first.surface.losses)


@pytest.mark.parametrize("change", ["weights", "path", "probe", "seed", "span", "directions", "resolution"])
def test_whatever_a_surface_depends_on_misses_the_cache(finished_run: Path, change: str) -> None:
    first = measure(finished_run)
    settings: dict[str, object] = {}
    if change == "weights":
        settings["checkpoint"] = Path("checkpoint_epoch_1")
    elif change == "path":
        snapshot_files(finished_run)[1][1].unlink()
    elif change == "probe":
        settings["num_samples"] = 7
    else:
        settings[change] = {"seed": 1, "span": 2.0, "directions": "random", "resolution": 9}[change]
    assert measure(finished_run, **settings).forward_passes > 0
    assert measure(finished_run, **settings).surface.key != first.surface.key


def test_a_damaged_cache_is_measured_anew(finished_run: Path) -> None:
    first = measure(finished_run)
    first.file.write_text("{", encoding="utf-8")
    assert measure(finished_run).forward_passes == first.forward_passes
    assert read_surface(finished_run) is not None


# -- as a command --------------------------------------------------------------------------------------------------


def test_the_command_tells_how_far_the_picture_can_be_trusted(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure, numbers = tmp_path / "landscape.png", tmp_path / "landscape.json"
    flags = [str(finished_run), "--resolution", "9", "--device", "cpu"]
    assert command([*flags, "--output", str(figure)]) == 0
    told = capsys.readouterr().out
    assert "centre    checkpoint_epoch_2 after 4 updates: loss" in told
    assert "of its squared distance from the centre" in told
    assert "path      5 points, up to" in told
    assert "its loss differs most from the plane's at step" in told
    assert "surface   9 x 9 points in" in told
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert command([*flags, "--output", str(numbers)]) == 0
    assert "nothing new to measure" in capsys.readouterr().out
    document = json.loads(numbers.read_text(encoding="utf-8"))
    assert document["format"] == "apt-landscape"
    assert np.array(document["losses"]).shape == (9, 9)


def test_a_budget_that_does_not_suffice_is_told_and_gone_on_with(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [str(finished_run), "--resolution", "5"]
    assert command([*flags, "--budget", "1e-9"]) == 0
    assert "so far: --budget 1e-9 s were not enough for 5 x 5; the same command continues" in capsys.readouterr().out
    assert command(flags) == 0
    assert "surface   5 x 5 points in" in capsys.readouterr().out


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are saved during a test."""
    kept: list[Figure] = []
    savefig = Figure.savefig

    def keep_and_save(figure: Figure, *arguments: Any, **options: Any) -> None:
        kept.append(figure)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep_and_save)
    return kept


def test_the_picture_has_its_titles_its_legend_and_no_text_over_another(
    finished_run: Path, tmp_path: Path, drawn: list[Figure]
) -> None:
    assert draw(measure(finished_run).surface, "run", tmp_path / "landscape.png") is not None
    (figure,) = drawn
    titles = [axes.get_title() for axes in figure.axes]
    assert any("checkpoint_epoch_2" in title for title in titles)
    assert any("from above" in title for title in titles)
    assert any("how true the plane is" in title for title in titles)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 3
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [a.title.get_window_extent(renderer) for a in figure.axes if a.get_title()]
    boxes += [t.get_window_extent(renderer) for t in figure.texts if isinstance(t, Text)]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[n + 1 :])
    for axis in (axis for axes in figure.axes[1:] for axis in (axes.xaxis, axes.yaxis)):
        box = axis.label.get_window_extent(renderer)
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1


def test_a_name_of_any_letters_is_drawn_and_all_of_the_path_is_in_the_box(tmp_path: Path, drawn: list[Figure]) -> None:
    """Draw it; warnings are errors here, so a character that no font can draw would fail the test."""
    surface = quadratic_surface()
    for above in (20.0, -20.0):  # the true losses beside those of the plane, which go from 0.5 to 7.5
        off = replace(surface, path_loss=surface.path_plane_loss + above * surface.path_distance)
        draw(off, "运行🚀$\\frac{$", tmp_path / "landscape.png", dpi=50)
        terrain = drawn[-1].axes[0]
        assert isinstance(terrain, Axes3D)
        low, high = terrain.get_zlim()
        assert low < off.path_loss.min()
        assert off.path_loss.max() < high


# -- what it cannot do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--resolution", "10"], r"--resolution 10: .* the nearest is 9$"),
        (["--resolution", "many"], "--resolution must be a whole number from 1 to 1025, got 'many'"),
        (["--budget", "0"], "--budget must be a number of seconds from 1e-09 to 604800, got '0'"),
        (["--span", "nan"], "--span must be a number of widths from 0.001 to 1000, got 'nan'"),
        (["--span", "1e300"], "--span must be a number of widths from 0.001 to 1000, got '1e300'"),
        (["--dpi", "100000"], "--dpi must be a whole number from 20 to 600, got '100000'"),
        (["--probe", "0"], "--probe must be a whole number from 1 to 1000000, got '0'"),
        (["--device", "abacus"], "--device abacus: unknown device; choose from auto, cpu, cuda, mps"),
        (["--output", "surface.gif"], r"--output surface.gif: give a name that ends in .png or .json"),
        (["--output", "nowhere/surface.png"], "there is no folder nowhere"),
        (["--checkpoint", "checkpoint_epoch_9"], "--checkpoint checkpoint_epoch_9: no such checkpoint"),
        (["--datasets", "other.json"], "no longer hold what the run was trained on"),
        (["--directions", "up"], "invalid choice: 'up'"),
    ],
)
def test_bad_input_is_one_line(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_dataset(tmp_path / "other.json")
    with pytest.raises(UserError, match=told) as caught:
        command([str(finished_run), *flags])
    assert "\n" not in str(caught.value)
    assert not (finished_run / "landscape").exists()


def test_a_run_that_has_nothing_to_measure_yet_says_so(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in [*finished_run.glob("checkpoint_*"), finished_run / "final_model", finished_run / "snapshots"]:
        shutil.rmtree(path)
    (finished_run / "final_model.pt").unlink()
    for run_dir, told in ((finished_run, "nothing to measure yet"), (tmp_path / "none", "no such run directory")):
        monkeypatch.setattr("sys.argv", ["loss_landscape.py", str(run_dir)])
        assert main() == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"loss_landscape: {run_dir}: {told}")
        assert said.err.count("\n") == 1


def test_a_run_that_may_not_be_read_or_written_to_is_told_before_anything_is_measured(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.landscape.surface.os.access", lambda path, mode: False)
    with pytest.raises(UserError, match="surfaces are kept there, and it cannot be written to; measure a copy"):
        measure(finished_run)
    assert not (finished_run / "landscape").exists()
    shutil.rmtree(finished_run / "snapshots")
    (finished_run / "snapshots").symlink_to("x" * 300)  # refused for everybody, as a missing permission is not
    with pytest.raises(UserError, match=r"snapshots: it cannot be read \(File name too long\); fix that") as caught:
        measure(finished_run)
    assert "\n" not in str(caught.value)


def test_data_that_is_gone_is_told_with_the_flag_that_mends_it(finished_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "tiny.json"
    moved.parent.mkdir()
    shutil.move(tmp_path / "tiny.json", moved)
    write_tiny_dataset(tmp_path / "tiny.json", rows=9)
    # The run's own copy lay in another folder, which the settings still name.
    config = (finished_run / "config.yaml").read_text(encoding="utf-8")
    (finished_run / "config.yaml").write_text(config.replace("tiny.json", "gone.json"), encoding="utf-8")
    with pytest.raises(UserError, match="--datasets says where it is now"):
        measure(finished_run)
    assert measure(finished_run, datasets=[str(moved)]).surface.finished


def test_a_run_of_a_deepspeed_or_hugging_face_backend_needs_nothing_of_theirs(
    finished_run: Path, front_door: FrontDoor
) -> None:
    """Write their sections of config.yaml and their names of checkpoints."""
    reference = measure(finished_run).surface
    config = finished_run / "config.yaml"
    text = config.read_text(encoding="utf-8").replace("backend: playground", "backend: deepspeed")
    config.write_text(text + "deepspeed:\n  zero_stage: 3\n", encoding="utf-8")
    (finished_run / "checkpoint_epoch_2").rename(finished_run / "checkpoint-4")
    surface = measure(finished_run).surface
    assert surface.center == "checkpoint-4"
    assert np.array_equal(surface.losses, reference.losses)
