"""The fault suite: a workload against a cluster in network namespaces, a seeded schedule of faults, and a checker of the history."""
