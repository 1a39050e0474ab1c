"""Times at fixed rates: from a webhook to its answer, and to its row in the database."""
