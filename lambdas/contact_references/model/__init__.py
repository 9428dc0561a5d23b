"""What the project knows about contacts and their references: pure, without SDK and I/O."""
