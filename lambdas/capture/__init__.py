"""The capture function: its entry point."""
