"""The gallery of crops: what is in sight, cut in the background, and three planes of one."""
