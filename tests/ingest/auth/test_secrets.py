import pytest

from ingest.auth.secrets import describe_secrets, parse_secrets


def test_secrets_are_described_by_their_numbers() -> None:
    """The log has no more of them."""
    assert describe_secrets(parse_secrets("a:1")) == "1 account, 1 secret"
    assert describe_secrets(parse_secrets("a:1,a:2,b:3")) == "2 accounts, 3 secrets"


def test_secrets_are_read_from_a_line_or_from_a_file() -> None:
    """Commas and lines separate; a key that comes twice has two live secrets; blanks count only inside a secret."""
    assert parse_secrets("a:1") == {"a": (b"1",)}
    assert parse_secrets(" a : 1 ,b:2,\ta:3 , a:1,") == {"a": (b"1", b"3"), "b": (b"2",)}
    assert parse_secrets("\ufeff# ours, a:0\r\na:1:x\r\n\r\n  # b:2\nb:x y#\u00e9\n") == {
        "a": (b"1:x",),
        "b": ("x y#\u00e9".encode(),),
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no item"),
        (" ,\n# a:1\n", "no item"),
        ("a:1,canary", "item 2"),
        ("canary:", "item 1"),
        (":canary", "item 1"),
        ("a:1\n# comment\n\n:canary", "item 2"),
        ("a:1,b:2,c:canary\udce9", "item 3"),
    ],
)
def test_wrong_secrets_are_refused_without_being_shown(text: str, why: str) -> None:
    """The error goes to logs and terminals, so it names the item's place only."""
    with pytest.raises(ValueError, match=why) as caught:
        parse_secrets(text)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
