"""What is wrong with a setting, in one line."""

from __future__ import annotations

from pydantic import ValidationError

from training.settings.section import Section


def describe_fault(error: ValidationError, origin: dict[str, str] | None = None) -> str:
    """The first fault of a pydantic error in one line: `num_heads = 'abc' (from --num-heads): …`."""
    faults = error.errors(include_url=False)
    first = faults[0]
    names = [str(part) for part in first["loc"] if not isinstance(part, int)]
    key = ".".join(names)
    kind, context = first["type"], first.get("ctx", {})
    if kind == "value_error":
        told = str(context.get("error", first["msg"]))
    elif kind in ("int_parsing", "int_from_float", "int_type"):
        told = "should be a whole number"
    elif kind in ("float_parsing", "float_type"):
        told = "should be a number"
    elif kind.startswith("bool_"):
        told = "should be true or false"
    elif kind == "literal_error":
        told = f"should be one of {context['expected']}"
    elif kind == "finite_number":
        told = "should be a finite number"
    elif kind in ("tuple_type", "list_type"):
        told = "should be a list"
    elif kind == "too_short":
        told = f"should have at least {context['min_length']}"
    elif kind == "extra_forbidden":
        from training.settings.layers import suggestion
        from training.settings.tree import TrainingConfig  # both build on this module

        told = f"no such setting{suggestion(names[-1], TrainingConfig)}"
    else:
        told = first["msg"][0].lower() + first["msg"][1:]
    source = (origin or {}).get(key)
    value = "" if isinstance(first["input"], dict | Section) else f" = {first['input']!r}"
    subject = f"{names[-1]}{value}{f' (from {source})' if source else ''}: " if value else ""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{subject}{told}{more}"
