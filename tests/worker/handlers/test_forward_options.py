"""Invalid options of `forward` are refused in a sentence that shows no secret."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import CommandError, WrongValue
from worker.handlers.request import Header, parse_url
from worker.handlers.spec import Spec


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("header.=x", "a header is written header.NAME=value"),
        ("header.X Y=hunter2", "a header is written header.NAME=value"),
        ("header.X%0d%0aY=hunter2", "a header is written header.NAME=value"),
        ("header.Content-Length=5", "forward sets the header Content-Length itself"),
        ("header.webhook-ID=5", "forward sets the header webhook-ID itself"),
        ("header.X=", "the header X is empty"),
        ("header.X=%20", "the header X is empty"),
        ("header.X=hunter2%0d%0aY: z", "the header X must be one line of printable ASCII"),
        ("header.X=hunter2%00", "the header X must be one line of printable ASCII"),
        ("header.X=hunter2ü", "the header X must be one line of printable ASCII"),
        ("header.X=" + "hunter2" * 2000, "the header X must be one line of printable ASCII, at most 8190 bytes"),
        ("header.X=1&header.x=hunter2", "the header x is there twice"),
        ("header.X", "write options as NAME=VALUE"),
        ("raw=true&query=true", "query=true adds to the JSON of forward"),
        ("only=", "option only: "),
        ("only=delivered||read", "option only: "),
        ("only=delivered&only=read", "the option only is there twice"),
        ("timeout=soon", "option timeout: "),
        (
            "hunter2=1",
            "the text before = is not an option of this handler: it takes attempts, base, batch, cap, channel",
        ),
    ],
)
def test_an_invalid_option_is_refused_in_a_sentence(options: str, sentence: str) -> None:
    """The sentence names the header or the option, and shows no value of a header."""
    with pytest.raises(ValueError, match=r".") as caught:
        Spec.parse(f"shop=forward:https://example.test/#{options}")

    assert str(caught.value).startswith(sentence)
    assert "hunter2" not in str(caught.value)


def test_a_login_and_an_authorization_header_are_refused_together() -> None:
    """A request can have only one of them."""
    with pytest.raises(ValueError, match="the URL contains a user, and header"):
        Spec.parse("forward:https://user:hunter2@example.test/#header.authorization=Bearer x")


@pytest.mark.parametrize("options", ["header.X=1", "only=read", "channel=sms", "query=true", "raw=true"])
def test_options_of_forward_are_refused_for_other_handlers(options: str) -> None:
    """They would have no effect there."""
    for target in ("store", "log", "mine:handle"):
        with pytest.raises(ValueError, match="is not an option of this handler"):
            Spec.parse(f"{target}#{options}")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read (No such file or directory): correct the path after @"),
        (b"\xff\xfe", "cannot be read (it is not UTF-8)"),
        (b" \n", "of the header X-Key is empty"),
        (b"hunter2\nhunter3\n", "of the header X-Key must be one line of printable ASCII"),
    ],
)
def test_an_invalid_header_file_is_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    """The sentence names the header and the path, and shows no contents of the file."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(CommandError) as caught:
        Header.parse("X-Key", f"@{file}").read()

    assert sentence in str(caught.value)
    assert str(file) in str(caught.value)
    assert "hunter" not in str(caught.value)


def test_no_secret_of_a_handler_is_in_its_texts() -> None:
    """Neither the name of the group nor the repr of a header contains it."""
    spec = Spec.parse("forward:https://u:hunter2@example.test/hunter2?key=hunter2#header.X=hunter2")

    assert "hunter2" not in spec.group
    assert "hunter2" not in repr(spec.options)
    assert "hunter2" not in repr(spec.options.headers)


handler_texts = st.text() | st.builds(
    "{}forward:http{}://{}{}#{}={}".format,
    st.sampled_from(["", "shop=", "a b="]),
    st.sampled_from(["", "s"]),
    st.text(max_size=20) | st.sampled_from(["example.test", "[::1]:80", "u:p@h", "é.test"]),
    st.text(max_size=10) | st.sampled_from(["/a%2Fb?x=%2f", "?"]),
    st.sampled_from(["timeout", "header.X", "header.", "only", "raw"]) | st.text(max_size=10),
    st.text(max_size=20),
)


@given(handler_texts)
def test_any_text_is_a_handler_or_is_refused_in_a_sentence(text: str) -> None:
    """Any text is either parsed or raises WrongValue."""
    try:
        spec = Spec.parse(text)
    except WrongValue:
        return
    assert spec.url is None or parse_url(spec.url).host
