"""What must hold of the figures of sample quality at rest: the catalog's `validator:` calls it."""

from __future__ import annotations

import math
from typing import Any

_FIGURES = {"fid", "kid", "precision", "recall"}
_SHARES = {"precision", "recall"}


class SampleQualityContract:
    """Every set has every figure, finite, shares in [0, 1]; or `skipped` says why there is none."""

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the report.

        Raises:
            ValueError: A figure is missing, not finite or no share; or there are none, and nothing
                says why.
        """
        if not data["sets"] and not data["skipped"]:
            raise ValueError(
                "The report of the sample quality is empty: expected figures, or in `skipped` why "
                "there are none, received neither; run the pipeline again."
            )
        for figures in data["sets"] or []:
            for name in sorted(_FIGURES):
                value = figures.get(name)
                good = isinstance(value, float) and math.isfinite(value)
                if not good or (name in _SHARES and not 0 <= value <= 1):
                    raise ValueError(
                        f"The report of the sample quality has a wrong `{name}` of the set "
                        f"{figures.get('set')}: expected a finite number"
                        f"{', 0 to 1' if name in _SHARES else ''}, received {value}; train the "
                        "model again with a lower `training.learning_rate`."
                    )
        return data
