"""The verdict says whether statuses flow, since when not, whether any is lost, and the next step."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from console.web.metrics.distribution import Distribution
from console.web.sampling.alert_rules import RULES
from console.web.sampling.findings import FiringAlert, Severity, Tone, WebhookCount
from console.web.sampling.rates import Rates
from console.web.sampling.snapshot import Away, IngestSample, PauseSample, Snapshot, WorkerSample
from console.web.sampling.verdict import WHY_PAUSED, make_verdict
from tests.support.samples.moments import group, moment

NOW = 1_800_000_000.0
GAP = "\N{NO-BREAK SPACE}"


def rates(stored: float | None = 86.4) -> Rates:
    """Return rates with this many stored webhooks a second."""
    return Rates(10.0, stored, {"200": stored or 0.0}, Distribution(), {}, {}, stored, {})


def alert(name: str, subject: str = "", seconds: float = 60) -> FiringAlert:
    """Return a firing alert of a rule."""
    rule = next(rule for rule in RULES if rule.name == name)
    summary = rule.summary.replace("{subject}", subject)
    return FiringAlert(name, rule.severity, subject, summary, rule.risk, rule.next_step, rule.runbook, NOW - seconds)


AWAYS = st.none() | st.builds(Away, st.just("it is away"), st.floats(0, NOW))
REASONS = st.sampled_from(["failing", "dead-letters", "gone", "operator", "backlog", "new reason"])
PAUSES = st.none() | st.builds(PauseSample, REASONS, st.none() | st.floats(0, NOW))
GROUPS = st.builds(group, st.sampled_from("abcdefghijkl"), unread=st.none() | st.integers(0, 10**9), paused=PAUSES)
ALERTS = st.lists(
    st.builds(
        alert,
        st.sampled_from([rule.name for rule in RULES]),
        st.sampled_from(["a", "ingest:9464", "ingest", "worker:9464", ""]),
        st.floats(0, NOW),
    )
)
COUNTS = st.none() | st.builds(WebhookCount, st.integers(0, 10**9), st.floats(0, NOW), is_exact=st.booleans())


@st.composite
def moments(draw: st.DrawFn) -> Snapshot:
    """Return any moment: parts that answer or not, groups that are paused or not."""
    base = moment(NOW)
    ingest = draw(st.lists(st.builds(IngestSample, st.just("ingest:9464"), st.just(NOW - 5), AWAYS), max_size=2))
    waiting = st.frozensets(st.sampled_from("abcz"))
    worker = st.builds(WorkerSample, st.just("worker:9464"), st.just(NOW - 5), AWAYS, waiting=waiting)
    workers = draw(st.lists(worker, max_size=2))
    return replace(
        base,
        redis=replace(base.redis, away=draw(AWAYS), newest_at=draw(st.none() | st.floats(0, NOW))),
        groups={sample.name: sample for sample in draw(st.lists(GROUPS, max_size=12))},
        ingest=tuple(ingest),
        workers=tuple(workers),
        database=draw(AWAYS),
        is_scraping=draw(st.booleans()),
    )


@given(moments(), ALERTS, COUNTS, st.none() | st.floats(0, 1e6))
def test_it_never_says_all_is_well_over_a_problem(
    now: Snapshot, alerts: list[FiringAlert], count: WebhookCount | None, stored: float | None
) -> None:
    """The tone is OK only without any alert, pause or part that is away; a page makes it bad; nothing raises."""
    verdict = make_verdict(now, rates(stored), alerts, count)

    parts = [
        now.redis.away,
        now.database if now.misses_database else None,
        *(process.away for process in (*now.ingest, *now.workers)),
    ]
    no_ingest = now.is_scraping and not any(process.is_up for process in now.ingest)
    waits = any(sample.paused or sample.name in now.waiting for sample in now.groups.values())
    has_problem = bool(alerts or any(parts) or no_ingest or waits)
    assert (verdict.tone is Tone.OK) == (not has_problem)
    if any(each.severity is Severity.PAGE for each in alerts):
        assert verdict.tone is Tone.BAD
    if any(each.name == "AckstreamMissingEntries" for each in alerts):
        assert not any(sentence.startswith("All ") for sentence in verdict.sentences)
    assert all(sentence.endswith(".") and sentence.strip() for sentence in (verdict.title, *verdict.sentences))


def test_all_is_well() -> None:
    """Without a problem, it says that statuses flow and that all of the last day were kept."""
    verdict = make_verdict(moment(NOW), rates(), [], WebhookCount(4_402_118, NOW - 86_430, is_exact=True))

    assert (verdict.tone, verdict.title) == (Tone.OK, "Statuses are flowing.")
    assert verdict.sentences == ("All 4,402,118 webhooks of the last 24 hours were kept.",)


def test_a_paused_group() -> None:
    """A pause is named with its time, its reason and the statuses that wait; it does not sound like a loss."""
    paused = group("crm", unread=21_772, paused=PauseSample("failing", NOW - 252))

    verdict = make_verdict(moment(NOW, groups={"crm": paused}), rates(), [alert("AckstreamGroupPaused", "crm")], None)

    assert (verdict.tone, verdict.group) == (Tone.WARN, "crm")
    assert verdict.title == "Statuses are flowing. One group is paused."
    assert verdict.sentences == (
        f"crm has been paused for 4{GAP}min 12{GAP}s {WHY_PAUSED['failing']}.",
        "Nothing is lost: 21,772 statuses wait.",
    )


def test_an_alert_over_a_pause_that_has_just_ended() -> None:
    """An alert that still fires is a problem, also if the group is not paused in this moment."""
    verdict = make_verdict(moment(NOW), rates(), [alert("AckstreamGroupPaused", "g")], None)

    assert (verdict.tone, verdict.title) == (Tone.WARN, "Statuses are flowing. g is paused.")


def test_a_group_waits_for_its_target() -> None:
    """A target that is away is named, with the statuses that wait."""
    worker = WorkerSample("worker:9464", NOW - 5, waiting=frozenset({"crm"}))
    now = moment(NOW, groups={"crm": group("crm", unread=12)}, workers=(worker,))

    verdict = make_verdict(now, rates(), [], None)

    assert (verdict.tone, verdict.group) == (Tone.WARN, "crm")
    assert verdict.title == "Statuses are flowing. One group waits for its target."
    assert verdict.sentences[1] == "Nothing is lost: 12 statuses wait."


def test_redis_is_away() -> None:
    """While Redis is away, it says since when, that the spool keeps the webhooks, and the next step."""
    healthy = moment(NOW)
    now = replace(
        healthy,
        redis=replace(healthy.redis, away=Away("Redis is away: start it", NOW - 90)),
        ingest=(replace(healthy.ingest[0], spool_entries=120),),
    )

    verdict = make_verdict(now, rates(None), [alert("AckstreamSpoolInUse", "ingest:9464")], None)

    assert (verdict.tone, verdict.title) == (Tone.WARN, "Redis does not answer.")
    assert verdict.sentences == (
        f"It has not answered for 1{GAP}min 30{GAP}s.",
        "Nothing is lost: 120 webhooks wait in the spool on ingest's disk, and groups get them when Redis is back.",
        "Redis is away: start it.",
    )


def test_no_ingest_answers() -> None:
    """Without ingest, webhooks are refused; but if entries still arrive, only the console cannot see it."""
    now = moment(NOW, ingest=(IngestSample("ingest:9464", NOW - 60, Away("gone", NOW - 60)),))
    down = [alert("AckstreamDown", "ingest:9464"), alert("AckstreamDown", "ingest")]

    refused, unseen = make_verdict(now, rates(None), down, None), make_verdict(now, rates(5.0), down, None)

    assert (refused.tone, refused.title) == (Tone.BAD, "Ingest does not answer.")
    assert "Webhooks are refused; Vonage repeats them for 24 hours and then drops them." in refused.sentences
    assert unseen.title == "Statuses are flowing. No ingest process answers the console."


def test_the_worst_problem_comes_first() -> None:
    """A page wins over a pause, and the number of other problems follows."""
    groups = {"crm": group("crm", paused=PauseSample("operator", None)), "risk": group("risk", unread=5, alive=0)}
    alerts = [alert("AckstreamNobodyReads", "risk"), alert("AckstreamOldest", "crm")]

    verdict = make_verdict(moment(NOW, groups=groups), rates(), alerts, None)

    assert (verdict.tone, verdict.group) == (Tone.BAD, "risk")
    assert verdict.title == "Statuses are flowing. risk: no worker reads its statuses."
    assert verdict.sentences[-1] == "Two more problems need a look."


def test_a_database_that_nobody_uses_is_no_problem() -> None:
    """A database that has never answered matters only if the group store needs it."""
    never = replace(moment(NOW), database=Away("no such file", NOW))
    needed = replace(never, groups={"store": group("store")})
    lost = replace(never, started_at=NOW - 3600)

    assert make_verdict(never, rates(), [], None).tone is Tone.OK
    assert make_verdict(needed, rates(), [], None).title == "Statuses are flowing. The database does not answer."
    assert make_verdict(lost, rates(), [], None).tone is Tone.WARN


def test_nothing_arrives() -> None:
    """A quiet system says how long nothing has arrived; a new one that nothing has arrived yet."""
    quiet = moment(NOW)
    used = replace(quiet, redis=replace(quiet.redis, newest_at=NOW - 720))

    assert make_verdict(quiet, rates(0.0), [], None).title == "No status has arrived yet."
    assert make_verdict(used, rates(0.0), [], None).title == f"No status has arrived for 12{GAP}min."
