"""Several processes as one run: they meet before JAX starts, and none of them waits for one that is gone."""

from jaxseq.cluster.link import Link
from jaxseq.cluster.place import Place, find_place, in_cluster
from jaxseq.cluster.run import advise, compile_together, gather, joined

__all__ = ["Link", "Place", "advise", "compile_together", "find_place", "gather", "in_cluster", "joined"]
