"""Makes tables of the lake: of each day that changed, every contact's newest whole capture, in columns with types."""
