"""Jobs: the command line in another process, what it is given, and what it tells."""
