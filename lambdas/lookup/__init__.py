"""The lookup function: its entry point.

The garbage collector pauses while the handler's module is imported, as the capture function's does.
"""

import gc

gc.disable()
