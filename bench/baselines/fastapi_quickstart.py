"""Baseline: Vonage's FastAPI quickstart, which decodes a status, prints it and answers 200.

``uvicorn`` runs it with all defaults, as in vonage-python-code-snippets (``messages/``). Two changes favour it: its
output is discarded, and ``print`` costs half as much as the ``pprint`` of the original.
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
