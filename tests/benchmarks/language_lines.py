"""Lines that the miniatures of the language benchmarks print; see `LINES` in `test_miniatures.py`."""

from __future__ import annotations

RATIO = "{} ({} to {})"
LANGUAGE_LINES = {
    "chat_against_trl": [
        "first loss, messages with generation tags: ours {}, TRL {}, difference",
        "first loss, prompt and completion: ours {}, TRL {}, difference",
        "round 1, tokens/s: ours, same batches {}, TRL, same batches {}, ours, length windows {}, ours, packed {}, "
        "TRL, by default {}, TRL, packed {}",
        f"ours, same batches / TRL, same batches: {RATIO}   goal",
        f"ours, length windows / TRL, by default: {RATIO}   goal",
        f"ours, packed / TRL, by default: {RATIO}   goal",
        f"ours, packed / TRL, packed: {RATIO}",
    ],
    "gpu_language": [
        "CPU: {} Tflop/s in a matrix product, fp32",
        "APT: {} parameters, {} ms per update, {} tokens/s, MFU {} of the matrix product",
        "Llama, sdpa: {} parameters, {} ms per update, {} tokens/s, MFU {} of the matrix product",
    ],
    "real_model": [
        "  turns whose stop token is trained {}  <|im_end|>",
        "  resumed from",
        "resumed: {} of {} losses are the same, bit for bit",
        "  merge   final_model/merged/ (float32) against the adapter: logits differ by",
    ],
    "text_against_trainer": [
        "english: {} bytes trained on, {} held out, {} tokens in the vocabulary; APT {} parameters, GPT-2 {}",
        *(
            f"english, {who} at learning rate {{}}: {{}} bits per byte at best, {{}} at the end, {{}} updates in {{}} s"
            for who in ("transformers' Trainer", "ours")
        ),
        "english: Trainer's best {} bits per byte after {} s; ours in as long {}",
        "english: ours in half of the time {} bits per byte after {} s",
    ],
}
"""Benchmark -> the start of each line that must come out."""
