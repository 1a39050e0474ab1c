"""``ackstream stats``: what each group has still to do."""

from console.options import ServerOptions


def stats(options: ServerOptions) -> None:
    """Show what each group has still to do: unread and pending entries, retries, replays, dead letters.

    Example: ackstream stats --json
    """
    from console.format import format_age
    from console.output import print_json, print_line, print_rows
    from console.queries.stats import gather_stats

    found = options.ask(gather_stats)
    if options.as_json:
        print_json(found)
        return
    for shard in found["shards"]:
        print_line(f"shard {shard['shard']} of {options.settings.stream} has {shard['length']:,} entries")
        if shard["invalid"]["entries"]:
            print_line(f"{shard['invalid']['entries']:,} invalid payloads are recorded: see `ackstream invalid list`")
    print_rows(
        [
            {
                "group": name,
                "unread": group["unread"] if group["unread_exact"] else f"{group['unread']}+",
                **{column: group[column] for column in ("pending", "retries", "replays", "dead")},
                "oldest": format_age(group["oldest_seconds"]),
                "paused": group["paused"],
            }
            for name, group in found["groups"].items()
        ]
    )
    if not found["groups"]:
        print_line("no groups yet: start a worker")
