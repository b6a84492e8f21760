"""What the translators of all formats raise where a format has no form for a node."""

from __future__ import annotations

from accel.errors import ExportError
from accel.network.nodes import Node


class InexpressibleError(ExportError):
    """A node that a format cannot express; `accel.exports.export` adds which formats can.

    Parameters
    ----------
    node : Node
    what : str
        What it is of the node, for the place after "cannot express".
    """

    def __init__(self, node: Node, what: str) -> None:
        super().__init__(f"{node.op} {node.name!r}: cannot express {what}")
        self.node, self.what = node, what


NO_SCALES = "multipliers that are of no float32 scales of its tensors and weights"
