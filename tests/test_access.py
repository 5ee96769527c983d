"""Who may ask, and which folders may be named."""

import base64

import pytest

from lib_finetune.access import Folders, Guard, accounts, page_key
from lib_finetune.errors import InputError


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_without_accounts_and_login_everybody_may():
    assert Guard().allows(None, {})


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (basic("anna:secret"), True),
        (basic("anna:wrong"), False),
        (basic("bert:"), False),
        (basic("anna"), False),
        ("Basic %%%", False),
        ("Bearer secret", False),
        (None, False),
    ],
)
def test_with_accounts_only_they_may(header, allowed):
    assert Guard(accounts(["anna:secret"])).allows(header, {}) is allowed


def test_a_session_of_the_page_counts_where_the_page_has_a_login():
    signed_in = lambda cookies: cookies.get("access-token") == "good"  # noqa: E731
    assert Guard({}, True, signed_in).allows(None, {"access-token": "good"})
    assert not Guard({}, True, signed_in).allows(None, {"access-token": "bad"})
    assert not Guard({"a": "b"}, False, signed_in).allows(None, {"access-token": "good"})


def test_only_the_pages_key_opens_pictures():
    guard = Guard()
    assert guard.opens(page_key()) and not guard.opens(page_key()[:-1]) and not guard.opens("") and not guard.opens("ä")


def test_accounts_are_read_as_the_flags_hold_them():
    assert accounts(["a:b", " c:d:e ", "broken"]) == {"a": "b", "c": "d:e"}


def test_only_allowed_folders_may_be_named(tmp_path):
    inside = tmp_path / "open"
    (inside / "cat").mkdir(parents=True)
    (inside / "way-out").symlink_to(tmp_path)
    folders = Folders((inside,), "Use --gradio-allowed-path.")
    folders.check(str(inside), "data.images")
    folders.check(str(inside / "cat"), "data.images")
    folders.check("", "data.images")
    for path in (tmp_path, inside / "..", inside / "way-out" / "secret", tmp_path / "open2"):
        with pytest.raises(InputError, match="gradio-allowed-path") as caught:
            folders.check(str(path), "data.images")
        assert caught.value.problems[0].field == "data.images"


def test_at_ones_own_machine_any_folder_may_be_named():
    Folders().check("/anywhere", "data.images")
