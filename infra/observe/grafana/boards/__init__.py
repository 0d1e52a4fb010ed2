"""The dashboards, each in a file of its own."""

from boards import archive, cost, dead_letters, dedup_and_fraud, dependencies, flow, functions, latency

ALL = [module.BOARD for module in (flow, latency, dependencies, dedup_and_fraud, dead_letters, archive, functions, cost)]
