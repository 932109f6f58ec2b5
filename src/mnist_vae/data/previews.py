"""The types of previews: Kedro-Viz chooses how to show one by the name of its type.

They are those of kedro-datasets, which has them in a private module only.
"""

from typing import Any, NewType

ImagePreview = NewType("ImagePreview", str)
JSONPreview = NewType("JSONPreview", str)
MermaidPreview = NewType("MermaidPreview", str)
PlotlyPreview = NewType("PlotlyPreview", dict[str, Any])
TablePreview = NewType("TablePreview", dict[str, Any])
TextPreview = NewType("TextPreview", str)
