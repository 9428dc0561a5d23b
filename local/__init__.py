"""The whole system on one machine: an AWS emulator, an Amazon Connect simulator, the production stacks."""
