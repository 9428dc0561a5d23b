"""The page of `view`: what is captured, to look at in a browser on the same machine; it changes nothing."""
