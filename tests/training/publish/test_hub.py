"""Publishing on the Hub: through the real `huggingface_hub`, to a stand-in of the Hub on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is documented
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.hub_stand_in import DROP, SILENT, HubStandIn, hub_stand_in, pretend
from training.errors import ConfigError
from training.publish import hub
from training.publish.hub import HubError, check_before_training, find_token, push, refusal
from training.settings.hub import HubConfig, fault_of_repo

# huggingface_hub 2.4 gives large files to its HTTP library in a way that the latter has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

REPO = "ada/apt"
CARD = "---\nlibrary_name: transformers\n---\n# A model\n"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    """The stand-in, with its user's token in the environment and no other token anywhere."""
    with hub_stand_in() as running:
        pretend(monkeypatch, running, tmp_path / "no-login")
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "final_model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights" * 1000)
    (directory / "README.md").write_text(CARD)
    return directory


def wanted(repo: str = REPO, private: bool = False) -> HubConfig:
    return HubConfig(push_to_hub=repo, private=private)


# -- names ------------------------------------------------------------------------------------------------------------


@given(
    st.one_of(st.text(alphabet="aB1-_./é ", max_size=12), st.from_regex(r"[\w.-]{1,99}/?[\w.-]{0,99}", fullmatch=True))
)
def test_a_name_is_refused_exactly_when_the_library_would_refuse_it(name: str) -> None:
    try:
        validate_repo_id(name)
    except HFValidationError:
        assert fault_of_repo(name) is not None
    else:
        assert fault_of_repo(name) is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "OWNER/NAME"),
        ("a/b/c", "OWNER/NAME"),
        ("ada/my model", "letters, digits"),
        ("ada/模型", "letters, digits"),
        ("ada/-apt", "beginning or end"),
        ("ada/a--b", "'--'"),
        ("ada/apt.git", "'.git'"),
        ("ada/" + "a" * 97, "at most 96"),
    ],
)
def test_the_settings_refuse_a_name_and_say_why(name: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        wanted(name)


def test_private_without_a_repository_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="--push-to-hub"):
        HubConfig(private=True)


# -- before the training ----------------------------------------------------------------------------------------------


def test_nothing_is_asked_where_nothing_is_pushed(stand_in: HubStandIn) -> None:
    assert check_before_training(HubConfig()) is None
    assert not stand_in.requests


@pytest.mark.parametrize("repo", [REPO, "lab/apt", "Ada/apt", "apt"])
def test_a_good_token_is_found_good_and_nothing_is_made(repo: str, stand_in: HubStandIn) -> None:
    assert check_before_training(wanted(repo)) is None
    assert stand_in.requests == {"whoami": 1}
    assert not stand_in.repositories


def test_the_login_of_the_library_is_found(
    stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "no-login").mkdir()
    (tmp_path / "no-login" / "token").write_text(stand_in.token + "\n")
    assert find_token() == stand_in.token
    assert check_before_training(wanted()) is None


def test_a_token_may_have_the_other_name_of_the_documents(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_TOKEN", "hf_another")
    assert find_token() == stand_in.token, "the library's own variable comes first"
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HUB_TOKEN", f"{stand_in.token}\n")
    assert find_token() == stand_in.token
    assert check_before_training(wanted()) is None


def test_no_token_ends_it_before_it_begins(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError, match=r"--push-to-hub ada/apt: there is no token .* `hf auth login`"):
        check_before_training(wanted())


def test_the_hub_switched_off_ends_it_too(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        check_before_training(wanted())


def test_a_wrong_token_is_refused_and_not_shown(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ConfigError, match=r"does not accept the token \(401") as caught:
        check_before_training(wanted())
    assert "hf_wrong" not in str(caught.value)


def test_a_token_with_a_foreign_sign_is_refused_and_not_shown(
    stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_秘密")
    with pytest.raises(ConfigError, match="characters that no token has") as caught:
        check_before_training(wanted())
    assert "秘密" not in str(caught.value)


def test_a_token_that_may_only_read_is_refused(stand_in: HubStandIn) -> None:
    stand_in.role = "read"
    with pytest.raises(ConfigError, match="may only read"):
        check_before_training(wanted())


def test_somebody_elses_name_is_refused(stand_in: HubStandIn) -> None:
    with pytest.raises(ConfigError, match="ada, who writes to ada, lab and not to grace"):
        check_before_training(wanted("grace/apt"))
    stand_in.role = "fineGrained"  # such a token does not say where it may write
    assert check_before_training(wanted("grace/apt")) is None


def test_a_public_repository_is_not_taken_for_a_private_one(stand_in: HubStandIn, model: Path) -> None:
    push(model, REPO)
    stand_in.requests.clear()
    with pytest.raises(ConfigError, match="ada/apt is there already and public"):
        check_before_training(wanted(private=True))
    with pytest.raises(ConfigError, match="ada/apt is there already and public"):
        check_before_training(wanted("apt", private=True))
    with pytest.raises(HubError, match="nothing was uploaded"):
        push(model, REPO, private=True)
    assert not stand_in.requests["commit"]
    assert check_before_training(wanted("ada/other", private=True)) is None


@pytest.mark.parametrize("what", [500, 503, DROP, SILENT])
def test_a_hub_that_cannot_be_asked_costs_a_warning_not_the_training(
    what: int | str, stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "TIMEOUT", 0.3)
    stand_in.fail("whoami", what)
    warning = check_before_training(wanted())
    assert warning is not None
    assert warning.startswith("--push-to-hub ada/apt could not be checked (the Hub")
    assert "\n" not in warning


def test_nobody_there_costs_a_warning_too(stand_in: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    warning = check_before_training(wanted())
    assert warning is not None
    assert "cannot be reached" in warning


# -- the push ---------------------------------------------------------------------------------------------------------


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def pushed(stand_in: HubStandIn, repo: str = REPO) -> dict[str, bytes]:
    return {name: content for name, content in stand_in.repositories[repo].files.items() if name != ".gitattributes"}


def test_a_push_makes_the_repository_and_uploads_every_file(stand_in: HubStandIn, model: Path) -> None:
    assert push(model, REPO) == f"{stand_in.endpoint}/{REPO}"
    assert pushed(stand_in) == files(model)
    assert not stand_in.repositories[REPO].private
    assert stand_in.repositories[REPO].commits == ["initial commit", "Upload model"], "all of it at once"
    assert stand_in.requests["put"] == 1, "the weights go to the store of large files"


def test_a_name_alone_is_the_token_owners(stand_in: HubStandIn, model: Path) -> None:
    assert push(model, "apt", private=True) == f"{stand_in.endpoint}/ada/apt"
    assert stand_in.repositories["ada/apt"].private


def test_a_second_push_sends_only_what_has_changed(stand_in: HubStandIn, model: Path) -> None:
    push(model, REPO)
    (model / "README.md").write_text(CARD + "Better.\n")
    push(model, REPO)
    assert pushed(stand_in) == files(model)
    assert stand_in.requests["put"] == 1
    assert len(stand_in.repositories[REPO].commits) == 3
    push(model, REPO)  # nothing has changed
    assert len(stand_in.repositories[REPO].commits) == 3


def test_what_a_user_added_stays_and_what_an_older_export_left_goes(stand_in: HubStandIn, model: Path) -> None:
    (model / "onnx").mkdir()
    (model / "onnx" / "model.onnx").write_bytes(b"old weights")
    push(model, REPO)
    stand_in.repositories[REPO].files["demo.ipynb"] = b"{}"
    (model / "onnx" / "model.onnx").unlink()
    push(model, REPO)
    assert pushed(stand_in) == files(model) | {"demo.ipynb": b"{}"}


@pytest.mark.parametrize(
    ("route", "status", "told"),
    [
        ("create", 401, "does not accept the token"),
        ("create", 403, "may not write to ada/apt"),
        ("commit", 403, "may not write to ada/apt"),
        ("commit", 409, "changed by somebody else"),
        ("commit", 412, "changed by somebody else"),
        ("commit", 413, "the Hub refuses"),
        ("create", 429, "too many requests"),
        ("create", 500, "a fault of its own"),
        ("commit", 500, "a fault of its own"),
        ("validate", 500, "a fault of its own"),
        ("commit", DROP, "cannot be reached"),
    ],
)
def test_a_refusal_is_one_line_and_the_next_push_goes_on(
    route: str, status: int | str, told: str, stand_in: HubStandIn, model: Path
) -> None:
    stand_in.fail(route, status, message="the Hub's own\nwords")
    with pytest.raises(HubError, match=told) as caught:
        push(model, REPO)
    assert "\n" not in str(caught.value)
    assert status == DROP or "the Hub's own words)" in str(caught.value)
    assert stand_in.token not in str(caught.value)
    uploaded = stand_in.requests["put"]
    push(model, REPO)
    assert pushed(stand_in) == files(model)
    assert stand_in.requests["put"] == 1
    assert uploaded == (1 if route == "commit" else 0), "what was uploaded is not uploaded again"


@pytest.mark.parametrize("what", [500, DROP])
def test_a_large_file_that_breaks_off_is_sent_again(what: int | str, stand_in: HubStandIn, model: Path) -> None:
    stand_in.fail("put", what)
    push(model, REPO)
    assert pushed(stand_in) == files(model)
    assert stand_in.requests["put"] == 2


def test_a_hub_that_falls_silent_does_not_hold_us(
    stand_in: HubStandIn, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = huggingface_hub.get_session().timeout
    monkeypatch.setattr(hub, "TIMEOUT", 0.3)
    stand_in.fail("commit", SILENT)
    with pytest.raises(HubError, match="timed out"):
        push(model, REPO)
    assert huggingface_hub.get_session().timeout == before, "what else uses the library is left as it was"


def test_the_tokens_text_is_taken_out_of_any_message() -> None:
    assert refusal(ValueError("header hf_secret is bad"), REPO, "hf_secret").count("[token]") == 1
