"""What a run tells, hears and leaves behind in its folder."""
