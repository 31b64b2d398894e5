"""Does a run fit a TPU slice, told on a machine without TPUs: its programs are compiled for the slice, not run."""

from jaxseq.preflight.run import preflight
from jaxseq.preflight.scaling import scaling_table
from jaxseq.preflight.show import lines, table

__all__ = ["lines", "preflight", "scaling_table", "table"]
