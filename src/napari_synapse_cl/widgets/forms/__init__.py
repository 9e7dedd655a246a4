"""Forms made from the settings, and the settings that the widgets share."""
