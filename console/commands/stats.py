"""``ackstream stats``: the open work of each group."""

from console.options import ServerOptions


def stats(options: ServerOptions) -> None:
    """Show the open work of each group: unread and pending entries, retries, replays, dead letters.

    Example: ackstream stats --json
    """
    from console.format import format_age
    from console.output import print_json, print_line, print_rows
    from console.queries.stats import gather_stats

    state = options.ask(gather_stats)
    if options.as_json:
        print_json(state)
        return
    for shard in state["shards"]:
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
            for name, group in state["groups"].items()
        ]
    )
    if not state["groups"]:
        print_line("no groups yet: start a worker")
