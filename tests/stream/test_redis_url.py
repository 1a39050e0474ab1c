import pytest

from runtime.errors import WrongValue
from stream.redis.url import SERVICE, Target


def test_sentinels_are_named_with_all_that_can_be_said_of_them() -> None:
    """Hosts, service, database, and two users: the server's and the sentinels'."""
    target = Target.from_url(
        "redis+sentinel://me:pass%2Fword@one:1,[::1]:2,three/main/5?sentinel_username=you&sentinel_password=other"
    )
    assert target.sentinels == (("one", 1), ("::1", 2), ("three", 26379))
    assert (target.scheme, target.service) == ("redis", "main")
    assert target.options == {"username": "me", "password": "pass/word", "db": 5}
    assert target.sentinel_options == {"username": "you", "password": "other"}


@pytest.mark.parametrize("rest", ["", "/", "//", f"/{SERVICE}", f"/{SERVICE}/", f"/{SERVICE}/0"])
def test_what_is_left_out_is_usual(rest: str) -> None:
    """Service `mymaster`, database 0, no user."""
    target = Target.from_url(f"redis+sentinel://one{rest}")
    assert (target.service, target.options, target.sentinel_options) == (SERVICE, {"db": 0}, {})


def test_nodes_of_a_cluster_are_named_with_one_user() -> None:
    """Hosts with their ports, and the user and TLS options that hold for all nodes."""
    target = Target.from_url("rediss+cluster://me:word@one:1,[::1],three/?ssl_ca_certs=/ca.pem")
    assert target.nodes == (("one", 1), ("::1", 6379), ("three", 6379))
    assert (target.scheme, target.sentinels) == ("rediss", ())
    assert target.options == {"username": "me", "password": "word", "ssl_ca_certs": "/ca.pem"}


def test_tls_holds_for_servers_and_sentinels() -> None:
    """The options for certificates go to both."""
    target = Target.from_url("rediss+sentinel://one/main?ssl_ca_certs=/ca.pem&sentinel_password=other")
    assert (target.scheme, target.options) == ("rediss", {"db": 0, "ssl_ca_certs": "/ca.pem"})
    assert target.sentinel_options == {"password": "other", "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://me:word@one:1/5", {"host": "one", "port": 1, "db": 5, "username": "me", "password": "word"}),
        ("rediss://one?ssl_cert_reqs=none", {"host": "one", "ssl_cert_reqs": "none"}),
        ("unix:///run/redis.sock?db=5", {"path": "/run/redis.sock", "db": 5}),
    ],
)
def test_a_server_is_named_as_redis_py_does(url: str, options: dict[str, object]) -> None:
    """Without sentinels."""
    target = Target.from_url(url)
    assert (target.options, target.sentinels) == (options, ())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "one:6379",
        "http://one",
        "redis+cluster://",
        "redis+cluster://one:6379/0",
        "redis+cluster://one:6379?db=1",
        "redis+cluster://one,two:x",
        "redis+cluster://one?sentinel_password=x",
        "redis+cluster://one?ssl_ca_certs=/ca.pem",
        "redis+sentinel://",
        "redis+sentinel:///main",
        "redis+sentinel://one:1,,two:2/main",
        "redis+sentinel://one:0/main",
        "redis+sentinel://one:65536/main",
        "redis+sentinel://one:x/main",
        "redis+sentinel://one/main/x",
        "redis+sentinel://one/main/0/0",
        "redis+sentinel://one?ssl_ca_certs=/ca.pem",
        "redis+sentinel://one?socket_timeout=0",
        "redis://one:x",
        "redis://one?db=x",
        "redis://one/x",
        "redis://one/1/2",
        "redis://one/-1",
        "rediss://one/1x",
        "redis://one,two",
        "redis://one:0?port=1",
        "redis://one?sentinel_password=x",
        "redis://one?protocol=3",
        "redis://one?ssl_ca_certs=/ca.pem",
        "unix://",
    ],
)
def test_what_could_not_work_is_refused(url: str) -> None:
    """Unknown schemes, invalid hosts or ports, and options that would fail later or change our limits are refused."""
    with pytest.raises(ValueError, match=r"."):
        Target.from_url(url)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
@pytest.mark.parametrize(
    ("address", "reason"),
    [("one:0", "1 to 65535"), ("one:99999", "1 to 65535"), ("o ne", "host"), ("one ", "host")],
)
def test_an_impossible_address_is_named(scheme: str, address: str, reason: str) -> None:
    """A port that there is not and a blank in a host are the reason, not a host that is unknown later."""
    with pytest.raises(WrongValue, match=reason) as caught:
        Target.from_url(f"{scheme}://u:hunter2@{address}")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://", "redis:///1", "redis://one/1/", "redis://one_two.:65535"),
        *("redis://[fe80::1%25eth0]", "redis://[fe80::1%25br-lan.100]"),
    ],
)
def test_a_possible_address_is_accepted(url: str) -> None:
    """The host may be left out, be a name with an underscore, or an IPv6 address with a zone."""
    assert Target.from_url(url).scheme == "redis"


def test_secrets_are_not_shown() -> None:
    """The representation of a target has neither user nor password."""
    shown = repr(Target.from_url("redis+sentinel://me:hunter2@one/main?sentinel_password=hunter3"))
    assert "hunter" not in shown
