"""The processing side: reads entries in consumer groups, parses them, hands events to handlers, settles last."""
