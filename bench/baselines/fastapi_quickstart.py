"""What Vonage's FastAPI quickstart does with a status: decode it, print it, answer 200.

Run by ``uvicorn``, with all of its defaults, as the quickstart is (vonage-python-code-snippets, ``messages/``). Two
things are in its favour: its output goes nowhere, and it is printed plainly, at half the cost of the ``pprint`` there.
"""

from fastapi import FastAPI, Request

PATH = "/webhooks/message-status"

app = FastAPI()


@app.post(PATH, response_model=None)  # the quickstart has no annotation that FastAPI would check the answer by
async def message_status(request: Request) -> str:
    """Print the status."""
    data = await request.json()
    print(data)
    return "200"
