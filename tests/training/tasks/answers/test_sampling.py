"""Choice of the next token: greedy, drawn by temperature and share, and the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from training.errors import UserError
from training.tasks.answers.sampling import Chooser, Sampling

LOGITS = torch.tensor([0.1, 0.2, 0.6, 0.1]).log()


def draws(sampling: Sampling, count: int = 2000) -> Counter[int]:
    choose = Chooser(sampling)
    return Counter(choose(LOGITS) for _ in range(count))


def test_without_temperature_the_most_probable_token_is_chosen() -> None:
    assert draws(Sampling(), 10) == {2: 10}


def test_temperature_one_draws_by_the_models_own_probabilities() -> None:
    counts = draws(Sampling(temperature=1.0))
    assert [round(counts[token] / 2000, 1) for token in range(4)] == [0.1, 0.2, 0.6, 0.1]


def test_a_high_temperature_levels_and_a_low_one_sharpens() -> None:
    assert min(draws(Sampling(temperature=100.0)).values()) > 400
    assert draws(Sampling(temperature=1e-6), 10) == {2: 10}
    assert draws(Sampling(temperature=1e-300), 10) == {2: 10}


def test_only_tokens_of_the_share_are_drawn() -> None:
    assert draws(Sampling(temperature=1.0, top_p=0.5)).keys() == {2}
    assert draws(Sampling(temperature=1.0, top_p=0.7)).keys() == {1, 2}
    assert draws(Sampling(temperature=1.0, top_p=0.0)).keys() == {2}, "one always stays"


def test_a_seed_decides_every_draw() -> None:
    def drawn(seed: int) -> list[int]:
        choose = Chooser(Sampling(temperature=1.0, seed=seed))
        return [choose(LOGITS) for _ in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_forbidden_token_is_never_drawn() -> None:
    choose = Chooser(Sampling(temperature=100.0))
    assert {choose(torch.tensor([0.0, -torch.inf, 0.0])) for _ in range(200)} == {0, 2}


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(wrong: float) -> None:
    with pytest.raises(UserError, match="not finite"):
        Chooser(Sampling())(torch.tensor([0.0, wrong]))
