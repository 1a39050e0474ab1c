"""``ackstream stats``: what each group has still to do."""

from console.options import AsJson, Data, RedisUrl


def stats(data: Data = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Show what each group has still to do: unread and pending entries, retries, replays, dead letters.

    Example: ackstream stats --json
    """
    from console.ask import ask_redis
    from console.format import age
    from console.output import print_json, print_line, print_rows
    from console.queries.stats import gather_stats
    from stream.settings import StreamSettings

    settings = StreamSettings.load(data=data, redis_url=redis_url)
    found = ask_redis(settings, lambda server: gather_stats(server, settings.shard))
    if as_json:
        print_json(found)
        return
    for shard in found["shards"]:
        print_line(f"shard {shard['shard']} of {settings.stream} has {shard['length']:,} entries")
        if shard["invalid"]["entries"]:
            print_line(f"{shard['invalid']['entries']:,} invalid payloads are recorded: see `ackstream invalid list`")
    print_rows(
        [
            {
                "group": name,
                "unread": group["unread"] if group["unread_exact"] else f"{group['unread']}+",
                **{column: group[column] for column in ("pending", "retries", "replays", "dead")},
                "oldest": age(group["oldest_seconds"]),
                "paused": group["paused"],
            }
            for name, group in found["groups"].items()
        ]
    )
    if not found["groups"]:
        print_line("no groups yet: start a worker")
