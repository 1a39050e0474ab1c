import pytest

from runtime.errors import WrongValue
from stream.http_url import check_http_url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "http://host/path"),
        ("host:80/path", "http://host/path"),
        ("ftp://hunter2/path", "http://host/path"),
        ("http://a b/", "a blank or a control character"),
        (" http://hunter2/", "a blank or a control character"),
        ("http://hunter2/\n", "a blank or a control character"),
        ("http://", "no host"),
        ("http://:80/hunter2", "no host"),
        ("https:///hunter2", "no host"),
        ("http://hunter2:0/", "1 to 65535"),
        ("http://hunter2:99999/", "1 to 65535"),
        ("http://hunter2:port/", "1 to 65535"),
        ("http://[::1/hunter2", "cannot be read"),
        ("http://a%20b/", "not a host name"),
        ("http://hunter2..test/", "not a host name"),
        (f"http://{'a' * 64}.test/", "not a host name"),
        ("http://a\\b/", "not a host name"),
        ("http://a,b/", "not a host name"),
    ],
)
def test_an_invalid_url_is_refused_with_its_reason(url: str, reason: str) -> None:
    """Blanks, other schemes, no host, and impossible hosts and ports are named, and the URL is not quoted."""
    with pytest.raises(WrongValue, match=reason) as caught:
        check_http_url(url)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "HTTPS://u:p@a_b.example.test.:65535/a%20b?c#d",
        "http://[::1]:80/",
        "http://[fe80::1%25eth0]/",
        "http://straße.test/ü",
    ],
)
def test_a_possible_url_is_accepted(url: str) -> None:
    """Users, paths, IPv6 with and without a zone, and names beyond ASCII are accepted."""
    check_http_url(url)
