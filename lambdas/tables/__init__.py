"""The reconcile function: its entry point."""
