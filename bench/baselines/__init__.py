"""The servers, consumers and stores that Ackstream is compared with, one file each."""
