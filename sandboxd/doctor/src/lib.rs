//! Can this host run microVMs? Probes, each with a reason and a remedy.
