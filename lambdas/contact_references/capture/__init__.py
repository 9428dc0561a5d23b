"""The capability that captures completed contacts: from a delivery of messages to what is committed and reported."""
