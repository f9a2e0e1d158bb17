"""A Ray cluster of two nodes on this machine: prints its address; a line of input kills the second."""

import sys

from ray.cluster_utils import Cluster

#: Ray gives a node 30 seconds to start, which a machine with other work may need.
ATTEMPTS = 3


def started() -> tuple[Cluster, object]:
    """The cluster and its second node."""
    head = {"num_cpus": 1, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
    for attempt in range(1, ATTEMPTS + 1):
        cluster = Cluster()
        try:
            cluster.add_node(**head)
            return cluster, cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
        except Exception as error:
            if attempt == ATTEMPTS or "timed out during startup" not in str(error):
                raise
            cluster.shutdown()
    raise AssertionError


cluster, second = started()
print(cluster.address, flush=True)
if sys.stdin.readline():
    cluster.remove_node(second, allow_graceful=False)
    print("killed", flush=True)
    sys.stdin.readline()
cluster.shutdown()
