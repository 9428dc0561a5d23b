"""Looks up what was captured: a contact's references, and the contacts that have a value."""
