//! TAP pool and eBPF egress policy.
