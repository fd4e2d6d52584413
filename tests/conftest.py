"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Other tests run beside these, so how long an example takes says nothing.
settings.register_profile("ganserve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ganserve")
