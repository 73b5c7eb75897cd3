"""Cases of hostile input: command lines, files, environments and streams, each a pure function of (seed, number).

A case is run in a directory of its own, made from one template (`tests/hostile/sandbox.py`), and every name in here is
a name in that directory. No value leads out of it to a place that can be written.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# What the sandbox has besides the run: see `sandbox.make_template`.
USERS_FILE, USERS_DIRECTORY, FIFO, ENDLESS, DANGLING, LOOP = (
    "mine/notes.txt",
    "mine",
    "fifo",
    "zero",
    "dangling",
    "loop",
)
RUN, DATA, NEW_RUN = "run", "data.json", "new"
TEXTS_FILE, CHATS_FILE, MODEL, TEMPLATE = "texts.jsonl", "chats.jsonl", "llama", "template.jinja"

DEEP = 100_000
LONG_NUMBER = "1" * 5000


@dataclass(frozen=True)
class Change:
    """A file of the sandbox that is changed before the command starts.

    Args:
        path: where, below the sandbox; a missing parent is made.
        kind: "write" (content takes the place of what is there), "fifo", "endless" (a link to /dev/zero), "directory",
            "remove", or "link" (to the content, a path).
        content: bytes that are written, or the target of a link.
    """

    path: str
    kind: str
    content: bytes = b""


@dataclass(frozen=True)
class Case:
    """One hostile call.

    Args:
        number: its number under the seed.
        kind: one of `KINDS`.
        words: the script, below the repository's root, and its arguments.
        changes: files that are changed first.
        environment: variables that are set.
        streams: what the command writes to: "files" (read afterwards), "full" (/dev/full) or "closed".
    """

    number: int
    kind: str
    words: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    streams: str = "files"


TINY = (
    *("--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--d-ff", "16", "--batch-size", "8"),
    *("--answer-samples", "0", "--device", "cpu"),
)
TRAIN = ("train.py", "--datasets", DATA, *TINY, "--run-dir", NEW_RUN, "--max-steps", "2")
AZURE = (
    *("--backend", "azure", "--azure-subscription-id", "11111111-2222-3333-4444-555555555555"),
    *("--azure-resource-group", "group", "--azure-workspace-name", "workspace", "--compute-name", "cluster"),
)
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "dry run": (*TRAIN, "--dry-run"),
    "train": TRAIN,
    "resume": ("train.py", "--resume", RUN, "--max-steps", "6"),
    "start from": (*TRAIN, "--start-from", RUN),
    "explain": (*TRAIN, "--explain"),
    "transformers": (*TRAIN, "--backend", "huggingface"),
    "deepspeed dry run": (*TRAIN, "--backend", "deepspeed", "--dry-run"),
    "azure dry run": (*TRAIN, *AZURE, "--dry-run"),
    "verify": ("tools/verify_hlbd_model.py", "--model", RUN, "--dataset", DATA, "--device", "cpu"),
    "monitor": ("tools/monitor_all_trainings.py", ".", "--once"),
    "monitor as JSON": ("tools/monitor_all_trainings.py", RUN, "--json"),
    "diagnose": ("tools/diagnose_issues.py", RUN, "--datasets", DATA),
    "visualize": (
        *("tools/visualize_training.py", "--log-dir", RUN, "--mode", "offline", "--output", "out.png", "--dpi", "20"),
    ),
    "landscape": (
        *("tools/loss_landscape.py", RUN, "--budget", "1", "--resolution", "5", "--probe", "4", "--device", "cpu"),
    ),
    "export": ("tools/export_model.py", RUN, "--output", "exported"),
    "generate": ("tools/generate_hlbd_full.py", "--size", "16", "--output", "generated.json"),
    "generate hardcore": ("tools/generate_hlbd_hardcore.py", "--output", "hardcore.json"),
}
FEW_STEPS = ("--batch-size", "4", "--answer-samples", "0", "--device", "cpu", "--run-dir", NEW_RUN, "--max-steps", "2")
LANGUAGE: Mapping[str, tuple[str, ...]] = {
    "text": ("train.py", "--task", "text", "--datasets", TEXTS_FILE, *TINY, "--run-dir", NEW_RUN, "--max-steps", "2"),
    "chat": ("train.py", "--task", "chat", "--datasets", CHATS_FILE, *TINY, "--run-dir", NEW_RUN, "--max-steps", "2"),
    "text of a model": ("train.py", "--task", "text", "--datasets", TEXTS_FILE, "--model", MODEL, *FEW_STEPS),
    "chat with LoRA": ("train.py", "--task", "chat", "--datasets", CHATS_FILE, "--model", MODEL, "--lora", *FEW_STEPS),
    "chat, packed": (
        *("train.py", "--task", "chat", "--datasets", CHATS_FILE, "--model", MODEL, "--packing"),
        *FEW_STEPS,
    ),
}
"""Runs of language models; `Draw.flags` has the flags of each under its name."""
# Tools that end with 1 for what they found, as their help says.
FINDINGS = ("tools/diagnose_issues.py",)

NUMBERS = (
    *("0", "-0", "-1", "00", "1.5", "1e3", "1e308", "-1e308", "1e309", "1e-320", "nan", "-nan", "inf", "-inf"),
    *("1" + "0" * 18, "1" + "0" * 60, LONG_NUMBER, "1_000", "1,000", "0x10", "１２", "𝟙", "2147483648", "1" + "0" * 9),
)
TEXTS = (
    *(
        "",
        " ",
        "\t",
        "\n",
        "x\ny",
        "\x1b[31mred\x1b[0m",
        "\x07",
        "\u202ereversed",
        "é" * 300,
        "a" * 5000,
        "\udcff",
        "x\udcffy",
    ),
    *("none", "None", "null", "true", "[]", "{}", "- a", "a: b", "!!int abc", "$(id)", "`id`", "%s%n", "{0}", "*", "-"),
    *("--", "--help", "hlbd", "apt", "os:system", "no.such:Class", "training.errors:UserError", "../../etc/passwd:x"),
)
PATHS = (
    *(
        USERS_FILE,
        USERS_DIRECTORY,
        FIFO,
        ENDLESS,
        DANGLING,
        LOOP,
        RUN,
        DATA,
        ".",
        "..",
        "",
        " ",
        "~/x",
        "~no_such_user/x",
    ),
    *(f"{RUN}/config.yaml", f"{RUN}/progress.jsonl", f"{RUN}/final_model", f"{RUN}/final_model.pt", f"{DATA}/below"),
    *("a" * 300, "d/" * 1500 + "x", "new\nline", "esc\x1b[31m", "not utf-8 \udcff", "no/such/parent/x", "/dev/null"),
    *("/dev/full", "/proc/self/mem", "/proc/nothing", "link_to_mine", "link_to_run", f"{USERS_FILE}/below"),
)
VARIABLES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "SLURM_PROCID", "SLURM_NTASKS"),
        ("7", "abc", "0", "-1", "", "１", LONG_NUMBER),
    ),
    "MASTER_ADDR": ("", "no.such.host.invalid", "a b", "\x1b[31m"),
    "MASTER_PORT": ("xyz", "99999", "", "-1", "0"),
    "OMP_NUM_THREADS": ("0", "abc", "-1", ""),
    "COLUMNS": ("0", "-1", "abc", "1", LONG_NUMBER),
    "LC_ALL": ("C", "zz_ZZ", ""),
    "PYTHONIOENCODING": ("ascii", "latin-1"),
    "HOME": ("", "/nonexistent", FIFO),
    "XDG_CACHE_HOME": (FIFO, "", "/proc/nothing"),
    "TMPDIR": ("/nonexistent", "", FIFO),
    "MPLBACKEND": ("nonsense", ""),
    "TERM": ("", "dumb", "\x1b[31m"),
    "CUDA_VISIBLE_DEVICES": ("abc", "-1", ""),
    "ACCELERATE_MIXED_PRECISION": ("bf16", "nonsense"),
    "ACCELERATE_DYNAMO_BACKEND": ("inductor", "nonsense"),
    "ACCELERATE_USE_FSDP": ("true", "nonsense"),
    "ACCELERATE_USE_DEEPSPEED": ("true",),
    "HF_HUB_OFFLINE": ("nonsense",),
    "WANDB_MODE": ("nonsense",),
    "MLFLOW_TRACKING_URI": ("nonsense://x",),
    "DS_ACCELERATOR": ("nonsense",),
}
WRONG_JSON: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**18, 10**400, float("nan"), float("inf"), "", " ", "x\ny", "\x1b[31m", "\ud800"),
    *("１", "a" * 5000, [], {}, [[]], [None], {"": None}, {"\ud800": 1}, {"step": "x"}),
)
WRONG_YAML = (
    *("!!int abc", "!!float x", "!!bool 7", "!!timestamp x", "!!map x", "!!binary '%'", "!!python/object:os.system x"),
    *(
        "!!set {a, b}",
        "!!omap [a: 1]",
        "2026-13-45",
        "2026-11-30",
        "12:30:45",
        "0o17",
        "0b11",
        "1_000",
        "~",
        "''",
        ".nan",
    ),
    *(
        ".inf",
        "-.inf",
        LONG_NUMBER,
        "1e999",
        "[1, 2",
        "{a: b",
        "'open",
        '"\\ud800"',
        '"\\x1b[31m"',
        "*missing",
        "&a *a",
    ),
    *(
        "[&a [*a]]",
        "<<: *x",
        "? [a]",
        "|",
        "> folded",
        "%TAG",
        "@x",
        "`x`",
        "\t1",
        "- a",
        "a: b: c",
        "yes",
        "NO",
        "0x_1",
    ),
    *("[" * 3000 + "]" * 3000, "[" * DEEP, "- " * 3000 + "x", "é" * 5000, "a" * 200_000),
)
SETTINGS = (
    *(
        "learning_rate",
        "batch_size",
        "epochs",
        "run_dir",
        "datasets",
        "d_model",
        "schedule",
        "precision",
        "seed",
        "track",
    ),
    *("optimizer", "keep_best", "max_steps", "model", "task", "backend", "device", "attention", "save_steps", "resume"),
)
SECTIONS = (
    "run",
    "optimizer",
    "schedule",
    "data",
    "model",
    "checkpoint",
    "report",
    "launch",
    "track",
    "hub",
    "nonsense",
)


def hostile_case(seed: int, number: int, flags: Mapping[str, tuple[str, ...]]) -> Case:
    """Return case `number` of a seed; its kind is `number` modulo the number of kinds.

    Args:
        seed: of the whole series.
        number: of the case, from 0.
        flags: for each script the flags that take a value (`sandbox.flags_of_scripts`).
    """
    draw = random.Random(f"{seed}:{number}")
    kind = list(KINDS)[number % len(KINDS)]
    return KINDS[kind](Draw(draw, flags, number, kind))


@dataclass(frozen=True)
class Draw:
    """Source of random choices of one case."""

    random: random.Random
    flags: Mapping[str, tuple[str, ...]]
    number: int
    kind: str

    def command(self, *names: str) -> tuple[str, ...]:
        """One of these commands, all of `COMMANDS` if none is named."""
        return COMMANDS[self.random.choice(names or tuple(COMMANDS))]

    def case(self, words: tuple[str, ...], *changes: Change, **other: Any) -> Case:
        return Case(self.number, self.kind, words, changes, **other)


TRAINING = ("dry run", "train", "explain", "transformers", "deepspeed dry run", "azure dry run")
READING = (
    *("resume", "start from", "verify", "monitor", "monitor as JSON", "diagnose", "visualize", "landscape", "export"),
)


def _flags(draw: Draw) -> Case:
    words = draw.command()
    given = []
    for _ in range(draw.random.choice((1, 1, 2))):
        flag = draw.random.choice(draw.flags[words[0]])
        given += [f"{flag}={draw.random.choice(NUMBERS + TEXTS)}"]
    return draw.case((*words, *given))


def _words(draw: Draw) -> Case:
    """Words that are no flag, flags without a value, a flag given twice, words in another order."""
    words = list(draw.command())
    script, rest = words[0], words[1:]
    for _ in range(draw.random.randint(1, 3)):
        change = draw.random.randrange(5)
        place = draw.random.randint(0, len(rest))
        if change == 0:
            rest.insert(place, draw.random.choice(TEXTS + PATHS))
        elif change == 1:
            rest.insert(place, draw.random.choice(draw.flags[script]))
        elif change == 2 and rest:
            del rest[draw.random.randrange(len(rest))]
        elif change == 3 and rest:
            rest.insert(place, draw.random.choice(rest))
        else:
            flag = draw.random.choice(draw.flags[script])
            rest.insert(place, flag[: draw.random.randint(1, len(flag))] + draw.random.choice(("", "x", "=", "=é")))
    return draw.case((script, *rest))


def _paths(draw: Draw) -> Case:
    """A hostile path in place of one of the command's own, or for a flag that takes one."""
    words = list(draw.command())
    own = [
        i for i, word in enumerate(words) if word in (RUN, DATA, NEW_RUN, ".", "out.png", "exported", "generated.json")
    ]
    if own and draw.random.random() < 0.6:
        words[draw.random.choice(own)] = draw.random.choice(PATHS)
    else:
        path_flags = [
            flag
            for flag in draw.flags[words[0]]
            if any(
                part in flag
                for part in ("dir", "file", "config", "output", "figure", "json", "dataset", "from", "resume")
            )
        ]
        words += [draw.random.choice(path_flags), draw.random.choice(PATHS)]
    return draw.case(tuple(words))


def _yaml(draw: Draw) -> Case:
    words = (*draw.command(*TRAINING), "--config", "hostile.yaml")
    name, value = draw.random.choice(SETTINGS), draw.random.choice(WRONG_YAML)
    section = draw.random.choice(SECTIONS)
    documents = (
        f"{name}: {value}\n",
        f"{section}:\n  {name}: {value}\n",
        f"{section}: {value}\n",
        f"{value}\n",
        f"{value}: {name}\n",
        f"{name}: 1\n{name}: {value}\n",
        f"base: &base\n  {name}: {value}\nrun:\n  <<: *base\n",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        )
        + f"{name}: *i\n",
        f"--- {value}\n--- {value}\n",
        f"\ufeff{name}: {value}\n",
        f"{name}: {value}\0\n",
    )
    content = draw.random.choice(documents).encode("utf-8", "surrogatepass")
    if draw.random.random() < 0.15:
        content = draw.random.choice(
            (content.decode("utf-8", "replace").encode("utf-16"), _flipped(draw, content), b"\xff" + content)
        )
    return draw.case(words, Change("hostile.yaml", "write", content))


DEEPSPEED_FILE: dict[str, Any] = {
    "train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "gradient_clipping": 1.0,
    "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8}},
    "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 5}},
    "bf16": {"enabled": False},
}


def _deepspeed_file(draw: Draw) -> Case:
    content = _damaged_json(draw, json.dumps(DEEPSPEED_FILE).encode())
    words = (*COMMANDS["deepspeed dry run"], "--deepspeed-config", "ds.json")
    return draw.case(words, Change("ds.json", "write", content))


def _data_file(draw: Draw) -> Case:
    words = list(draw.command("dry run", "train", "verify", "diagnose", "explain", "azure dry run"))
    rows = [{"input": f"{i} + 1 = ?", "output": str(i + 1)} for i in range(12)]
    levels = {"level_1": {"字卡": "水", "emoji": "💧"}, "level_2": {"短语": "喝水"}}
    document = {
        "metadata": {"name": "x"},
        **draw.random.choice(
            (
                {"data": {"m": rows}},
                {"samples": [{"concept": f"水{i}", **copy.deepcopy(levels)} for i in range(4)]},
            )
        ),
    }
    content = json.dumps(document, ensure_ascii=draw.random.random() < 0.5).encode("utf-8", "surrogatepass")
    other_formats = (
        b"question,answer\n1,2\n",
        b'{"text": "a"}\n{"text": "b"}\n',
        b"just words\n",
        b"PAR1\0\0\0\0PAR1",
        b"\x1f\x8b\x08\0\0",
        b"PK\x03\x04",
        b"",
        b"\0" * 4096,
    )
    content = draw.random.choice(other_formats) if draw.random.random() < 0.15 else _damaged_json(draw, content)
    return draw.case(tuple(words), Change(DATA, "write", content))


def _own_file(draw: Draw) -> Case:
    """One file of the finished run, damaged; `sandbox` says which there are."""
    return draw.case(draw.command(*READING), *_damage_of_a_run(draw))


OWN_FILES = (
    *("config.yaml", "progress.jsonl", "experiment_report.json", "final_model.pt", ".lock"),
    *("final_model/config.json", "final_model/model.safetensors", "final_model/manifest.json"),
    *(
        f"checkpoint_epoch_2/{name}"
        for name in ("state.json", "manifest.json", "model.safetensors", "optimizer.safetensors")
    ),
    *(f"checkpoint_epoch_1/{name}" for name in ("state.json", "manifest.json", "model.safetensors")),
    *("checkpoint_epoch_2", "checkpoint_epoch_1", "final_model", "snapshots"),
)


def _damage_of_a_run(draw: Draw) -> list[Change]:
    path = f"{RUN}/{draw.random.choice(OWN_FILES)}"
    kind = draw.random.choice(("edit",) * 8 + ("fifo", "endless", "directory", "remove", "link"))
    if kind == "link":
        return [Change(path, "link", f"../{USERS_FILE}".encode())]
    if kind != "edit":
        return [Change(path, kind)]
    # The content is that of the template: `sandbox.apply` asks for it with this seed.
    return [Change(path, "edit", str(draw.random.getrandbits(64)).encode())]


def edited(content: bytes, seed: bytes, is_json: bool) -> bytes:
    """Return a file's content, damaged in a way that the seed decides."""
    draw = Draw(random.Random(seed.decode()), {}, 0, "")
    lines = content.splitlines(keepends=True)
    if is_json and len(lines) > 3 and lines[0].startswith(b"{") and lines[0].rstrip().endswith(b"}"):  # JSON lines
        place = draw.random.randrange(len(lines))
        lines[place] = _damaged_json(draw, lines[place].rstrip(b"\n")) + b"\n"
        return b"".join(lines)
    return _damaged_json(draw, content) if is_json else _damaged_bytes(draw, content)


def _environment(draw: Draw) -> Case:
    names = draw.random.sample(sorted(VARIABLES), draw.random.randint(1, 3))
    environment = {name: draw.random.choice(VARIABLES[name]) for name in names}
    return draw.case(draw.command(), environment=environment)


def _streams(draw: Draw) -> Case:
    return draw.case(draw.command(), streams=draw.random.choice(("full", "closed")))


def _language_flags(draw: Draw) -> Case:
    name = draw.random.choice(tuple(LANGUAGE))
    given = []
    for _ in range(draw.random.choice((1, 1, 2))):
        value = draw.random.choice(draw.random.choice((NUMBERS, TEXTS, PATHS, WORDS_OF_LANGUAGE)))
        given.append(f"{draw.random.choice(draw.flags[name])}={value}")
    return draw.case((*LANGUAGE[name], *given))


WORDS_OF_LANGUAGE = (
    *("chatml", "llama3", "gemma", "plain", "bpe", "characters", "assistant", "last", "completion", "all", "messages"),
    *(
        "alpaca",
        "all-linear",
        "q_proj",
        "lm_head",
        "embed_tokens",
        "*",
        "model.layers.0*",
        MODEL,
        f"{MODEL}/config.json",
    ),
    *(TEXTS_FILE, CHATS_FILE, "no/such", "a/b/c", "4", "8", "16", "300", "0.5"),
)


def _conversation(number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"hi {number}"}, {"role": "assistant", "content": f"yo {number}"}]


ROWS: Mapping[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "text": ("text", lambda n: {"text": f"hello world {n} " * 9}),
    "tokens": ("text of a model", lambda n: {"input_ids": [1, 5, 6, 7 + n], "labels": [-100, 5, 6, 7 + n]}),
    "messages": ("chat", lambda n: {"messages": _conversation(n)}),
    "tools": ("chat", lambda n: {"messages": _conversation(n), "tools": [{"type": "function", "name": "f"}]}),
    "sharegpt": ("chat", lambda n: {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}),
    "alpaca": ("chat with LoRA", lambda n: {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]}),
    "prompt": ("chat, packed", lambda n: {"prompt": f"a {n}", "completion": "b", "system": "s"}),
    "question": ("chat", lambda n: {"question": "a", "answer": "b"}),
}  # fmt: skip
"""Form of rows -> (the command that reads them, a row)."""


def _rows(draw: Draw) -> Case:
    """A file of rows of which one is damaged, or the whole file."""
    command, make = ROWS[draw.random.choice(tuple(ROWS))]
    rows = [json.dumps(make(number), ensure_ascii=draw.random.random() < 0.5).encode() for number in range(8)]
    form = draw.random.choice(("jsonl", "jsonl", "jsonl", "json", "csv", "txt", "parquet", "jsonl.gz"))
    damaged = draw.random.randrange(len(rows))
    rows[damaged] = _damaged_json(draw, rows[damaged])
    content = b"\n".join(rows) + b"\n"
    if form == "json":
        content = b"[" + b",".join(rows) + b"]"
    if form == "csv":
        content = b"text,question,answer\n" + b"a,b,c\n" * 6 + rows[damaged] + b"\n"
    if form == "jsonl.gz":
        content = _damaged_bytes(draw, gzip.compress(content, mtime=0))
    if draw.random.random() < 0.15:
        content = _damaged_bytes(draw, content)
    name = f"rows.{form}"
    words = tuple(name if word in (TEXTS_FILE, CHATS_FILE) else word for word in LANGUAGE[command])
    return draw.case(words, Change(name, "write", content))


PIECES = (
    *("{% for m in messages %}", "{% endfor %}", "{% if m.role == 'user' %}", "{% else %}", "{% endif %}"),
    *(
        "{{ m.role }}",
        "{{ m.content }}",
        "{{ m['content'] }}",
        "{{ messages }}",
        "{{ messages[0].content }}",
        "{{ x.y }}",
    ),
    *("<|im_start|>", "<|im_end|>", "\n", "{{ eos_token }}", "{{ bos_token }}", "{{ ''.__class__ }}", "{{ 1 / 0 }}"),
    *("{% generation %}", "{% endgeneration %}", "{{ raise_exception('no') }}", "{{ strftime_now('%Y') }}", "\x1b[31m"),
    *("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "{{ tools }}", "{{ m.content|upper }}"),
    *("{{ range(10**9) }}", "{{ 'a' * 10**12 }}", "{% set m = 3 %}", "{# ", "{{", "%}", "{% include 'a' %}", "\0"),
)
WHOLE_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _template(draw: Draw) -> Case:
    """A chat template with pieces put in or taken out."""
    parts = re.split(r"(?<=\})", WHOLE_TEMPLATE)
    for _ in range(draw.random.randint(1, 4)):
        place = draw.random.randint(0, len(parts) - 1)
        if draw.random.random() < 0.3:
            del parts[place]
        else:
            parts.insert(place, draw.random.choice(PIECES))
        parts = parts or [""]
    content = "".join(parts).encode()
    if draw.random.random() < 0.1:
        content = _damaged_bytes(draw, content)
    words = LANGUAGE[draw.random.choice(("chat", "chat with LoRA", "chat, packed"))]
    if words == LANGUAGE["chat"] or draw.random.random() < 0.5:
        return draw.case((*words, "--chat-template", TEMPLATE), Change(TEMPLATE, "write", content))
    return draw.case(words, Change(f"{MODEL}/chat_template.jinja", "write", content))


MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors")


def _model(draw: Draw) -> Case:
    """A model's directory with a damaged file."""
    path = f"{MODEL}/{draw.random.choice(MODEL_FILES)}"
    kind = draw.random.choice(("edit",) * 12 + ("fifo", "endless", "directory", "remove"))
    words = LANGUAGE[draw.random.choice(("text of a model", "chat with LoRA", "chat, packed"))]
    content = str(draw.random.getrandbits(64)).encode() if kind == "edit" else b""
    return draw.case(words, Change(path, kind, content))


def _flipped(draw: Draw, content: bytes) -> bytes:
    if not content:
        return b"\x80"
    flipped = bytearray(content)
    flipped[draw.random.randrange(len(flipped))] ^= 1 << draw.random.randrange(8)
    return bytes(flipped)


def _damaged_bytes(draw: Draw, content: bytes) -> bytes:
    choices: tuple[Callable[[], bytes], ...] = (
        lambda: _flipped(draw, content),
        lambda: content[: draw.random.randint(0, len(content))],
        lambda: b"",
        lambda: draw.random.randbytes(200),
        lambda: content + b"\0" * 64,
        lambda: b"[" * DEEP,
        lambda: b"{}",
    )
    return draw.random.choice(choices)()


def _damaged_json(draw: Draw, content: bytes) -> bytes:
    """Return the document with one node replaced, one key gone or one key new; sometimes damaged bytes."""
    if draw.random.random() < 0.2:
        return _damaged_bytes(draw, content)
    try:
        document = json.loads(content)
    except ValueError:
        return _damaged_bytes(draw, content)
    nodes: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            nodes.append((node, key))
            walk(node[key])

    walk(document)
    if not nodes:
        return _damaged_bytes(draw, content)
    parent, key = draw.random.choice(nodes)
    change = draw.random.randrange(4)
    if change == 0:
        del parent[key]
    elif change == 1 and isinstance(parent, dict):
        parent[draw.random.choice(("", "unknown", "\ud800", "x\ny", key + " ") if isinstance(key, str) else ("",))] = (
            parent.pop(key)
        )
    else:
        parent[key] = copy.deepcopy(draw.random.choice(WRONG_JSON))
    text = json.dumps(document)
    if change == 3:
        text = text.replace("null", "[" * DEEP, 1)
    return text.encode("utf-8", "surrogatepass")


KINDS: Mapping[str, Callable[[Draw], Case]] = {
    "flags": _flags,
    "words": _words,
    "paths": _paths,
    "yaml": _yaml,
    "deepspeed file": _deepspeed_file,
    "data file": _data_file,
    "own file": _own_file,
    "environment": _environment,
    "streams": _streams,
    "flags of language models": _language_flags,
    "rows": _rows,
    "template": _template,
    "model": _model,
}
