"""LoRA: just adapters are trained and saved, each saved form is the model that was trained, and merging keeps it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import Outcome, enter_front_door
from tests.support.language_data import tiny_model, topics_file
from training.checkpoints.finished_model import load_trained_model
from training.errors import CheckpointError, ConfigError
from training.loop.trainer import Trainer
from training.machine.seeding import seed_everything
from training.models.huggingface.family import HuggingFaceFamily
from training.models.huggingface.merge_proof import compare_merged
from training.models.huggingface.network import build_network
from training.models.huggingface.options import HuggingFaceOptions
from training.models.tokenizers import load_tokenizer, stop_tokens, to_artefacts, with_stop_tokens
from training.storage.tensor_files import load_tensors

pytestmark = pytest.mark.slow

TOKENS_BT = torch.randint(5, 390, (2, 20), generator=torch.Generator().manual_seed(0))


def options(kind: str = "llama", **settings: Any) -> HuggingFaceOptions:
    return HuggingFaceOptions(
        model="huggingface", **{"base_model": str(tiny_model(kind)), "lora": True, "lora_rank": 4, **settings}
    )


def network(kind: str = "llama", **settings: Any) -> Any:
    seed_everything(0)
    return build_network(options(kind, **settings))


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=TOKENS_BT).logits
    return found


def some_updates(model: Any) -> None:
    """Move every trained parameter away from where it begins."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-2)
    for _ in range(3):
        model.train()
        positions = {"tokens": TOKENS_BT, "positions": torch.arange(TOKENS_BT.numel())}
        loss = nn.functional.cross_entropy(HuggingFaceFamily().logits(model, positions), TOKENS_BT.flatten().roll(-1))
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()


# -- one run ---------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A finished run of the front door, and the logits that its model had at the end."""

    path: Path
    outcome: Outcome
    final: Tensor


def train(directory: Path, *flags: object, model: Path | None = None) -> Outcome:
    return enter_front_door([
        "--task", "text", "--datasets", topics_file(), "--model", model or tiny_model(), "--run-dir", directory,
        "--device", "cpu", "--max-steps", "3", "--save-steps", "2", "--max-seq-len", "64", "--batch-size", "4",
        "--learning-rate", "0.01", "--warmup-steps", "0", *map(str, flags),
    ])  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three updates with LoRA, DoRA, dropout, and a whole embedding that the head shares."""
    path, found = tmp_path_factory.mktemp("lora") / "run", []
    with pytest.MonkeyPatch.context() as patch:
        conclude = Trainer._conclude

        def noting(trainer: Trainer, model: nn.Module, result: Any) -> Any:
            found.append(logits(model))
            return conclude(trainer, model, result)

        patch.setattr(Trainer, "_conclude", noting)
        outcome = train(
            path, "--lora", "--merge", "--lora-rank", 4, "--lora-alpha", 16, "--lora-dora", "--lora-rslora",
            "--lora-dropout", 0.1, "--lora-modules-to-save", "embed_tokens",
        )  # fmt: skip
    assert outcome.exit_code == 0, outcome
    return Run(path, outcome, found[0])


def test_only_adapters_and_whole_modules_are_in_a_checkpoint_and_their_sizes_are_said(run: Run) -> None:
    saved = load_tensors(run.path / "checkpoint_step_2" / "model.safetensors")
    assert all("lora_" in name or "modules_to_save" in name for name in saved), sorted(saved)
    assert sum("modules_to_save" in name for name in saved) == 1, "the tied head is no second tensor"
    count = sum(tensor.numel() for tensor in saved.values())
    assert f"{count:,} of them trained" in run.outcome.stdout


@pytest.mark.parametrize("form", ["checkpoint_step_3", ".", "final_model"])
def test_each_saved_form_is_the_model_that_was_trained(run: Run, form: str) -> None:
    assert torch.allclose(logits(load_trained_model(run.path / form).model), run.final, atol=1e-6)


def test_the_merged_model_opens_with_transformers_alone_and_is_tied_as_its_base(run: Run, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = shutil.copytree(run.path / "final_model" / "merged", tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(merged)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert torch.allclose(logits(model), run.final, atol=1e-5)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert AutoTokenizer.from_pretrained(merged).eos_token == "<|endoftext|>"
    assert [path.name for path in sorted(merged.iterdir())] == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_the_merge_is_certified_in_one_line_and_in_the_report(run: Run) -> None:
    (line,) = [line for line in run.outcome.stdout.splitlines() if line.startswith("merge ")]
    figures = json.loads((run.path / "experiment_report.json").read_text())["merge"]
    assert "final_model/merged/ (float32) against the adapter" in line
    assert f"at {figures['positions']:,} of {figures['positions']:,} positions" in line
    assert figures["greedy_agreement"] == 1.0
    assert 0 < figures["largest_logit_difference"] < 1e-4 * figures["largest_logit"]


def test_adapters_in_a_directory_go_on_as_a_base_of_their_own(run: Run, tmp_path: Path) -> None:
    """`--model final_model` of a run with LoRA: its base with the adapter added, and new adapters on it."""
    family = HuggingFaceFamily()
    again: Any = build_network(options(base_model=str(run.path / "final_model")))
    assert torch.allclose(logits(again), run.final, atol=1e-5)
    some_updates(again)
    family.save(tmp_path / "second", again, options(base_model=str(run.path / "final_model")), 400, {})
    assert torch.allclose(logits(family.load(tmp_path / "second").module), logits(again), atol=1e-5)


def test_a_resumed_run_goes_on_bit_for_bit_with_the_length_that_was_asked_for(run: Run, tmp_path: Path) -> None:
    again = shutil.copytree(run.path, tmp_path / "run")
    resumed = enter_front_door(["--resume", again / "checkpoint_step_2"])
    assert resumed.exit_code == 0, resumed
    files = [path / "final_model" / "adapter_model.safetensors" for path in (run.path, again)]
    assert files[0].read_bytes() == files[1].read_bytes()


# -- what is adapted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_all_linear_adapts_all_but_the_head_and_only_adapters_get_gradients(kind: str) -> None:
    model = network(kind)
    some_updates(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name and "lm_head" not in name and "embed_out" not in name for name in trained)
    assert (HuggingFaceFamily().saved_names(model) or set()) == trained


def test_layers_that_peft_cannot_adapt_are_refused_with_a_choice_of_others() -> None:
    with pytest.raises(ConfigError, match=r"PEFT refuses .*--lora-targets chooses of .*in_proj .*x_proj"):
        network("mamba")
    some_updates(network("mamba", lora_targets=("in_proj", "x_proj")))


SCALES = [({}, 2.0), ({"lora_alpha": 2.0}, 0.5), ({"lora_alpha": 2.0, "lora_rslora": True}, 1.0)]


@pytest.mark.parametrize(("settings", "scale"), SCALES)
def test_alpha_over_the_rank_or_its_root_scales_the_adapters(settings: dict[str, Any], scale: float) -> None:
    model = network(lora_targets=("q_proj",), **settings)
    scales = {module.scaling["default"] for name, module in model.named_modules() if name.endswith("q_proj")}
    assert scales == {scale}


ENDS = [
    {"lora_targets": ("q_proj", "lm_head")},
    {"lora_targets": ("q_proj", "embed_tokens")},
    {"lora_targets": ("q_proj", "embed_tokens", "lm_head")},
    {"lora_modules_to_save": ("lm_head",)},
    {"lora_modules_to_save": ("embed_tokens", "lm_head")},
    {"resize_embeddings": True, "vocab_size": 410, "lora_modules_to_save": ("embed_tokens", "lm_head")},
    {"neftune_alpha": 5.0, "lora_targets": ("embed_tokens",)},
]


@pytest.mark.parametrize("settings", ENDS, ids=str)
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_adapters_and_whole_modules_at_both_ends_survive_saving_and_merging(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """PEFT alone adds two adapters of a tied weight to one tensor: its merged logits are off by several units."""
    family, chosen, model = HuggingFaceFamily(), options(kind, merge=True, **settings), network(kind, **settings)
    some_updates(model)
    expected = logits(model)
    family.save(tmp_path / "model", model, chosen, None, {})
    assert torch.allclose(logits(family.load(tmp_path / "model").module), expected, atol=1e-5)
    proof = compare_merged(tmp_path / "model" / "merged", model, chosen, [{"tokens": TOKENS_BT}])
    assert proof.warnings == (), proof.lines
    assert proof.figures["merge"]["positions"] == TOKENS_BT.numel()


def test_a_merged_model_that_differs_is_a_warning(tmp_path: Path) -> None:
    """Weights that are merged wrongly, or in a precision that loses the adapter, are never silent."""
    model, chosen = network(merge=True), options(merge=True)
    HuggingFaceFamily().save(tmp_path / "model", model, chosen, None, {})
    some_updates(model)  # the files now hold another model
    merged = tmp_path / "model" / "merged"
    (warning,) = compare_merged(merged, model, chosen, [{"tokens": TOKENS_BT}]).warnings
    assert warning.startswith("model/merged/ is not the model that was trained: its logits differ by ")
    (merged / "model.safetensors").write_bytes(b"")
    (warning,) = compare_merged(merged, model, chosen, [{"tokens": TOKENS_BT}]).warnings
    assert warning.startswith("model/merged/ cannot be read back: ")


def test_an_adapter_with_rows_of_its_own_brings_them_along(tmp_path: Path) -> None:
    family, own = HuggingFaceFamily(), {"lora_modules_to_save": ("embed_tokens", "lm_head")}
    made: Any = {"resize_embeddings": True, "vocab_size": 410, **own}
    model = network("qwen2", **made)
    some_updates(model)
    family.save(tmp_path / "model", model, options("qwen2", **made), None, {})
    again = family.completed(options(base_model=str(tmp_path / "model")), 410)
    assert again.model_dump()["vocab_size"] == 410
    assert torch.allclose(logits(family.build(again, 410)), logits(model), atol=1e-5)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_names_without_a_layer_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"--lora-targets q_prj: no layer .*did you mean 'q_proj'\?; there are down_"):
        network(lora_targets=("v_proj", "q_prj"))
    with pytest.raises(ConfigError, match=r"--lora-targets norm: no layer has such a name.*; there are down_proj"):
        network(lora_targets=("norm",))
    with pytest.raises(ConfigError, match=r"--lora-modules-to-save wte: no layer .* there are .*embed_tokens"):
        network(lora_modules_to_save=("wte",))


@pytest.mark.parametrize(("kind", "names"), [("llama", "embed_tokens"), ("qwen2", "embed_tokens lm_head")])
def test_new_rows_that_would_never_be_trained_are_refused(kind: str, names: str) -> None:
    with pytest.raises(ConfigError, match=f"never be trained; add --lora-modules-to-save {names}$"):
        network(kind, resize_embeddings=True, vocab_size=410)


def test_an_adapter_of_another_base_is_refused(run: Run, tmp_path: Path) -> None:
    adapter = shutil.copytree(run.path / "final_model", tmp_path / "adapter")
    config = adapter / "adapter_config.json"

    def with_base(base: object) -> None:
        described = json.loads(config.read_text())
        config.write_text(json.dumps({**described, "base_model_name_or_path": str(base)}))

    with_base(tiny_model("gpt2"))
    with pytest.raises(CheckpointError, match="the adapter does not fit its base model"):
        build_network(options(base_model=str(adapter)))
    with pytest.raises(CheckpointError, match="the adapter does not fit its base model"):
        HuggingFaceFamily().load(adapter)
    with_base(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"base_model_name_or_path /.*/gone: there is no such directory"):
        build_network(options(base_model=str(adapter)))
    with_base(adapter)
    with pytest.raises(CheckpointError, match="its base is an adapter of itself"):
        build_network(options(base_model=str(adapter)))


def test_an_adapter_with_tensors_missing_is_refused(run: Run, tmp_path: Path) -> None:
    """PEFT leaves them at their beginning and warns."""
    from safetensors.torch import load_file, save_file

    adapter = shutil.copytree(run.path / "final_model", tmp_path / "adapter")
    weights = load_file(adapter / "adapter_model.safetensors")
    weights.pop(sorted(weights)[-1])
    save_file(weights, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="1 tensors of this adapter are not in its file, the first is"):
        build_network(options(base_model=str(adapter)))
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="an adapter without its weights"):
        build_network(options(base_model=str(adapter)))


def test_a_run_whose_base_is_gone_is_not_resumed(run: Run, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_model(), tmp_path / "base")
    assert train(tmp_path / "run", "--lora", model=base).exit_code == 0
    base.rename(tmp_path / "elsewhere")
    refused = enter_front_door(["--resume", tmp_path / "run", "--max-steps", "5"])
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"error: --model {base}: there is no such directory")
    assert refused.stderr.count("\n") == 1


def test_an_adapter_that_is_read_and_written_again_says_where_its_answers_end(tmp_path: Path) -> None:
    family, place = HuggingFaceFamily(), str(tiny_model())
    described = HuggingFaceOptions(model="huggingface", base_model=place, lora=True)
    tokenizer = load_tokenizer(place)
    artefacts = with_stop_tokens(to_artefacts(tokenizer), tokenizer, [7, 5])
    family.save(tmp_path / "one", family.build(described, None), described, None, artefacts)
    read = family.load(tmp_path / "one")
    family.save(tmp_path / "other", read.module, read.options, read.vocabulary, read.artefacts)
    assert stop_tokens(read.artefacts) == [7, 5]
    one, other = ((tmp_path / name / "generation_config.json").read_text(encoding="utf-8") for name in ("one", "other"))
    assert json.loads(one) == json.loads(other)
