"""The HTTP side: takes a webhook, appends its raw bytes to the stream, answers 200 once Redis has confirmed them."""
