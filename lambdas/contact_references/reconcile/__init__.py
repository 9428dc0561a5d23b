"""The capability that accounts for every completed contact: works the list of what is due."""
