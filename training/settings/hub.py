"""Settings of the Hugging Face Hub, and the Hub's rules for names of repositories. No torch, no Hub library."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from training.settings.section import Section

MAX_NAME = 96
"""Largest number of characters of an owner's name, and of a repository's."""
_PART = re.compile(rf"(?=[A-Za-z0-9_])[A-Za-z0-9_.-]{{1,{MAX_NAME}}}(?<=[A-Za-z0-9_])")


def fault_of_repo(name: str) -> str | None:
    """Return what the Hub would refuse in a repository's name; None: nothing.

    The rules are those of `huggingface_hub.utils.validate_repo_id`; they are repeated here, so that a misspelt name is
    refused without that library. A test compares the two.
    """
    parts = name.split("/")
    if not name or len(parts) > 2:
        return "should be NAME or OWNER/NAME"
    if not all(_PART.fullmatch(part) for part in parts):
        return (
            f"may hold letters, digits, '-', '_' and '.', at most {MAX_NAME} of them, and not '-' or '.' "
            "at the beginning or end of a name"
        )
    if "--" in name or ".." in name:
        return "must not hold '--' or '..'"
    if name.endswith(".git"):
        return "must not end with '.git'"
    return None


class HubConfig(Section):
    """Repository to which the finished model is pushed. None of these settings changes the curve."""

    push_to_hub: str | None = Field(
        None,
        description="Repository of the Hugging Face Hub, OWNER/NAME, to which the finished model is pushed with a "
        "model card; the token comes from HF_TOKEN, HF_HUB_TOKEN or `hf auth login`. None: it stays here.",
    )
    private: bool = Field(False, description="The repository is made private if the push creates it.")

    @field_validator("push_to_hub")
    @classmethod
    def _is_a_repository(cls, name: str | None) -> str | None:
        if name is not None and (fault := fault_of_repo(name)) is not None:
            raise ValueError(f"is no repository of the Hub: it {fault}")
        return name

    @model_validator(mode="after")
    def _something_is_private(self) -> HubConfig:
        if self.private and self.push_to_hub is None:
            raise ValueError("private says who may see what is pushed, and nothing is; add --push-to-hub OWNER/NAME")
        return self
