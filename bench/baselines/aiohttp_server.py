"""Baseline: an aiohttp server that reads the body and answers 200.

``python -m bench.baselines.aiohttp_server PORT`` starts it.
"""

import sys

import uvloop
from aiohttp import web

from bench.rig.processes import HOST

PATH = "/webhooks/message-status"


async def answer(request: web.Request) -> web.Response:
    """Read the body, answer 200."""
    await request.read()
    return web.Response()


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post(PATH, answer)
    web.run_app(app, host=HOST, port=int(sys.argv[1]), access_log=None, print=None, loop=uvloop.new_event_loop())
