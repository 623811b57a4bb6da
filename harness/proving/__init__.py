"""A gateway device's own configuration, proven: run in the lab against the documented cloud, and where it fails the line that is to blame.

``graft`` puts the device into a plan whose world stays as it is; ``facts`` is what the running ends themselves say; ``blame``
leads their reasons back to lines (pure); ``prove`` joins them, ``verdict`` is what a user gets to see.
"""
