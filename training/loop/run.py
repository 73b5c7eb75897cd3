"""A whole run on HLBD data, as every backend with our own loop does it: data, training, finished model.

The backend brings the ranks and the engine; what is trained, and what is said about it, is the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import nn

from apt_model.model import APT
from apt_model.tokenizer import DynamicTagTokenizer
from training.backends.protocol import RunRequest, RunResult
from training.checkpoints.checkpoint import load_checkpoint
from training.checkpoints.finished_model import TrainedModel, save_final_model
from training.checkpoints.run_directory import JOB_NAME, SNAPSHOTS_NAME, checkpoint_name
from training.checkpoints.start_from import refuse_absent_checkpoints, start_from
from training.engines.torch_engine import Engine
from training.errors import ConfigError
from training.loop.trainer import Trainer, our_loop
from training.loop.weight_snapshots import snapshot_bytes
from training.machine.ranks import Ranks
from training.machine.units import as_size
from training.publish.export import push_final_model
from training.record.terminal import Terminal
from training.settings.tree import TrainingConfig
from training.tasks.hlbd.dataset import HLBDDataset
from training.tasks.hlbd.files import Corpus, Sample, load_corpus, split_corpus
from training.tasks.hlbd.training_answers import accuracy_by_module, evenly_chosen, recite, table
from training.tasks.hlbd.vocab_size import with_vocab_size
from training.tracking.choice import trackers_for


def train_hlbd(
    request: RunRequest,
    ranks: Ranks,
    make_engine: Callable[[nn.Module, TrainingConfig], Engine],
    loop: Callable[[Trainer], None] = our_loop,
    checkpoint_name: Callable[[int, int | None], str] = checkpoint_name,
) -> RunResult:
    """Train, write the final model and show what it answers. Every rank calls it; rank 0 writes and tells.

    Args:
        request: the config, and what is asked of the run directory.
        ranks: the processes of the run.
        make_engine: (seeded model, resolved config) -> how an update is done.
        loop: who makes the updates.
        checkpoint_name: (step, epoch that ends there or None) -> what a checkpoint is called.

    Raises:
        UserError: data, settings or run directory cannot be used.
    """
    config = request.config
    corpus = load_corpus(config.data.datasets, config.data.pairs)
    train, validation = split_corpus(corpus, config.data.validation_split, config.run.seed)
    tokenizer = DynamicTagTokenizer.from_texts((text for s in corpus.samples for text in s[:2]), corpus.tags)
    config = with_vocab_size(config, tokenizer.vocab_size)
    _refuse_other_runs(ranks, config, corpus)

    def encode(samples: list[Sample]) -> HLBDDataset:
        return HLBDDataset(samples, tokenizer, config.model.max_seq_len, config.data.loss_on, config.data.truncate)

    train_dataset = encode(train)
    ranks.on_main(lambda: _make_ready(request))
    trainer = Trainer(
        config,
        train_dataset,
        encode(validation) if validation else None,
        make_engine=make_engine,
        loop=loop,
        checkpoint_name=checkpoint_name,
        ranks=ranks,
        sinks=[Terminal(), *trackers_for(config)] if ranks.is_main else (),
        resume=request.resume,
        resume_from=request.resume_from,
        overwrite=request.overwrite,
        facts=_facts(corpus, tokenizer),
    )
    try:
        if ranks.is_main:
            (trainer.directory.path / JOB_NAME).unlink(missing_ok=True)  # no longer the copy of a job's
            _introduce(trainer, corpus, train_dataset, tokenizer)
        return _train(trainer, tokenizer, train)
    finally:
        trainer.close()


def _train(trainer: Trainer, tokenizer: DynamicTagTokenizer, train: list[Sample]) -> RunResult:
    started, first_step = time.perf_counter(), trainer.step
    result = trainer.train(keep_open=True)
    seconds = time.perf_counter() - started
    model = trainer.engine.model()  # collective where the weights are spread over the ranks
    if not trainer.ranks.is_main:
        return result
    print(f"{result.state} at step {result.step} after {seconds:.1f} s of training ({result.step - first_step} steps)")
    if result.state != "finished":
        print(f"go on with: the same command and --resume (run directory {trainer.directory.path})")
        return result
    assert isinstance(model, APT)
    result = _conclude(trainer, model, tokenizer, train, result)
    published = TrainedModel(model, tokenizer, trainer.directory.portable_model)
    if failure := push_final_model(published, trainer.config.hub):
        trainer.reporter.warning(failure, step=result.step)
        trainer.reporter.flush(durable=True)
    return result


def _make_ready(request: RunRequest) -> None:
    run_dir = request.config.run.run_dir
    if request.start_from is not None:
        start_from(run_dir, request.start_from)
    if request.resume and request.resume_from is None:
        refuse_absent_checkpoints(run_dir)


def _refuse_other_runs(ranks: Ranks, config: TrainingConfig, corpus: Corpus) -> None:
    """Machines that were started with other settings or other data would train together on nothing.

    Raises:
        ConfigError: on every rank alike.
    """
    all_of_them = ranks.gather((config.curve_hash(), corpus.fingerprint()))
    first = next((n for n, one in enumerate(all_of_them) if one != all_of_them[0]), None)
    other = ranks.broadcast(first)
    if other is not None:
        raise ConfigError(
            f"rank {other} was started with other settings or other data than rank 0; give every machine the same "
            "command, the same config file and the same data files"
        )


def _introduce(trainer: Trainer, corpus: Corpus, dataset: HLBDDataset, tokenizer: DynamicTagTokenizer) -> None:
    """Say what is about to be trained, on what and where."""
    config, ranks = trainer.config, trainer.ranks
    for line in corpus.describe():
        print(f"data    {line}")
    if contradictions := corpus.contradictions():
        print(
            f"warning: {len(contradictions)} questions are given with several answers, the first is "
            f"{contradictions[0]!r}; tools/diagnose_issues.py lists them"
        )
    if dataset.num_unknown:
        print(f"warning: {dataset.num_unknown} characters have no token and are read as [UNK]")
    if dataset.num_truncated:
        print(f"data    {dataset.num_truncated} samples cut, {dataset.num_left_out} of them whole")
    num_parameters = trainer.num_parameters
    print(
        f"model   APT {num_parameters:,} parameters ({config.model.attention} attention), "
        f"{tokenizer.vocab_size} tokens in the vocabulary"
    )
    shared = f", {ranks.world_size} ranks sharing {config.run.samples_per_update} samples an update"
    print(
        f"run     {config.run.run_dir} on {ranks.device}, {config.run.precision}, {trainer.total_steps} steps"
        f"{shared if ranks.world_size > 1 else ''}",
        flush=True,
    )
    if size := snapshot_bytes(config, trainer.total_steps, num_parameters):
        print(f"path    up to {as_size(size)} of weight snapshots in {config.run.run_dir / SNAPSHOTS_NAME}", flush=True)


def _conclude(
    trainer: Trainer, model: APT, tokenizer: DynamicTagTokenizer, train: list[Sample], result: RunResult
) -> RunResult:
    """Write the final model and show what it answers to its own training questions."""
    step = result.step
    if trainer.config.checkpoint.load_best_model_at_end:
        best = load_checkpoint(trainer.directory.best_checkpoint)
        model.load_state_dict(best["engine"]["model"])
        step = best["step"]
        print(f"best    the final model is that of step {step} (loss {best['loop']['best']:.4f})")
    save_final_model(trainer.directory, model, tokenizer, trainer.config, step)
    trainer.reporter.final_model(trainer.directory.portable_model, step)
    print(f"saved   {trainer.directory.final_model} and {trainer.directory.portable_model}/")
    asked = evenly_chosen(train, trainer.config.report.answer_samples)
    if not asked:
        return result
    started = time.perf_counter()
    answered = recite(model, tokenizer, asked)
    print(
        f"answers to {len(asked)} of {len(train)} training questions, generated freely "
        f"({time.perf_counter() - started:.1f} s):"
    )
    for line in table(answered):
        print(line)
    counts = accuracy_by_module(answered)
    trainer.reporter.recitation({module: {"right": r, "asked": n} for module, (r, n) in counts.items()})
    return RunResult(result.state, result.step, result.exit_code, {"recitation": counts})


def _facts(corpus: Corpus, tokenizer: DynamicTagTokenizer) -> dict[str, Any]:
    total = max(1, corpus.num_entries)
    return {
        "data": [
            {
                "file": f.path.name,
                "entries": f.entries,
                "samples": f.samples,
                "share": round(f.entries / total, 4),
            }
            for f in corpus.files
        ],
        "data_fingerprint": corpus.fingerprint(),
        "vocab_size": tokenizer.vocab_size,
    }
