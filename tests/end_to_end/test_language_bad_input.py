"""Bad input to language models through the front door: one line with place and remedy, exit code 2, nothing harmed."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import FrontDoor, Outcome
from tests.support.language_data import tiny_model
from training.tasks.chat import template as chat_template

pytestmark = pytest.mark.slow

SMALL = ("--batch-size", "4", "--max-steps", "1", "--device", "cpu", "--answer-samples", "0")
APT = ("--model", "apt", "--d-model", "16", "--num-layers", "1", "--num-heads", "2", "--d-ff", "16")
LLAMA = ("--model", "llama")
"""A copy of the tiny model, which the sandbox has."""
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")
RED = "\x1b[31m"

Row = dict[str, Any]


def user(text: Any) -> Row:
    return {"role": "user", "content": text}


def answer(text: Any, **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def chat(*messages: Any) -> Row:
    return {"messages": list(messages)}


CHATS = [chat(user(f"hi {i}"), answer("yo")) for i in range(8)]
TEXTS = [{"text": f"hello world {i} " * 9} for i in range(8)]


def lines(rows: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@dataclass(frozen=True)
class Case:
    """A command line that is refused.

    Args:
        name: of the case.
        flags: of train.py, after those that make a run small.
        told: parts of the line that the user reads, in their order.
        files: name -> content, written first.
        change: called in the sandbox before the command.
        environment: variables that are set.
    """

    name: str
    flags: tuple[str, ...]
    told: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    change: Callable[[], object] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)


def text(name: str, content: bytes | Sequence[Any], *told: str, flags: Sequence[str] = (), file: str = "d.jsonl",
         model: Sequence[str] = APT) -> Case:  # fmt: skip
    data = content if isinstance(content, bytes) else lines(content)
    return Case(f"text: {name}", ("--task", "text", "--datasets", file, *model, *flags), told, {file: data})


def chats(name: str, content: bytes | Sequence[Any], *told: str, flags: Sequence[str] = (), file: str = "d.jsonl",
          model: Sequence[str] = APT) -> Case:  # fmt: skip
    data = content if isinstance(content, bytes) else lines(content)
    return Case(f"chat: {name}", ("--task", "chat", "--datasets", file, *model, *flags), told, {file: data})


def bad_row(name: str, row: Any, *told: str) -> Case:
    """Return a case of a chat file whose ninth row is bad."""
    return chats(name, [*CHATS, row], "d.jsonl, line 9: ", *told)


def template(name: str, content: str | bytes, *told: str, flags: Sequence[str] = ()) -> Case:
    data = content.encode() if isinstance(content, str) else content
    given = ("--task", "chat", "--datasets", "d.jsonl", *APT, "--chat-template", "t.jinja", *flags)
    return Case(f"template: {name}", given, told, {"d.jsonl": lines(CHATS), "t.jinja": data})


def place(name: str, datasets: str, change: Callable[[], object], *told: str, **environment: str) -> Case:
    flags = ("--task", "text", "--datasets", datasets, *APT)
    return Case(f"datasets: {name}", flags, told, {}, change, environment)


def model(name: str, change: Callable[[Path], object], *told: str, flags: Sequence[str] = ()) -> Case:
    """Return a case of a tiny model whose directory was changed."""
    given = ("--task", "chat", "--datasets", "d.jsonl", *LLAMA, *flags)
    return Case(f"model: {name}", given, told, {"d.jsonl": lines(CHATS)}, lambda: change(Path("llama")))


def config(name: str, document: str, *told: str, flags: Sequence[str] = ()) -> Case:
    content = document.replace("DIR", "llama").encode()
    return Case(f"YAML: {name}", ("--config", "c.yaml", *flags), told, {"d.jsonl": lines(CHATS), "c.yaml": content})


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes one away."""
    document = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in document.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def replace(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")


def renamed_weights(directory: Path) -> None:
    path = directory / "model.safetensors"
    save_file({f"x.{name}": tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})


def without_tokenizer(directory: Path) -> None:
    for path in directory.glob("tokenizer*"):
        path.unlink()


def pipe_in_a_directory() -> None:
    Path("x").mkdir()
    os.mkfifo("x/a.txt")


def dead_link_in_a_directory() -> None:
    Path("x").mkdir()
    Path("x/a.txt").symlink_to("gone")


def adapter_without_base(_: Path) -> None:
    Path("a").mkdir()
    replace(Path("a/adapter_config.json"), "{}")


DEEP: Row = {}
for _ in range(200):
    DEEP = {"a": DEEP}
LINE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"

FILES = [
    text("no rows", b"", "d.jsonl: the file holds no rows"),
    text("blank lines", b"\n\n\n", "d.jsonl: the file holds no rows"),
    text("no JSON", b"hello\n", "d.jsonl, line 1: not valid JSON at column 1"),
    text("rows of numbers", b"1\n", "d.jsonl, line 1: a row is an object"),
    text("no keys", b"{}\n", "d.jsonl, line 1: ", "--text-column"),
    text("no ending", b"hello", "d: the name has no ending", ".jsonl", file="d"),
    text("UTF-16", '{"text": "é"}\n'.encode("utf-16"), "d.jsonl, line 1: not UTF-8", "iconv -f UTF-16"),
    text("GB18030", '{"text": "\u6c34\u597d\u4e86"}\n'.encode("gb18030"), "d.jsonl, line 1: not UTF-8", "iconv"),
    text("Latin-1 in a table", "text\ncafé\n".encode("latin-1"), "d.csv, line 2: not UTF-8", "iconv", file="d.csv"),
    text("a zero byte in a table", b"text\na\0b\n", "d.csv, line 2: ", "zero byte", file="d.csv"),
    text("a short row of a table", b"a,text\n1,2\n3\n", "d.csv, row 2 below the header", file="d.csv"),
    text("a column twice", b"text,text\na,b\n", "d.csv: two columns", "'text'", file="d.csv"),
    text("damaged parquet", b"PAR1\0\0\0\0PAR1", "d.parquet: it cannot be read as Parquet", file="d.parquet"),
    text("damaged gzip", b"\x1f\x8b\x08\0\0", "d.jsonl.gz: it cannot be unpacked", file="d.jsonl.gz"),
    text("nested without end", b"[" * 100_000, "d.jsonl, line 1: JSON nested too deeply"),
    text("a number without end", b'{"text": %s}\n' % (b"1" * 6000), "d.jsonl, line 1: a number is too long"),
    text("a key twice", b'{"text": "a", "text": "b"}\n', "d.jsonl, line 1: 'text' is given twice"),
    text("NaN", b'{"text": NaN}\n', "d.jsonl, line 1: 'text' is NaN"),
    text("half a character", b'{"text": "a\\ud800b"}\n', "d.jsonl, line 1: 'text' holds half of a surrogate pair"),
    text("an escape code for a key", b'{"\\u001b[31mred": "a"}\n', "d.jsonl, line 1: ", "'\\x1b[31mred'"),
    text("a column that is missing in row 70,000", [{"text": "ab"}] * 69_999 + [{"txt": "ab"}],
         "d.jsonl, line 70,000: no 'text'; its keys are 'txt'"),
    text("null", [*TEXTS, {"text": None}], "d.jsonl, line 9: 'text' must be a text, not null"),
    text("mixed types", [*TEXTS, {"text": 3}], "d.jsonl, line 9: 'text' must be a text, not a number (3)"),
    text("empty texts", [{"text": ""}] * 3, "d.jsonl: every text in it is empty"),
    text("two columns of text", [{"text": "a", "content": "b"}], "d.jsonl, line 1: has 'text' and 'content'"),
    text("a wrong column", TEXTS, "--text-column txet", "did you mean 'text'?", flags=["--text-column", "txet"]),
    text("an escape code for a column", TEXTS, r"--text-column \x1b[31m", flags=["--text-column", RED]),
    text("tokens without a tokenizer", [{"input_ids": [1, 2]}], "d.jsonl, line 1: ", "--tokenizer DIR"),
    text("a token that is none", [{"input_ids": [1, 10**30]}], "line 1: token 1000000", "0 to 399", model=LLAMA),
    text("no numbers for tokens", [{"input_ids": [True, False]}], "line 1: 'input_ids' should be", model=LLAMA),
    text("other labels", [{"input_ids": [1, 2, 3], "labels": [1, 5, 3]}], "line 1: label 1 is 5", model=LLAMA),
    text("no trained label", [{"input_ids": [1, 2, 3], "labels": [-100] * 3}] * 6, "d.jsonl: no token of its 6 rows",
         model=LLAMA),
    text("texts among tokens", [{"input_ids": [1, 2]}, {"text": "a"}], "d.jsonl, line 2: 'input_ids'", model=LLAMA),
    text("a vocabulary too small for bytes", TEXTS, "vocab_size=10 is too small", "--vocab-size",
         flags=["--vocab-size", "10"]),
    text("no vocabulary", TEXTS, "vocab_size = '0' (from --vocab-size)", flags=["--vocab-size", "0"]),
    text("a huge vocabulary", TEXTS, "vocab_size = '99999999' (from", flags=["--vocab-size", "99999999"]),
    text("a split that leaves nothing", TEXTS[:1], "validation_split=0.5", flags=["--validation-split", "0.5"]),
    text("a share of all", TEXTS, "validation_split = '1' (from", flags=["--validation-split", "1"]),
    text("no samples shown", TEXTS, "show_batch = '-1' (from --show-batch)", flags=["--show-batch", "-1"]),
    text("no tokenizer in a directory", TEXTS, "--tokenizer .: ", flags=["--tokenizer", "."]),
    text("a data file for a tokenizer", TEXTS, "--tokenizer d.jsonl: this is a file", flags=["--tokenizer", "d.jsonl"]),
    text("a flag of chats", TEXTS, "--chat-template belongs to --task chat", flags=["--chat-template", "chatml"]),
    text("a flag of LoRA", TEXTS, "--lora belongs to --model huggingface", flags=["--lora"]),
    text("a flag of APT", TEXTS, "--d-model belongs to --model apt", model=LLAMA, flags=["--d-model", "16"]),
    chats("a flag of texts", CHATS, "--text-column belongs to --task text", flags=["--text-column", "a"]),
    chats("texts", TEXTS, "d.jsonl: no chat format has these keys: text"),
    chats("another encoding", '{"question": "é"}\n'.encode("latin-1"), "error: d.jsonl, line 1: not UTF-8"),
    chats("a misspelt --loss-on", CHATS, "loss_on = 'asistant' (from --loss-on)", flags=["--loss-on", "asistant"]),
    chats("two formats", [{"instruction": "a", "output": "b", "prompt": "c", "completion": "d"}] * 3,
          "alpaca and prompt_completion", "--chat-format alpaca|prompt_completion"),
    chats("another format in row 4", [*CHATS[:3], {"instruction": "a", "output": "b"}], "messages and, in row 4"),
    chats("a format that the rows do not have", CHATS, "d.jsonl, line 1: instruction is missing",
          flags=["--chat-format", "alpaca"]),
    chats("no message is any", [chat(3)] * 3, "d.jsonl, line 1: messages[0] should be a mapping"),
    chats("only nulls", [{"messages": None}] * 3, "d.jsonl, line 1: 'messages' is null"),
    chats("nothing trained", [chat(user("x"), answer("y", weight=0))] * 6, "no token of the 6 rows is trained"),
    chats("a row too long", [*CHATS, chat(user("x"), answer("words " * 400))], "1 rows are longer than max_seq_len=96",
          "d.jsonl, line 9", "--truncate", flags=["--max-seq-len", "96"]),
    chats("--max-seq-len below every row", CHATS, "8 rows are longer than max_seq_len=4", "d.jsonl, line 1",
          flags=["--max-seq-len", "4"]),
    chats("every answer cut", [chat(user("x " * 300), answer("y"))], "no token of the 1 rows is trained: 1 are cut",
          flags=["--truncate", "--max-seq-len", "8"]),
    bad_row("an unknown role", chat({"role": "bot", "content": "x"}, answer("y")), "messages[0].role: ", "'bot'"),
    bad_row("an escape code for a role", chat({"role": RED, "content": "x"}, answer("y")), r"'\x1b[31m'"),
    bad_row("two assistants", chat(user("x"), answer("y"), answer("z")), "messages 2 and 3 are both of the assistant"),
    bad_row("two users", chat(user("x"), user("y"), answer("z")), "messages 1 and 2 are both of the user"),
    bad_row("an empty conversation", chat(), "messages is empty"),
    bad_row("nobody answers", chat(user("x")), "no message of the assistant"),
    bad_row("nobody answers last", chat(user("x"), answer("y"), user("z")), "ends with a message of the user"),
    bad_row("no text", chat(user("x"), answer(None)), "messages[1].content: ", "empty"),
    bad_row("a blank text", chat(user("x"), answer("  ")), "messages[1].content: ", "blank"),
    bad_row("a number for a text", chat(user("x"), answer(3)), "messages[1].content should be a text, not 3"),
    bad_row("NaN for a text", chat(user("x"), answer(float("nan"))), "'messages[1].content' is NaN"),
    bad_row("a picture", chat(user("x"), answer([{"type": "image"}])), "messages[1].content[0] should be"),
    bad_row("a text for messages", {"messages": "abc"}, "messages should be a list of messages, not 'abc'"),
    bad_row("another column", {"foo": 1}, "'messages' is missing (the row has foo)"),
    bad_row("half a character", chat(user("x"), answer("a\ud800b")), "half of a surrogate pair"),
    bad_row("a nested tool", {**CHATS[0], "tools": [DEEP]}, "nested more than 64 levels deep"),
    bad_row("tools that are no JSON", {**CHATS[0], "tools": "[{"}, "tools should be a list of JSON schemas"),
    bad_row("a weight of two", chat(user("x"), answer("y", weight=2)), "messages[1].weight = 2"),
]  # fmt: skip

PLACES = [
    Case("no data", ("--task", "chat", *APT), ("--task chat needs data", "--datasets")),
    place("a missing file", "nope.jsonl", lambda: None, "--datasets nope.jsonl: no such file"),
    place("an empty name", "", lambda: None, "--datasets", "is empty"),
    place("a pipe", "p.jsonl", lambda: os.mkfifo("p.jsonl"), "--datasets p.jsonl: ", "no regular file"),
    place("a device", "/dev/null", lambda: None, "--datasets /dev/null: ", "no regular file"),
    place("a link to a device", "z.txt", lambda: Path("z.txt").symlink_to("/dev/zero"), "no regular file"),
    place("a link to itself", "l.txt", lambda: Path("l.txt").symlink_to("l.txt"), "--datasets l.txt: "),
    place("a link to nothing", "l.txt", lambda: Path("l.txt").symlink_to("gone"), "--datasets l.txt: no such file; "),
    place("an empty directory", "x", lambda: Path("x").mkdir(), "x: no data files in this directory"),
    place("a pipe in a directory", "x", pipe_in_a_directory, "x/a.txt: ", "a pipe"),
    place("a dead link in a directory", "x", dead_link_in_a_directory, "x/a.txt: ",
          "leads nowhere"),
    place("a name with a zero byte", "a\0b.txt", lambda: None, r"--datasets a\x00b.txt: "),
    place("a name that is no UTF-8", "a\udcff.txt", lambda: None, r"a\udcff.txt: no such file"),
    place("an escape code in a name", f"{RED}.txt", lambda: None, r"\x1b[31m.txt: no such file"),
    place("a name of 300 letters", "a" * 300, lambda: None, "File name too long"),
    Case("a taken run directory", ("--task", "text", "--datasets", "nope", *APT), ("--datasets nope: no such file",)),
]  # fmt: skip

TEMPLATES = [
    template("empty", "", "--chat-template t.jinja: the file is empty"),
    template("another encoding", b"\xe9", "--chat-template t.jinja: not UTF-8 at byte 0"),
    template("no Jinja", "{% for m in %}", "t.jinja, line 1: ", "no valid Jinja"),
    template("that raises", "{{ raise_exception('no \x1b[31m') }}", "d.jsonl, line 1: t.jinja refuses", r"no \x1b[31m"),
    template("of a text alone", "always the same", "d.jsonl, line 1: ", "choose another template"),
    template("without the answers", "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
             "d.jsonl, line 1: ", "choose another template"),
    template("in reverse", "{% for m in messages[::-1] %}{{ m.role }}: {{ m.content }}{% endfor %}", "d.jsonl, line 1"),
    template("by chance", "{% for m in messages %}{{ m.content }}{{ range(9999)|random }};{% endfor %}", "line 1: "),
    template("that reaches for Python", "{{ ''.__class__.__mro__[1].__subclasses__() }}" + LINE, "d.jsonl, line 1: ",
             "access to attribute '__class__'", "unsafe"),
    template("that reaches for globals", "{{ cycler.__init__.__globals__ }}" + LINE, "d.jsonl, line 1: ", "unsafe"),
    template("that reads a file", "{% include '/etc/passwd' %}" + LINE, "d.jsonl, line 1: t.jinja fails"),
    template("with a large range", "{% for i in range(10**9) %}{% endfor %}" + LINE, "d.jsonl, line 1: ", "too big"),
    template("that never ends", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}" + LINE,
             "t.jinja does not end", "--chat-template"),
    template("that writes without end", "{{ 'a' * 10**12 }}" + LINE, "d.jsonl, line 1: t.jinja fails", "MemoryError"),
    template("that writes too much", "{{ 'a' * 20000 }}" + LINE, "d.jsonl, line 1: t.jinja fails", "may write 10,000"),
    template("that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + LINE, "RecursionError"),
    template("with deep brackets", f"{{{{ {'(' * 5000}1{')' * 5000} }}}}", "t.jinja: Jinja cannot read it"),
    template("of megabytes", b"a" * 2_000_000, "--chat-template t.jinja: larger than"),
    template("with tags around the prompt",
             LINE.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}"),
             "d.jsonl, line 1: the two readings of the loss mask differ"),
    Case("template: unknown", ("--task", "chat", "--datasets", "d.jsonl", *APT, "--chat-template", "chatlm"),
         ("--chat-template chatlm: ", "did you mean 'chatml'?"), {"d.jsonl": lines(CHATS)}),
]  # fmt: skip

MODELS = [
    model("a damaged tokenizer", lambda at: cut(at / "tokenizer.json"), "--model llama: no tokenizer can be read"),
    model("a tokenizer of a list", lambda at: replace(at / "tokenizer.json", "[" * 9000), "no tokenizer can be read"),
    model("no end token", lambda at: edit(at / "tokenizer_config.json", eos_token=None), "no end token (eos_token)",
          "tokenizer_config.json"),
    model("a number for a template", lambda at: edit(at / "tokenizer_config.json", chat_template=5),
          "the tokenizer's chat template is a int", "--chat-template"),
    model("a broken template", lambda at: replace(at / "chat_template.jinja", "{% for %}"), "chat template, line 1"),
    model("a vocabulary of other rows", lambda at: edit(at / "config.json", vocab_size=10), "10"),
    model("half a character in its tokenizer", lambda at: edit(at / "tokenizer_config.json", padding_note="\ud800"),
          "hold half of a character", "tokenizer_config.json"),
    model("no JSON for a config", lambda at: replace(at / "config.json", "{"), "llama/config.json: damaged"),
    model("a list for a config", lambda at: replace(at / "config.json", "[]"), "llama"),
    model("an unknown architecture", lambda at: edit(at / "config.json", model_type=RED), r"\x1b[31m"),
    model("another architecture", lambda at: edit(at / "config.json", model_type="gpt2"), "--model llama: ", "tensors"),
    model("another width", lambda at: edit(at / "config.json", hidden_size=64), "--model llama: "),
    model("one layer more", lambda at: edit(at / "config.json", num_hidden_layers=3), "9 tensors", "random numbers"),
    model("an impossible dropout", lambda at: edit(at / "config.json", attention_dropout=2.0),
          "attention_dropout = 2.0 "),
    model("no weights", lambda at: (at / "model.safetensors").unlink(), "--model llama: the model cannot be built"),
    model("cut weights", lambda at: cut(at / "model.safetensors"), "--model llama: the model cannot be built"),
    model("other weights", renamed_weights, "--model llama: 21 tensors", "random numbers"),
    model("Python code of a stranger",
          lambda at: edit(at / "config.json", model_type="mine", auto_map={"AutoConfig": "evil.C"}), "--model llama: "),
    model("a context that is too long", lambda at: None, "max_seq_len=4000 is longer", "256", "--max-seq-len",
          flags=["--max-seq-len", "4000"]),
    model("another vocabulary", lambda at: None, "vocab_size=500", "400 rows", flags=["--vocab-size", "500"]),
    model("tokens of a template", lambda at: None, "403 tokens", "400 rows", "--resize-embeddings",
          flags=["--chat-template", "llama3"]),
    model("LoRA on nothing", lambda at: None, "--lora-targets q_prj: ", "did you mean 'q_proj'?", "o_proj",
          flags=["--lora", "--lora-targets", "q_prj"]),
    model("LoRA on an escape code", lambda at: None, r"--lora-targets \x1b[31m: ", "q_proj",
          flags=["--lora", "--lora-targets", RED]),
    model("LoRA saves nothing", lambda at: None, "--lora-modules-to-save nope: ", "lm_head",
          flags=["--lora", "--lora-modules-to-save", "nope"]),
    model("a rank without LoRA", lambda at: None, "lora_rank needs lora", flags=["--lora-rank", "4"]),
    model("nothing frozen", lambda at: None, "--freeze zz*: no parameter", flags=["--freeze", "zz*"]),
    model("everything frozen", lambda at: None, "--freeze *: nothing is left to train", flags=["--freeze", "*"]),
    model("a file for a model", lambda at: None, "--model d.jsonl: a model is a directory",
          flags=["--model", "d.jsonl"]),
    model("an empty directory", lambda at: Path("e").mkdir(), "--model e: there is no model", flags=["--model", "e"]),
    model("no such directory", lambda at: None, "--model ./llame: there is no such directory", "'llama'",
          flags=["--model", "./llame"]),
    model("no model named", lambda at: None, "--model huggingface: which model?", flags=["--model", "huggingface"]),
    model("an adapter without a base", adapter_without_base,
          "a/adapter_config.json", flags=["--model", "a"]),
]  # fmt: skip

CONFIGS = [
    config("a number for a model", "task: chat\nmodel: 3\ndatasets: [d.jsonl]\n", "c.yaml: model = 3"),
    config("no model", "task: chat\nmodel:\ndatasets: [d.jsonl]\n", "model = None (from c.yaml)"),
    config("a list for a task", "task: [chat]\nmodel: DIR\n", "c.yaml: task = ['chat']"),
    config("a misspelt task", "task: chta\nmodel: DIR\n", "did you mean 'chat'?"),
    config("numbers for data", "task: chat\nmodel: DIR\ndatasets: [3]\n", "datasets = 3 (from c.yaml)"),
    config("a mapping for data", "task: chat\nmodel: DIR\ndatasets: {path: a}\n", "datasets = {'path': 'a'} (from c"),
    config("a word for LoRA", "task: chat\nmodel: DIR\nlora: maybe\n", "lora = 'maybe' (from c.yaml)"),
    config("no targets", "task: chat\nmodel: DIR\nlora: true\nlora_targets: []\n", "lora_targets = [] (from c.yaml)"),
    config("a key of another task", "task: chat\nmodel: DIR\ntext_column: a\n", "'text_column'", "--task text"),
    config("a key of nobody", "task: chat\nmodel: DIR\nlora_rnk: 3\n", "'lora_rnk'", "did you mean 'lora_rank'?"),
    config("Axolotl's keys", "base_model: DIR\nadapter: lora\n", "'adapter'", "Axolotl", "--lora"),
    config("two models", "task: chat\nmodel: {model: DIR, base_model: other}\ndatasets: [d.jsonl]\n", "model llama",
           "base_model other", "leave one out"),
    config("an escape code for a model", 'task: chat\nmodel: "\\e[31m"\n', r"--model \x1b[31m"),
]  # fmt: skip


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file of the user's own, and limits of templates that a test can wait for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chat_template, "SECONDS", 1.0)
    monkeypatch.setattr(chat_template, "LONGEST_TEXT", 10_000)
    (tmp_path / "mine.txt").write_text("the user's own\n", encoding="utf-8")
    return tmp_path


def contents(directory: Path) -> dict[str, bytes | None]:
    """Return everything below a directory; what is no regular file has no content."""
    return {str(p.relative_to(directory)): p.read_bytes() if p.is_file() else None for p in directory.rglob("*")
            if not (p.is_symlink() and p.exists() and not p.is_file())}  # fmt: skip


def check_refusal(outcome: Outcome, told: Sequence[str]) -> None:
    assert outcome.exit_code == 2, outcome
    line = outcome.stderr.removesuffix("\n")
    assert line.startswith("error: "), outcome
    assert "\n" not in line, outcome
    assert not CONTROL.search(outcome.stdout + line), outcome
    at = 0
    for part in told:
        assert part in line[at:], line
        at = line.index(part, at) + len(part)


@pytest.mark.parametrize("case", [*FILES, *PLACES, *TEMPLATES, *MODELS, *CONFIGS], ids=lambda case: case.name)
def test_bad_input_is_refused_in_one_line(
    case: Case, sandbox: Path, front_door: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any("llama" in word for word in (*case.flags, *case.told)) or b"llama" in case.files.get("c.yaml", b""):
        shutil.copytree(tiny_model(), "llama")
    for name, content in case.files.items():
        Path(name).write_bytes(content)
    case.change()
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    before = contents(sandbox)
    outcome = front_door([*SMALL, "--run-dir", "new", *case.flags])
    check_refusal(outcome, case.told)
    assert contents(sandbox) == before


def test_weights_without_a_place_in_the_network_are_told(sandbox: Path, front_door: FrontDoor) -> None:
    shutil.copytree(tiny_model(), "llama")
    edit(sandbox / "llama" / "config.json", num_hidden_layers=1)
    (sandbox / "d.jsonl").write_bytes(lines(CHATS))
    outcome = front_door(["--task", "chat", "--datasets", "d.jsonl", *LLAMA, *SMALL, "--run-dir", "new"])
    assert outcome.exit_code == 0, outcome
    assert "warning: --model llama: 9 tensors in its files have no place" in outcome.stderr


def test_what_a_resumed_run_cannot_change_is_named(sandbox: Path, front_door: FrontDoor) -> None:
    (sandbox / "d.jsonl").write_bytes(lines(CHATS))
    (sandbox / "e.jsonl").write_bytes(lines(CHATS[::-1]))
    base = str(tiny_model())
    flags = ["--task", "chat", "--datasets", "d.jsonl", "--model", base, "--lora", *SMALL, "--run-dir", "run"]
    assert front_door(flags).exit_code == 0
    before = contents(sandbox)
    for changed, told in (
        (["--loss-on", "all"], "loss_on was 'assistant' in the run and is 'all' now"),
        (["--chat-template", "plain"], "chat_template was None in the run and is 'plain' now"),
        (["--lora-rank", "4"], "lora_rank was 16 in the run and is 4 now"),
        (["--packing"], "packing was False in the run and is True now"),
        (["--max-seq-len", "64"], "max_seq_len was 256 in the run and is 64 now"),
        (["--model", str(tiny_model("qwen2"))], "base_model was "),
        (["--model", "apt"], "--model huggingface, not apt"),
        (["--task", "text"], "--task chat, not text"),
        (["--datasets", "e.jsonl"], "the training data is not what it was"),
    ):
        check_refusal(front_door(["--resume", "run", "--max-steps", "2", *changed]), [told])
    assert contents(sandbox) == before
