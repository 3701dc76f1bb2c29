"""Run trackers: one run in this process, many in processes of their own or on a cluster, one result file each."""
