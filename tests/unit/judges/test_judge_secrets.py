"""Keys: where they come from, and that no text shows them."""

import copy
import pickle
import sys
from collections.abc import Iterator

import keyring
import keyring.backend
import keyring.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.errors import JudgeError
from grpo_dual.judges.secrets import Secret, find

KEY = "sk-proj-Q7mX2vLp9RtWbN4z"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """Holds one key in memory."""

    priority = 1.0  # pyright: ignore[reportAssignmentType]
    stored: str | None = KEY
    broken = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.broken:
            raise keyring.errors.KeyringLocked("the keyring is locked")
        return self.stored if (service, username) == ("openai", "team/me") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


@pytest.fixture
def memory() -> Iterator[MemoryKeyring]:
    before, backend = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    assert find("env:MY_KEY", "one").reveal() == KEY


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(
        JudgeError, match=r"judge\.providers\.one\.api_key: env:MY_KEY: .*MY_KEY is not set"
    ):
        find("env:MY_KEY", "one")


def test_from_a_keyring(memory: MemoryKeyring) -> None:
    memory.stored = f"{KEY}\n"
    assert find("keyring:openai/team/me", "one").reveal() == KEY


def test_a_keyring_without_the_entry(memory: MemoryKeyring) -> None:
    del memory
    with pytest.raises(JudgeError, match="keyring set openai you"):
        find("keyring:openai/you", "one")


def test_a_keyring_that_cannot_be_read(memory: MemoryKeyring) -> None:
    memory.broken = True
    with pytest.raises(JudgeError, match=r"cannot be read .*locked"):
        find("keyring:openai/team/me", "one")


def test_without_keyring_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(JudgeError, match=r'pip install "grpo-dual\[keyring\]"'):
        find("keyring:openai/me", "one")


def test_a_server_that_asks_for_none() -> None:
    secret = find("none", "one")
    assert secret.reveal() == ""
    assert secret.redact("a text stays as it is") == "a text stays as it is"


@pytest.mark.parametrize("value", [f"{KEY}\n{KEY}", f"{KEY} x", "schlüssel-0123456789", "\x07bell"])
def test_what_no_header_can_hold_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, memory: MemoryKeyring, value: str
) -> None:
    monkeypatch.setenv("MY_KEY", value)
    memory.stored = value
    for source in ("env:MY_KEY", "keyring:openai/team/me"):
        with pytest.raises(JudgeError, match="is no key") as error:
            find(source, "one")
        assert value.split()[0] not in str(error.value)


def test_no_view_of_a_secret_shows_it() -> None:
    secret = Secret(KEY)
    for view in (repr(secret), str(secret), f"{secret}", f"{secret!r:>60}", f"{[secret]}"):
        assert KEY[3:9] not in view
    assert not hasattr(secret, "__dict__")


def test_a_secret_cannot_be_written() -> None:
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not written anywhere"):
            write(Secret(KEY))


@pytest.mark.parametrize(
    "said",
    [
        f"Incorrect API key provided: {KEY}.",
        f"{KEY}{KEY}",
        f"headers={{'authorization': 'Bearer {KEY}'}}",
        "Incorrect API key provided: sk-proj-****************bN4z.",
        "Incorrect API key provided: sk-proj-Q7m...N4z",
        "invalid x-api-key sk-p••••••••WbN4z",
        "invalid key: ****WbN4z (revoked)",
        "no such key: sk-proj-Q7…",
        f"the key {KEY[:14]} is unknown",
        f"the key ending in {KEY[-8:]} is unknown",
    ],
)
def test_no_part_that_tells_something_stays(said: str) -> None:
    shown = Secret(KEY).redact(said)
    assert "[secret]" in shown
    for part in ("Q7m", "N4z", "sk-p"):
        assert part not in shown


def test_other_texts_stay() -> None:
    text = "Rate limit reached for gpt-4o ... try again in 20s. ***Note***: see https://x.y/z"
    assert Secret(KEY).redact(text) == text
    # The ends of a short key are parts of words.
    assert Secret("token").redact("to... be") == "to... be"
    assert Secret("token").redact("my token") == "my [secret]"


PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=60)


@given(PRINTABLE, st.text(max_size=40), st.text(max_size=40))
def test_the_whole_value_never_stays(value: str, before: str, after: str) -> None:
    shown = Secret(value).redact(before + value + after)
    # Only where the value is made of the mark itself could it come back.
    assert value not in shown or value in "[secret]" * 10
