"""The HTTP side: receives webhooks, stores their raw bytes on the stream or in the spool, then answers 200."""
