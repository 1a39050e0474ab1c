"""The text that ``ackstream up`` and ``ackstream demo`` print when everything runs."""

import shlex
import sys

from ingest.settings import IngestSettings
from runtime.escape import escape_unprintable
from runtime.run_file import Addresses

SIGNATURES = {
    "off": "off: any client that reaches the port can send statuses; see docs/going-live.md",
    "observe": "observed: unsigned and forged webhooks are counted and still accepted",
    "required": "required",
}

UP = """
  Ackstream is up. Stop it with Ctrl-C; the next start continues with the same data.

    console     {console}
    webhooks    {ingest}   (every format on every path)
    metrics     {admin}/metrics
    data        {data}
    signatures  {signatures}

  Try it:  curl -d '{{"message_uuid":"m-1","status":"delivered","channel":"sms"}}' {ingest}
           {command} trace m-1{option}
           {command} simulate{option}
"""

DEMO = """
  The demo runs with made-up traffic. Stop it with Ctrl-C; the next start continues with the same data.

    console     {console}
    data        {data}

  About 25 signed webhooks a second arrive, some late, some twice. Handler orders gives up a few events,
  handler crm waits for its target for 40 s of every 4 minutes.
"""

AGAIN = "    (this link signs in once, within 15 minutes; {command} console link{option} prints another)\n"


def write_banner(settings: IngestSettings, addresses: Addresses, console: str, *, is_demo: bool) -> str:
    """Return the banner. ``console`` is the URL of the console, or a sign-in link to it."""
    by_default = settings.data == IngestSettings.model_fields["data"].default
    command = sys.argv[0] if sys.argv[0].endswith("ackstream") else "ackstream"
    option = "" if by_default else f" --data {escape_unprintable(shlex.quote(str(settings.data)))}"
    text = (DEMO if is_demo else UP).format(
        console=console,
        ingest=addresses.ingest_url,
        admin=addresses.ingest_admin_url,
        data=escape_unprintable(str(settings.data.resolve())),
        signatures=SIGNATURES[settings.signatures],
        command=command,
        option=option,
    )
    if console == addresses.console_url:
        return text
    return text.replace(f"{console}\n", f"{console}\n{AGAIN.format(command=command, option=option)}", 1)
