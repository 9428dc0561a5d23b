"""The capture function: its entry point.

The garbage collector pauses while the handler's module is imported, and comes back at that module's end: what an
import makes stays, and looking through it again and again takes a fifth of the function's start.
"""

import gc

gc.disable()
