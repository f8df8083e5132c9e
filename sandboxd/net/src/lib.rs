//! TAP pool and eBPF egress policy.

pub mod datapath;
pub mod link;
pub mod policy;
