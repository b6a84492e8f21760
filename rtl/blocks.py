"""Parts of which the machine has many: PEs, lanes, columns."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Fragment, Module
from amaranth.lib import wiring


class Block(wiring.Component):
    """A component of which the machine has many alike; subclasses build it.

    As `get_memory` decides what becomes of a memory, `get_block` of the platform, if there is such a method, decides
    what becomes of a block: `rtl.verilog` writes one module and makes instances of it. Without it, in Amaranth's own
    simulator, each block is built where it stands.

    Attributes
    ----------
    module : str
        Name of its module: equal for two blocks of a machine if and only if they are alike.
    parameters : dict of str to int
        Of its module, if that is written by hand: in the file `module`.v.
    """

    module: str
    parameters: ClassVar[dict[str, int]] = {}

    def elaborate(self, platform: object) -> Module | Fragment:
        """What the platform makes of it, or the block itself."""
        return platform.get_block(self) if hasattr(platform, "get_block") else self.build(platform)

    def parts(self) -> list[Block]:
        """One block of each module that a module written by hand has instances of."""
        return []

    def build(self, platform: object) -> Module:
        """The block itself."""
        raise NotImplementedError
