"""The floor of a stream: the oldest entry that some group still needs. Nothing from there on is ever trimmed.

Each group on the stream counts, whoever made it, and each registered group: one that is missing, or that is beyond its
stream's end, stands at its checkpoint, where worker.groups will put it. Where no group is registered, the floor is the
stream's beginning.

One script finds the floor and trims, so nothing can come in between, and it does no harm whoever runs it, however late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from stream.entry import EntryId
from stream.keys import Shard
from worker.retention.loss_detector import Account

SAMPLES = 1000  # of the stream's nodes, which hold 4 KiB or one entry; takes 0.2 ms
NODE_ENTRIES = 100  # at most, unless the server is configured otherwise

# An id's numbers are 64 bits wide, more than Lua's can hold: they are compared as digits. `floors` gives each group's
# floor, all that is before which it has no need of, and the least of them.
_FLOORS = """
local stream, groups = KEYS[1], KEYS[2]

local function map(flat)
  local found = {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

local function parts(id) return string.match(id, '^0*(%d+)%-0*(%d+)$') end

local function smaller(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local function before(a, b)
  local a_ms, a_seq = parts(a)
  local b_ms, b_seq = parts(b)
  if a_ms ~= b_ms then return smaller(a_ms, b_ms) end
  return smaller(a_seq, b_seq)
end

local function increment(digits)
  local head, nines = string.match(digits, '^(.-)(9*)$')
  if head == '' then return '1' .. string.rep('0', #nines) end
  return string.sub(head, 1, -2) .. (tonumber(string.sub(head, -1)) + 1) .. string.rep('0', #nines)
end

local function after(id)
  local ms, seq = parts(id)
  if seq == '18446744073709551615' then return increment(ms) .. '-0' end
  return ms .. '-' .. increment(seq)
end

local function checkpoint_of(key, last)
  local saved = redis.call('GET', key)
  if not saved or not parts(saved) or before(last, saved) then return '0-0' end
  return after(saved)
end

local function floor_of(group, checkpoint, last)
  local floor = after(group['last-delivered-id'])
  if checkpoint and before(last, group['last-delivered-id']) then floor = checkpoint_of(checkpoint, last) end
  local pending = redis.call('XPENDING', stream, group.name)
  if pending[1] > 0 and before(pending[2], floor) then return pending[2] end
  return floor
end

local function floors(names, checkpoints, last)
  local checkpoint_key, found, least = {}, {}, nil
  for i, name in ipairs(names) do checkpoint_key[name] = checkpoints[i] end
  local function add(name, exists, floor, group)
    local registered = checkpoint_key[name] and 1 or 0
    found[#found + 1] = {name, registered, exists, floor, group.lag or -1, group.pending or 0}
    if not least or before(floor, least) then least = floor end
    checkpoint_key[name] = nil
  end
  if redis.call('EXISTS', stream) == 1 then
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local group = map(flat)
      if not before(group['last-delivered-id'], last) then group.lag = 0 end
      add(group.name, 1, floor_of(group, checkpoint_key[group.name], last), group)
    end
  end
  for i, name in ipairs(names) do
    if checkpoint_key[name] then add(name, 0, checkpoint_of(checkpoints[i], last), {}) end
  end
  if #names == 0 then least = '0-0' end
  return found, least
end

local function rest(list, first)
  local found = {}
  for i = first, #list do found[#found + 1] = list[i] end
  return found
end
"""

# KEYS: stream, groups, ledger, then each registered group's checkpoint. ARGV: samples, then the groups' names.
SURVEY = f"""#!lua flags=no-writes
{_FLOORS}
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local info, bytes = {{length = 0, ['last-generated-id'] = '0-0', ['entries-added'] = 0}}, 0
if redis.call('EXISTS', stream) == 1 then
  info = map(redis.call('XINFO', 'STREAM', stream))
  bytes = redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', ARGV[1])
end
local memory = redis.pcall('INFO', 'memory')
local most = type(memory) == 'string' and tonumber(string.match(memory, 'maxmemory:(%d+)')) or 0
local first = info['first-entry']
local found = floors(rest(ARGV, 2), rest(KEYS, 4), info['last-generated-id'])
local recorded = redis.call('HMGET', KEYS[3], 'length', 'added', 'gone')
return {{now_ms, info.length, info['entries-added'], recorded, first and first[1] or false, bytes, most, found}}
"""

# KEYS: stream, groups, lease, ledger, then each registered group's checkpoint.
# ARGV: the lease's token, its ms, an id that is to stay, most entries or 0 for all, then the registered groups.
# nil: the lease is another's by now, or other groups are registered. Else how many entries were removed.
TRIM = f"""#!lua flags=allow-oom
{_FLOORS}
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
local names, known = rest(ARGV, 5), {{}}
for _, name in ipairs(names) do known[name] = true end
local registered = redis.call('SMEMBERS', groups)
if #registered ~= #names then return false end
for _, name in ipairs(registered) do
  if not known[name] then return false end
end
if redis.call('EXISTS', stream) == 0 then return 0 end
local last = map(redis.call('XINFO', 'STREAM', stream))['last-generated-id']
local _, floor = floors(names, rest(KEYS, 5), last)
local stays = before(floor, ARGV[3]) and floor or ARGV[3]
local most, removed = tonumber(ARGV[4]), 0
if most > 0 then removed = redis.call('XTRIM', stream, 'MINID', '~', stays, 'LIMIT', most) end
if removed == 0 and (most == 0 or most >= {NODE_ENTRIES}) then
  removed = redis.call('XTRIM', stream, 'MINID', '=', stays)
end
if removed > 0 then
  redis.call('HINCRBY', KEYS[4], 'gone', removed)
  redis.call('HINCRBY', KEYS[4], 'length', -removed)
end
return removed
"""

# KEYS: lease, ledger. ARGV: the lease's token, then what the ledger is to hold.
RECORD = """#!lua flags=allow-oom
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('HSET', KEYS[2], 'length', ARGV[2], 'added', ARGV[3], 'gone', ARGV[4])
end
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands. Of entries before ``floor`` it has no need."""

    name: str
    registered: bool
    exists: bool
    floor: EntryId
    unread: int | None
    """None where the server cannot tell."""
    pending: int

    def outstanding(self, length: int) -> int:
        """Return how many of the stream's entries it has not settled; where the server cannot tell, at most so many."""
        return length if self.unread is None else self.unread + self.pending


@dataclass(frozen=True, slots=True)
class Survey:
    """A shard as it was at one moment. ``now_ms`` is the server's clock, which also makes the entries' ids."""

    shard: int
    now_ms: int
    account: Account
    recorded: Account | None
    """What the ledger says; None before the first record."""
    first: EntryId | None
    stream_bytes: int
    maxmemory: int
    """0: the server has no limit, or does not tell."""
    groups: tuple[Standing, ...]

    @property
    def length(self) -> int:
        """How many entries the stream has."""
        return self.account.length

    @property
    def floor(self) -> EntryId | None:
        """The least of the floors; None where no group is registered, for then nothing may be trimmed."""
        if not any(group.registered for group in self.groups):
            return None
        return min(group.floor for group in self.groups)

    def blocked_seconds(self, group: Standing) -> float:
        """Return the age of the oldest entry on the stream that the group needs."""
        oldest = max(group.floor, self.first or group.floor)
        return round(max(self.now_ms - oldest.ms, 0) / 1000, 3)


class Floor:
    """Surveys one shard, and trims it. The registered groups are those of the last survey."""

    def __init__(self, server: Redis, shard: Shard) -> None:
        self._server = server
        self._shard = shard
        self._survey = server.register_script(SURVEY)
        self._trim = server.register_script(TRIM)
        self._record = server.register_script(RECORD)
        self._names: list[bytes] = []

    async def survey(self) -> Survey:
        """Look where all groups stand. Raises RedisError."""
        names: Any = await self._server.smembers(self._shard.groups)
        self._names = sorted(names)
        shard = self._shard
        keys: list[str | bytes] = [shard.stream, shard.groups, shard.ledger, *self._checkpoints()]
        reply: Any = await self._survey(keys=keys, args=[SAMPLES, *self._names])
        now_ms, length, added, recorded, first, used, most, found = reply
        return Survey(
            shard=shard.number,
            now_ms=now_ms,
            account=Account(length, added, added - length),
            recorded=None if None in recorded else Account(*map(int, recorded)),
            first=first and self._id(first),
            stream_bytes=used,
            maxmemory=most,
            groups=tuple(map(self._standing, found)),
        )

    async def record(self, token: str, account: Account) -> None:
        """Write the account to the ledger, if the lease is this token's. Raises RedisError."""
        values = [account.length, account.added, account.gone]
        await self._record(keys=[self._shard.trimmer, self._shard.ledger], args=[token, *values])

    async def trim(self, token: str, lease_ms: int, stays: EntryId, *, most: int | None = None) -> int | None:
        """Remove what is before ``stays`` and before the floor; returns how many entries.

        ``most`` bounds a step, 1,000 take 0.1 ms: whole nodes of the stream go, and then what is left of one.  None:
        the lease is not this token's, or other groups are registered now; nothing is removed. Raises RedisError.
        """
        shard = self._shard
        removed = await self._trim(
            keys=[shard.stream, shard.groups, shard.trimmer, shard.ledger, *self._checkpoints()],
            args=[token, lease_ms, stays.redis, most or 0, *self._names],
        )
        return None if removed is None else int(removed)

    def _checkpoints(self) -> list[bytes]:
        return [self._shard.checkpoint("").encode() + name for name in self._names]

    def _standing(self, found: Sequence[Any]) -> Standing:
        name, registered, exists, floor, unread, pending = found
        lag = None if unread < 0 else int(unread)
        return Standing(_text(name), bool(registered), bool(exists), self._id(floor), lag, int(pending))

    def _id(self, entry_id: bytes) -> EntryId:
        return EntryId.from_redis(self._shard.number, entry_id)


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")  # a foreign group may be called anything
