"""DeepSpeed file of --backend huggingface: find it, check it against our settings, and fill it in. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.engines.deepspeed.config import LARGEST_BUCKET, DeepSpeedOptions, deepspeed_json, read_json
from training.engines.transformers.options import HuggingFaceOptions, options_of
from training.errors import ConfigError
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import CONFIGS


def find_deepspeed_json(path: Path) -> Path:
    """Find the file meant by `--deepspeed`: a path, or a bare name in configs/.

    Raises:
        ConfigError: there is no such file.
    """
    given = path
    if given.is_file():
        return given
    if given.exists():
        raise ConfigError(f"--deepspeed {path}: not a regular file; give DeepSpeed's JSON")
    preset = CONFIGS / (given.name if given.suffix else f"{given.name}.json")
    if len(given.parts) == 1 and preset.is_file():
        return preset
    presets = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.json")))
    raise ConfigError(f"--deepspeed {path}: no such file; give DeepSpeed's JSON, or one of configs/ ({presets})")


def zero_section(path: Path) -> dict[str, Any]:
    """Read the section `zero_optimization` of a DeepSpeed file.

    Raises:
        ConfigError: the file cannot be read, or has no ZeRO stage from 1 to 3.
    """
    section = read_json(path, f"--deepspeed {path}").get("zero_optimization")
    section = section if isinstance(section, dict) else {}
    if section.get("stage", 0) not in (1, 2, 3):
        raise ConfigError(
            f"--deepspeed {path}: zero_optimization.stage is {section.get('stage', 0)!r}; give 1, 2 or 3 (without ZeRO "
            "the ranks are DDP's: leave --deepspeed out)"
        )
    return section


def zero_stage_of(options: HuggingFaceOptions) -> int:
    """Return the ZeRO stage of the options' DeepSpeed file.

    Raises:
        ConfigError: as `find_deepspeed_json` and `zero_section`.
    """
    assert options.deepspeed is not None
    return int(zero_section(find_deepspeed_json(options.deepspeed))["stage"])


def deepspeed_document(
    config: TrainingConfig, world_size: int, num_parameters: int = LARGEST_BUCKET
) -> dict[str, Any] | None:
    """Return the user's DeepSpeed file with our settings in it; None if there is no file.

    Raises:
        ConfigError: it cannot be read, contradicts the config, or has no ZeRO stage.
    """
    path = options_of(config).deepspeed
    if path is None:
        return None
    path = find_deepspeed_json(path)
    zero = zero_section(path)
    options = DeepSpeedOptions(
        zero_stage=zero["stage"],
        cpu_offload=_is_on_cpu(zero, "offload_optimizer"),
        param_offload=_is_on_cpu(zero, "offload_param"),
        deepspeed_config=path,
    )
    document = deepspeed_json(config, world_size, num_parameters, options, flag="--deepspeed")
    document["zero_allow_untested_optimizer"] = True  # the optimizer is torch's AdamW, built by us
    return document


def _is_on_cpu(zero: dict[str, Any], section: str) -> bool:
    found = zero.get(section)
    return isinstance(found, dict) and found.get("device") == "cpu"
