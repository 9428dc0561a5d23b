"""The whole system on one machine: an AWS emulator, an Amazon Connect simulator, the production stacks."""

import ops  # noqa: F401 - it finds the functions' package, as all that is here needs it
