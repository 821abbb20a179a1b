from hypothesis import settings

# An example that takes long says that the machine is busy, not that the law is broken.
settings.register_profile("busy_machine", deadline=None)
settings.load_profile("busy_machine")
