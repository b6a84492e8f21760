"""One channel's record in the parameter memory, as tests write and read it."""

from __future__ import annotations

import numpy as np

RECORD = np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1")])
"""`accel.machine.config.PARAM_RECORD_BYTES` bytes."""
